"""A series of runs over an input that grows: each edition computes what is new since the last.

::

    <storage>/nightly/editions/000002.json   the mark: edition 2 is done, with the files it knew
    <storage>/nightly-000002/                its run
    <output>/_eksml_run.json                 says whose output it is
    <output>/edition=000002/                 its rows

The mark is written when the run has succeeded, from what was put down when it was planned. A file
that changes while an edition is computed differs from the mark, and belongs to the next edition
too. What cannot be told apart is a file in S3 that is replaced by one of the same size within the
second in which it was listed: S3 tells times in whole seconds.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from eksml.batches import ledger
from eksml.batches.asked import Asked, inventory_of
from eksml.batches.sink import claim, release
from eksml.batches.sources.reading import place_of, translated
from eksml.errors import AlreadyExists, Fenced, Problem, RunNameInUse, StorageError
from eksml.runs import lease
from eksml.runs.driver import check_free
from eksml.runs.record import RECORD, name_problem
from eksml.runs.standing import state_of
from eksml.storage import URI

if TYPE_CHECKING:
    from eksml.batches.sources.base import Inventory

WATERMARK = "watermark"
EDITION = "edition"
"""Key of the ledger's meta under which an edition puts down what its mark will say."""
_MARKS = "editions"
_PLANNING = "planning"
_THREADS = 16

Files = dict[str, list[int]]
"""File → bytes, and when it was last changed (nanoseconds since 1970; in S3 whole seconds)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Edition:
    """One run of a series."""

    run: URI
    output: URI
    inventory: Inventory | None = None
    """Of the files that are new; None where there is a run already."""
    meta: dict[str, Any] = field(default_factory=dict)
    """For its ledger."""
    is_old: bool = False
    """It is done, and nothing has come since."""


@dataclass(frozen=True)
class Series:
    """The runs that share a name."""

    root: URI
    """The storage for runs."""
    name: str

    @property
    def folder(self) -> URI:
        """Where its marks are; not a run's."""
        return self.root / self.name

    def run(self, number: int) -> URI:
        """The run of an edition; the first is 1."""
        return self.root / f"{self.name}-{number:06d}"

    def marked(self) -> int:
        """The newest edition that has a mark; 0 before the first."""
        marks = (self.folder / _MARKS).list()
        return max((int(stat.uri.name.removesuffix(".json")) for stat in marks), default=0)

    def is_unfinished(self) -> bool:
        """Whether the next call goes on with an edition rather than looking for new input."""
        run = self.run(self.marked() + 1)
        recorded = (run / RECORD).exists() and ledger.meta_of(run) is not None
        return recorded and state_of(run) != "succeeded"

    @contextlib.contextmanager
    def planning(self, output: URI) -> Iterator[None]:
        """Have the series and its output to oneself, until the run's record holds the place.

        Raises:
            RunNameInUse: Another call plans an edition now; a run has the name; the output is
                somebody else's.
        """
        if (self.folder / RECORD).exists():
            raise RunNameInUse(
                f"{self.folder} is a run by itself. Choose another name for the series."
            )
        claimed = claim(output, self.folder)
        try:
            with self._alone():
                yield
        finally:
            if claimed and not any(output.folders()):
                release(output)  # nothing began, so the folder is nobody's

    def next(self, asked: Asked, *, again: bool) -> Edition:
        """What a call has to do: go on, or compute what is new. Call it while ``planning``.

        ``again``: try the failed rows of the last edition once more, new input or not.

        Raises:
            RunNameInUse: The last edition is going on.
            InvalidSpec, NotFound, …: As :func:`eksml.batches.asked.inventory_of`.
        """
        last = self.marked()
        while (self.run(last + 1) / RECORD).exists():
            run = self.run(last + 1)
            planned = _put_down(run)
            if planned is None:
                break  # the call that planned it was killed before it had written that down
            if state_of(run) != "succeeded":
                if _goes_on(run, planned):
                    return self._edition(asked, last + 1)
                break
            mark(run)
            last += 1
        if again and (self.run(last) / RECORD).exists():
            return self._edition(asked, last)
        return self._new(asked, last)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """A lease on the planning, as runs have one, for as long as it takes."""
        place = self.folder / _PLANNING
        try:
            owner = lease.claim(place)
        except RunNameInUse as error:
            raise RunNameInUse(
                f"Another call plans an edition of the series {self.name} at this moment. "
                "Wait for its run."
            ) from error
        done = threading.Event()
        beats = threading.Thread(target=_beat, args=(place, owner, done), daemon=True)
        beats.start()
        try:
            yield
        finally:
            done.set()
            beats.join()
            with contextlib.suppress(Fenced):  # else it is another call's by now
                lease.check_fenced(place, owner.attempt)
                place.delete(recursive=True)

    def _new(self, asked: Asked, last: int) -> Edition:
        """The next edition, of files that the last one did not know as they are now."""
        known: Files = self._mark(last).read_json()["files"] if last else {}
        inventory = inventory_of(asked)
        # After the sizes: a file that is written between the two differs from its mark
        changed = changes(piece.file for piece in inventory.pieces)
        now = {
            piece.file: [piece.size, changed.get(piece.file, [0, 0])[1]]
            for piece in inventory.pieces
        }
        pieces = tuple(p for p in inventory.pieces if now[p.file] != known.get(p.file))
        if not pieces:
            _log.warning("Nothing is new since %s: no run was made.", self.run(last).name)
            return replace(self._edition(asked, last), is_old=True)
        edition = self._edition(asked, last + 1)
        # What an edition left that was deleted, or that began with input that has changed
        (edition.run / RECORD).delete()
        edition.run.delete(recursive=True)
        edition.output.delete(recursive=True)
        meta = {EDITION: {"mark": str(self._mark(last + 1)), "files": now}}
        return replace(edition, inventory=replace(inventory, pieces=pieces), meta=meta)

    def _edition(self, asked: Asked, number: int) -> Edition:
        return Edition(self.run(number), asked.output / f"{EDITION}={number:06d}")

    def _mark(self, number: int) -> URI:
        return self.folder / _MARKS / f"{number:06d}.json"


def mark(run: URI) -> None:
    """Write the mark of an edition that has succeeded. Of a run by itself: nothing.

    Harmless where it is written already: it says what was put down when the edition was planned.
    """
    meta = (ledger.meta_of(run) or {}).get(EDITION)
    if meta is not None:
        with contextlib.suppress(AlreadyExists):
            written = {"run": run.name, "files": meta["files"]}
            URI.parse(meta["mark"]).write_json(written, if_absent=True)


def problems(since: Any, name: Any, *, schedule: bool = False) -> Iterator[Problem]:
    """What is wrong with ``since`` and the name of a series."""
    if since is None and schedule:
        told = "is missing: each time, everything would be computed again into the same output."
        yield Problem("since", told, f'Write since="{WATERMARK}".')
    if since not in (None, WATERMARK):
        yield Problem("since", f"{since!r} is not known.", f'Write since="{WATERMARK}".')
    if (since is None and not schedule) or (isinstance(name, str) and name_problem(name)):
        return  # a wrong name is told by itself
    if name is None:
        yield Problem("name", "is missing: it names the series.", "Write such as name='nightly'.")
    elif name_problem(f"{name}-000001"):
        yield Problem("name", f"{name!r} is too long for a series.", "Use at most 56 characters.")


def changes(files: Iterable[str]) -> Files:
    """Size and time of the last change of each file that is there, by one listing a folder.

    Raises:
        AccessDenied, StorageUnavailable: A folder cannot be listed.
    """
    wanted = set(files)
    folders = sorted({file.rpartition("/")[0] or "/" for file in wanted})
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(_listed, folders)
        return {file: stat for listed in found for file, stat in listed if file in wanted}


def _beat(place: URI, owner: lease.Owner, done: threading.Event) -> None:
    while not done.wait(lease.HEARTBEAT_S):
        with contextlib.suppress(StorageError):  # the next beat tries again
            lease.write_lease(place, owner)


def _goes_on(run: URI, planned: dict[str, Any]) -> bool:
    """Whether an unfinished run can still be finished: not if what is left of its input changed."""
    check_free(run)
    blocks, done = ledger.load(run), {key.block for key in ledger.keys(run)}
    left = {piece.file for b in blocks if b.index not in done for piece in b.pieces}
    now = changes(left)
    changed = sorted(file for file in left if now.get(file) != planned["files"][file])
    if changed:
        _log.warning("%s begins anew: %s has changed since.", run.name, changed[0])
    return not changed


def _listed(folder: str) -> list[tuple[str, list[int]]]:
    from pyarrow.fs import FileSelector

    path, filesystem = place_of(folder)
    with translated(folder):
        infos = filesystem.get_file_info(
            FileSelector(path.rstrip("/") or "/", allow_not_found=True)
        )
    return [
        (f"{folder.rstrip('/')}/{info.base_name}", [info.size, info.mtime_ns])
        for info in infos
        if info.is_file
    ]


def _put_down(run: URI) -> dict[str, Any] | None:
    """What an edition's mark will say; None where its planning was cut short.

    Raises:
        RunNameInUse: The run is no edition, or another call is just planning it.
    """
    meta = ledger.meta_of(run)
    if meta is None:
        check_free(run)
        return None
    if EDITION not in meta:
        raise RunNameInUse(f"{run} is a run by itself. Choose another name for the series.")
    found: dict[str, Any] = meta[EDITION]
    return found
