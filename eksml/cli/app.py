"""The command ``eksml`` itself, and the one place where errors become messages and exit codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

import eksml
from eksml.cli import output
from eksml.errors import EksmlError

F = TypeVar("F", bound=Callable[..., None])

SECTIONS = {
    "Clusters": ("up", "down", "status", "scale", "interrupt", "env"),
    "Clusters on EKS": (
        "plan",
        "render",
        "check",
        "diff",
        "nodegroup",
        "exec",
        "cluster-logs",
    ),
    "Runs": ("train", "batch", "runs", "show", "logs", "metrics", "cancel"),
    "Models and streams": ("serve", "chat", "top", "dashboards"),
    "This machine": ("doctor",),
}
"""All commands, in the order in which help shows them."""

_LONGEST_SENTENCE = 200

_TRACEBACK = "--traceback"


class Commands(TyperGroup):
    """All commands. Exit codes: 1 for an eksml error, 2 for wrong usage, 130 for Ctrl-C."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``--traceback`` counts wherever it stands: it is added after something went wrong."""
        if _TRACEBACK in args:
            args = [_TRACEBACK, *(argument for argument in args if argument != _TRACEBACK)]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what went wrong is told once, on stderr."""
        try:
            return super().invoke(ctx)
        except EksmlError as error:
            if ctx.params["traceback"]:
                raise
            output.fail(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            output.note(f"\n{stop}" if stop.args else "\nInterrupted. Run it again to go on.")
            raise typer.Exit(130) from stop

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The first sentence of each command's help, by section."""
        for section, names in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(
                    [
                        (name, self.commands[name].get_short_help_str(limit=_LONGEST_SENTENCE))
                        for name in names
                    ]
                )


app = typer.Typer(
    name="eksml",
    cls=Commands,
    help="Run machine learning on Ray: here, on a local cluster, on EKS.",
    epilog=output.examples(
        "eksml doctor",
        "eksml up clusters/laptop.yaml",
        "eksml train jobs/train_digits.py --cluster laptop",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Typer's rich help costs as much again as all the rest of `eksml --help` (0.1 s)
    rich_markup_mode=None,
)


def command(name: str, *examples: str) -> Callable[[F], F]:
    """Make a function the command ``name``; its docstring and the examples are its help."""
    return app.command(name, epilog=output.examples(*examples))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"eksml {eksml.__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
    traceback: Annotated[
        bool, typer.Option(_TRACEBACK, help="Show where in the code an error came from.")
    ] = False,
) -> None:
    """Options of all commands."""
