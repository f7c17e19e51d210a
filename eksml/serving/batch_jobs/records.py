"""A batch in storage: records that are written once, each by one writer, and checked when read.

::

    <batch>/asked/            what the client asked for
    <batch>/cancel/           the client wants it cancelled
    <batch>/plan/             the input is valid; its lines, cut into blocks
    <batch>/blocks/000012/    answers to the lines of block 12
    <batch>/closing/          nothing more is computed: these blocks count
    <batch>/end/              how it ended; from here on nothing changes
    <batch>/progress.json     counts for people, rewritten by the owner
    <batch>/attempts/, lease.json    who works on it: ``eksml.runs.lease``

Each is a committed set, so of several writers one wins and the others see what it wrote. That is
why a worker that was thought dead can do no harm: a line's answer is in one block, a block is
committed once, and ``closing`` says once which blocks go into the result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from eksml.errors import AlreadyExists, Damaged, NotFound, StorageError
from eksml.serving.batch_jobs.lines import Block
from eksml.serving.batch_jobs.usage import Usage
from eksml.storage import URI, Manifest, commit, commit_files, read_manifest, read_part

Ended = Literal["completed", "failed", "expired", "cancelled"]


class Record(BaseModel):
    """Something that was written down."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Asked(Record):
    """What the client asked for. Times are whole seconds since the epoch."""

    id: str
    tenant: str
    """Empty where there are no tenants."""
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    model: str | None
    """As the first line of the input that names one does: whose replicas compute it."""
    created_at: int
    expires_at: int


class Mark(Record):
    """Says that a batch has not ended."""

    tenant: str
    model: str


class At(Record):
    """When something happened."""

    at: int


class LineError(Record):
    """Why a batch failed, and in which line of its input."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Plan(Record):
    """The input is valid."""

    at: int
    total: int
    """Lines that hold a request."""


class Closing(Record):
    """Nothing more is computed."""

    at: int
    status: Ended
    blocks: tuple[int, ...]
    """Those that go into the result."""


class Counts(Record):
    """Requests, as the API counts them."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Progress(Record):
    """What has been computed so far, for people: it may lag, and go back after a death."""

    counts: Counts
    usage: Usage


class End(Record):
    """How it ended."""

    at: int
    status: Ended
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    counts: Counts = Counts()
    usage: Usage = Usage()
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: tuple[LineError, ...] = ()


R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Batch:
    """One batch's folder. Everything here blocks: for threads, not for event loops.

    Raises:
        Damaged: what is read is not what was written.
    """

    folder: URI

    @property
    def id(self) -> str:
        """As the API calls it."""
        return self.folder.name

    def asked(self) -> Asked | None:
        """None if the batch does not exist."""
        return self._read("asked", Asked)

    def ask(self, asked: Asked) -> None:
        """Make the batch exist."""
        self._write("asked", asked)

    def cancelled_at(self) -> int | None:
        """When the client cancelled it; None if not."""
        cancel = self._read("cancel", At)
        return None if cancel is None else cancel.at

    def cancel(self, now_s: float) -> None:
        """The client wants it to stop. Cancelling again changes nothing."""
        self._write("cancel", At(at=int(now_s)))

    def plan(self) -> Plan | None:
        """None before the input was found valid."""
        return self._read("plan", Plan)

    def write_plan(self, plan: Plan, blocks: list[Block]) -> None:
        """Say how the input is cut. The plan of a faster writer stays; it is the same."""
        text = json.dumps([[block.start, block.stop, block.rows] for block in blocks]).encode()
        try:
            commit_files(self.folder / "plan", {"blocks.json": text}, plan.model_dump())
        except AlreadyExists:
            return

    def blocks(self) -> list[Block]:
        """The blocks of a batch that is planned."""
        listed = json.loads(bytes(read_part(self.folder / "plan", "blocks.json")))
        return [Block(index, *sizes) for index, sizes in enumerate(listed)]

    def closing(self) -> Closing | None:
        """None while lines may still be computed."""
        return self._read("closing", Closing)

    def close(self, closing: Closing) -> Closing:
        """Stop computing; gives the word that counts, another's if that was faster."""
        return self._write("closing", closing)

    def end(self) -> End | None:
        """None before the end."""
        return self._read("end", End)

    def finish(self, end: End) -> End:
        """End it; gives the end that counts."""
        return self._write("end", end)

    def progress(self) -> Progress | None:
        """Counts for people; None where there are none that can be read."""
        try:
            return Progress.model_validate((self.folder / "progress.json").read_json())
        except (StorageError, ValidationError):  # only a number on a screen hangs on it
            return None

    def write_progress(self, progress: Progress) -> None:
        """Say how far it is."""
        (self.folder / "progress.json").write_json(progress.model_dump())

    def block_folder(self, index: int) -> URI:
        """Where the answers of a block are committed."""
        return self.folder / "blocks" / f"{index:06d}"

    def clear(self) -> None:
        """Delete what only an unfinished batch needs."""
        (self.folder / "blocks").delete(recursive=True)

    def _read(self, name: str, kind: type[R]) -> R | None:
        manifest = read_manifest(self.folder / name)
        return None if manifest is None else _record(self.folder / name, manifest, kind)

    def _write(self, name: str, record: R) -> R:
        try:
            commit(self.folder / name, [], record.model_dump(mode="json"))
        except AlreadyExists:
            written = self._read(name, type(record))
            if written is None:
                raise NotFound(f"{self.folder / name} was deleted meanwhile.") from None
            return written
        return record


def read_mark(uri: URI) -> Mark | None:
    """The mark of an open batch; None if it has just ended.

    Raises:
        Damaged: it is none.
    """
    try:
        return Mark.model_validate(uri.read_json())
    except NotFound:
        return None
    except ValidationError as error:
        raise Damaged(f"{uri} is not the mark of a batch: {error.errors()[0]['msg']}.") from error


def _record(folder: URI, manifest: Manifest, kind: type[R]) -> R:
    meta: dict[str, Any] = manifest.meta
    try:
        return kind.model_validate(meta)
    except ValidationError as error:
        told = error.errors()[0]
        raise Damaged(f"{folder} is no {kind.__name__}: {told['loc']} {told['msg']}.") from error
