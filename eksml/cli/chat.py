"""The command ``eksml chat``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from eksml.cli import output
from eksml.cli.app import command
from eksml.errors import EksmlError

if TYPE_CHECKING:
    from eksml.serving.chat import Conversation

_HELP = "/reset forgets what was said · /system TEXT says how to answer · Ctrl-C stops an answer · \
Ctrl-D ends"


@command(
    "chat",
    "eksml chat http://127.0.0.1:8000",
    'eksml chat http://127.0.0.1:8000 "Why is the sky blue?"',
    "eksml chat http://127.0.0.1:8000 --model qwen-8b",
)
def chat(
    url: Annotated[str, typer.Argument(metavar="URL", help="The endpoint's address.")],
    question: Annotated[
        str | None,
        typer.Argument(metavar="[QUESTION]", help="Ask this alone, print the answer and return."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Which model.  [the first that is served]"),
    ] = None,
    system: Annotated[
        str, typer.Option("--system", metavar="TEXT", help="What the model is told first.")
    ] = "",
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", envvar="EKSML_API_KEY", help="The API key."),
    ] = None,
) -> None:
    """Talk with a model in the terminal. Any server with OpenAI's protocol will do.

    Lines that begin with / are for this command: /reset, /system TEXT, /help.
    """
    from eksml.serving.chat import Conversation

    conversation = Conversation(url, model=model, key=key)
    conversation.system = system
    if question is not None:
        _print_answer(conversation, question)
        return
    output.note(f"{conversation.model} at {conversation.url}. {_HELP}.")
    _talk(conversation)


def _talk(conversation: Conversation) -> None:
    while (line := _line()) is not None:
        if line.startswith("/"):
            _obey(conversation, line)
        elif line:
            try:
                _print_answer(conversation, line)
            except KeyboardInterrupt:
                output.note("\n(stopped)")
            except EksmlError as error:
                output.fail(str(error))
            else:
                output.note(f"({conversation.figures})")


def _line() -> str | None:
    """What the person writes next; None when there is nothing more to come."""
    if sys.stdin.isatty():
        import readline  # noqa: F401  input() has a history and keys with it
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            output.note("\nCtrl-D ends.")


def _obey(conversation: Conversation, line: str) -> None:
    word, _, rest = line.partition(" ")
    if word == "/reset":
        conversation.reset()
        output.note("Everything is forgotten.")
    elif word == "/system":
        conversation.system = rest.strip()
        output.note("The model is told so from now on." if rest.strip() else "Nothing is told.")
    elif word == "/help":
        output.note(_HELP)
    else:
        output.note(f"{word} is not known. {_HELP}.")


def _print_answer(conversation: Conversation, question: str) -> None:
    pieces = conversation.ask(question)
    try:
        for piece in pieces:
            typer.echo(piece, nl=False)
            sys.stdout.flush()
        typer.echo()
    finally:
        pieces.close()  # ends the server's work at once
