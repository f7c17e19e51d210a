"""What the commands that start a run share: its name, Ctrl-C, what comes next."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from eksml.cli import output
from eksml.cli.summary import hint, print_run
from eksml.errors import RunNotFound

if TYPE_CHECKING:
    from eksml.runs import Run


def start(
    verb: str,
    call: Callable[..., Run],
    *,
    name: str | None,
    storage: str | None,
    cluster: str | None,
    **arguments: Any,
) -> Run:
    """Call the verb; Ctrl-C says how to go on."""
    from eksml.runs.driver import new_name

    name = name or new_name(verb)
    output.note(f"Run {name}, {f'on {cluster}' if cluster else 'in this process'}.")
    try:
        return call(name=name, storage=storage, cluster=cluster, **arguments)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_how_to_go_on(name, storage, cluster)) from None


def print_end(run: Run, storage: str | None) -> None:
    """How it stands, and the commands that lead on."""
    print_run(run)
    following = ["logs", "cancel"] if run.state in ("pending", "running") else ["metrics", "show"]
    commands = " · ".join(f"`{hint(verb, run.name, storage)}`" for verb in following)
    output.note(f"Next: {commands}")


@contextlib.contextmanager
def stdout_kept_free(wanted: bool) -> Iterator[None]:
    """What the user's code, or Ray for its workers, prints is not part of the JSON."""
    if not wanted:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _how_to_go_on(name: str, storage: str | None, cluster: str | None) -> str:
    from eksml.runs import get_run

    try:
        why = get_run(name, storage).why()
    except RunNotFound:
        return "Interrupted before the run began; nothing was started."
    if cluster is None:
        return f"{why}\nHere that is: the same command with --name {name}."
    return (
        f"The run goes on on {cluster}. Follow it with `{hint('logs', name, storage)} -f`, "
        f"stop it with `{hint('cancel', name, storage)}`."
    )
