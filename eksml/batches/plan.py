"""How a batch run is cut and sized, from the input, the model and the cluster: a pure function.

One kind of worker does everything: it reads a block, computes it and writes it. There are no
stages that could hold what another one waits for, so a run that starts cannot starve itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eksml.batches.blocks import Block, pack
from eksml.batches.job import BatchJob
from eksml.batches.models.base import Sizing
from eksml.batches.sources.base import Inventory
from eksml.cluster.packing import times
from eksml.cluster.preflight import Demand, Offer, preflight

BLOCKS_PER_WORKER = 8
"""At least so many blocks a worker, where rows suffice: the last ones end at about one time."""
MAX_ROWS = 65_536
MAX_BYTES = 128 << 20
"""Of input in one block, so that a worker's memory and the output's files stay of a sensible
size."""
MAX_CALLS = 32
"""Blocks that one worker handles at a time, at most."""


@dataclass(frozen=True)
class Cut:
    """How the input was cut; never changes in the life of a run."""

    blocks: int
    """The output's files, without those of partitions."""
    rows: int
    """Rows in all, before filters; estimated where ``estimated``."""
    estimated: bool
    rows_per_block: int
    files: int
    """Input files."""
    input_bytes: int
    """Of whole files."""


@dataclass(frozen=True)
class Sizes:
    """What an attempt works with. ``run.plan()`` shows it; each can be set in the call."""

    workers: tuple[int, int]
    """Least and most."""
    resources: dict[str, float]
    """Of each worker."""
    blocks_in_flight: int
    """Blocks that one worker reads, computes and writes at a time."""
    rows: int
    """Rows in all, as in the cut."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def cut(
    job: BatchJob, sizing: Sizing, inventory: Inventory, offers: Sequence[Offer]
) -> tuple[Cut, list[Block]]:
    """Cut the input into blocks, for as many workers as there can be."""
    rows = inventory.rows
    about = rows if rows is not None else _estimated_rows(inventory)
    input_bytes = sum({piece.file: piece.size for piece in inventory.pieces}.values())
    most = max(1, _workers(job, sizing, offers)[1])
    per_block = job.rows_per_file or _rows_per_block(sizing, about, input_bytes, most)
    units = inventory.units_per_row if inventory.unit == "bytes" else 1
    splittable = inventory.unit != "files"
    blocks = list(pack(inventory.pieces, per_block * units, splittable=splittable))
    shape = Cut(len(blocks), about, rows is None, per_block, inventory.files, input_bytes)
    return shape, blocks


def size(job: BatchJob, sizing: Sizing, shape: Cut, offers: Sequence[Offer]) -> Sizes:
    """Size the workers.

    Raises:
        DoesNotFit: Not even the least number of workers can ever be placed there.
    """
    resources = dict(job.resources or sizing.resources)
    least, most = _workers(job, sizing, offers)
    preflight(Demand((resources,) * least, what="batch workers"), offers)
    return Sizes(
        workers=(least, max(least, min(most, shape.blocks))),
        resources=resources,
        blocks_in_flight=_in_flight(sizing, shape, least),
        rows=shape.rows,
    )


def _workers(job: BatchJob, sizing: Sizing, offers: Sequence[Offer]) -> tuple[int, int]:
    if job.workers:
        return job.workers
    resources = job.resources or sizing.resources
    often = ((times(resources, offer.resources), offer.count) for offer in offers)
    most = sum((min(each, 1) if sizing.one_per_node else each) * count for each, count in often)
    return 1, max(1, min(most, sizing.max_workers or most))


def _rows_per_block(sizing: Sizing, rows: int, input_bytes: int, workers: int) -> int:
    share = rows / (workers * BLOCKS_PER_WORKER)
    by_bytes = MAX_BYTES * rows / max(input_bytes, 1)
    most = max(1, min(MAX_ROWS, math.ceil(by_bytes)))
    return min(max(math.ceil(share), sizing.min_rows_per_block), most)


def _in_flight(sizing: Sizing, shape: Cut, workers: int) -> int:
    """Enough blocks for the rows that keep a worker busy, one that is read and one written."""
    busy = math.ceil(sizing.rows_in_flight / shape.rows_per_block)
    return max(1, min(busy + 2, MAX_CALLS, math.ceil(shape.blocks / workers)))


def _estimated_rows(inventory: Inventory) -> int:
    units = sum(piece.stop - piece.start for piece in inventory.pieces)
    return max(1, round(units / inventory.units_per_row))
