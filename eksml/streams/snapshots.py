"""State of a step on its way to storage and back: a chain of parts, each holding what changed.

Parts lie in one folder, and checkpoints name them: a part that is still needed is not written
again. When a chain has grown to twice what is alive, the next snapshot is a full one, and the
chain begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from eksml.storage import URI, Part, read_part, write_part
from eksml.streams.batch import from_ipc, to_ipc

if TYPE_CHECKING:
    import pyarrow as pa

GROUP = "__group"
_GROWTH = 2
_SMALL_ROWS = 10_000


@dataclass
class Chain:
    """The parts that make up the state of one step in one task, oldest first."""

    parts: list[dict[str, Any]]
    """As JSON: the fields of :class:`eksml.storage.Part`."""
    num_rows: int = 0

    def has_grown(self, alive: int) -> bool:
        """Whether it is time for a full snapshot."""
        return self.num_rows > _GROWTH * alive + _SMALL_ROWS

    def add(self, part: Part, num_rows: int) -> None:
        self.parts.append(asdict(part))
        self.num_rows += num_rows

    def as_json(self) -> dict[str, Any]:
        return {"parts": list(self.parts), "rows": self.num_rows}


def store(folder: URI, name: str, table: pa.Table) -> Part:
    """Write one part; nobody needs it before a checkpoint names it."""
    return write_part(folder, f"{name}.arrow", memoryview(to_ipc(table, compression="lz4")))


def load(folder: URI, chain: dict[str, Any], groups: range | None) -> Iterator[pa.Table]:
    """The tables of a chain, oldest first; with ``groups`` only rows of these.

    Raises:
        Damaged: A part is not what was written.
    """
    import pyarrow.compute as pc

    for part in chain["parts"]:
        table = from_ipc(read_part(folder, Part(**part)))
        if groups is not None:
            group = table.column(GROUP)
            mine = pc.and_(pc.greater_equal(group, groups.start), pc.less(group, groups.stop))
            table = table.filter(mine)
        if table.num_rows:
            yield table


def files_of(chains: Iterable[dict[str, Any]]) -> set[str]:
    """Names of the files that chains need."""
    return {part["file"] for chain in chains for part in chain["parts"]}


def chains_of(state: dict[str, Sequence[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """All chains of all steps of a checkpoint."""
    for chains in state.values():
        yield from chains
