"""What a batch run has to do and what it has done: its blocks, and a receipt for each that is done.

::

    <run>/ledger/              the blocks, committed before anything starts, never changed
    <run>/plan.json            the sizes, for people
    <run>/done/000012-0.json   block 12 is done: its output and its errors are in place
    <run>/tries/000012-0/…     workers that began block 12, to find rows that kill them

A block's receipt is written last and only where there is none, so it is the commit. Output files
have names that follow from the block, so a worker that does one over, after a death between the
two, replaces what is there: no reader ever sees a row twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from eksml.batches.blocks import Block, Piece
from eksml.errors import AlreadyExists, Damaged
from eksml.storage import URI, commit_files, read_manifest, read_part
from eksml.storage.patience import patiently

LEDGER = "ledger"
DONE = "done"
_READERS = 32


@dataclass(frozen=True, order=True)
class Key:
    """A block in one generation: 0 at first, one more each time its failed rows are tried again."""

    block: int
    generation: int = 0

    def __str__(self) -> str:
        return f"{self.block:06d}-{self.generation}"

    @classmethod
    def parse(cls, text: str) -> Key:
        """The key in a file's name."""
        block, _, generation = text.partition("-")
        return cls(int(block), int(generation))


@dataclass(frozen=True)
class Done:
    """The receipt of a block."""

    block: int
    generation: int
    rows: int
    """Rows in the output."""
    errors: int
    """Rows in the error table."""
    files: tuple[str, ...] = ()
    """Of the output, relative to its folder."""
    attempt: int = 0
    seconds: float = 0.0
    """From reading to committing."""
    lengths: dict[str, dict[str, int]] = field(default_factory=dict)
    """Name → length as text → rows of that length; for the report."""

    @property
    def key(self) -> Key:
        """Which block in which generation."""
        return Key(self.block, self.generation)

    def tokens(self) -> int:
        """Tokens in and out, where the model counts some."""
        return sum(total(self.lengths.get(name, {})) for name in ("tokens_in", "tokens_out"))


def total(histogram: dict[str, int]) -> int:
    """Sum of all lengths in a histogram."""
    return sum(int(length) * count for length, count in histogram.items())


def save(run: URI, blocks: Iterable[Block], meta: dict[str, Any]) -> None:
    """Commit the blocks and what they were made from."""
    listed = [[block.index, [_plain(piece) for piece in block.pieces]] for block in blocks]
    text = json.dumps(listed, separators=(",", ":")).encode()
    commit_files(run / LEDGER, {"blocks.json": text}, meta)


def load(run: URI) -> list[Block]:
    """The blocks, in order."""
    listed = json.loads(bytes(read_part(run / LEDGER, "blocks.json")))
    return [Block(index, tuple(Piece(*piece) for piece in pieces)) for index, pieces in listed]


def meta_of(run: URI) -> dict[str, Any] | None:
    """What the blocks were made from; None if the run has none yet."""
    manifest = read_manifest(run / LEDGER)
    return None if manifest is None else manifest.meta


def record(run: URI, done: Done) -> Done:
    """Commit a block; gives the receipt that counts: another one, if that was written before."""
    uri = _receipt(run, done.key)
    try:
        patiently(lambda: uri.write_json(asdict(done), if_absent=True))
    except AlreadyExists:
        return read(run, done.key)
    return done


def find(run: URI, key: Key) -> Done | None:
    """The receipt of a block, if it is done."""
    return read(run, key) if _receipt(run, key).exists() else None


def read(run: URI, key: Key) -> Done:
    """The receipt of a block that is done.

    Raises:
        Damaged: It is no receipt.
    """
    uri = _receipt(run, key)
    value = patiently(uri.read_json)
    try:
        return Done(**{**value, "files": tuple(value["files"])})
    except (TypeError, KeyError) as error:
        raise Damaged(f"{uri} is not the receipt of a block: {error}.") from error


def keys(run: URI) -> set[Key]:
    """What is done, from one listing."""
    return {Key.parse(stat.uri.name.removesuffix(".json")) for stat in (run / DONE).list()}


def read_all(run: URI) -> list[Done]:
    """Every receipt, in order."""
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda key: read(run, key), sorted(keys(run))))


def _receipt(run: URI, key: Key) -> URI:
    return run / DONE / f"{key}.json"


def _plain(piece: Piece) -> list[Any]:
    return [piece.file, piece.size, piece.start, piece.stop, piece.rows]
