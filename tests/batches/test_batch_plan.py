"""How a batch is cut and sized: numbers in, numbers out."""

from __future__ import annotations

import pyarrow as pa
import pytest

from eksml.batches.blocks import Piece
from eksml.batches.job import BatchJob
from eksml.batches.models.base import Sizing
from eksml.batches.plan import MAX_CALLS, cut, size
from eksml.batches.sources.base import Inventory
from eksml.cluster.preflight import Offer
from eksml.errors import DoesNotFit, InvalidSpec

CALLABLE = Sizing({"CPU": 1.0}, rows_in_flight=512, min_rows_per_block=1024)
LLM_ON_CPU = Sizing({"CPU": 1.0}, rows_in_flight=256, min_rows_per_block=64, one_per_node=True)
LLM_ON_GPU = Sizing({"GPU": 2.0}, rows_in_flight=512, min_rows_per_block=64)


def rows(count: int, files: int = 1, size_each: int = 1_000_000) -> Inventory:
    pieces = tuple(
        Piece(f"/in/{n}.parquet", size_each, 0, count // files, count // files)
        for n in range(files)
    )
    return Inventory(pieces, pa.schema([("text", pa.string())]), "rows")


def sizes_of(job: BatchJob, sizing: Sizing, inventory: Inventory, *offers: Offer):
    shape, blocks = cut(job, sizing, inventory, offers)
    return size(job, sizing, shape, offers), shape, blocks


def test_every_row_is_in_one_block() -> None:
    _, shape, blocks = sizes_of(BatchJob(), CALLABLE, rows(100_000, files=7), Offer({"CPU": 4}))

    pieces = [piece for block in blocks for piece in block.pieces]
    assert sum(piece.stop - piece.start for piece in pieces) == 100_000 // 7 * 7
    assert len({(piece.file, piece.start) for piece in pieces}) == len(pieces)
    assert [block.index for block in blocks] == list(range(shape.blocks))


def test_there_are_as_many_workers_as_fit_and_no_more_than_blocks() -> None:
    four = Offer({"CPU": 4})
    sizes, _, _ = sizes_of(BatchJob(), CALLABLE, rows(1_000_000), four)
    assert sizes.workers == (1, 4)

    sizes, _, _ = sizes_of(BatchJob(), CALLABLE, rows(1_500), four)
    assert sizes.workers == (1, 2)


def test_a_model_that_takes_its_whole_node_gets_one_worker_a_node() -> None:
    sizes, _, _ = sizes_of(BatchJob(), LLM_ON_CPU, rows(10_000), Offer({"CPU": 8}, count=3))

    assert sizes.workers == (1, 3)


def test_a_model_that_only_waits_for_a_server_gets_one_worker() -> None:
    waits = Sizing({"CPU": 0.5}, rows_in_flight=64, min_rows_per_block=64, max_workers=1)

    sizes, _, _ = sizes_of(BatchJob(), waits, rows(10_000), Offer({"CPU": 8}, count=3))

    assert sizes.workers == (1, 1)


def test_gpus_count_and_an_autoscaling_group_counts_at_its_most() -> None:
    nodes = Offer({"CPU": 32, "GPU": 8}, group="gpu", count=4)

    sizes, _, _ = sizes_of(BatchJob(), LLM_ON_GPU, rows(1_000_000), Offer({"CPU": 2}), nodes)

    assert sizes.workers == (1, 16)
    assert sizes.resources == {"GPU": 2.0}


def test_the_engine_has_more_rows_in_flight_than_it_can_hold() -> None:
    sizes, shape, _ = sizes_of(BatchJob(), LLM_ON_CPU, rows(100_000), Offer({"CPU": 8}))

    assert sizes.blocks_in_flight * shape.rows_per_block >= 2 * LLM_ON_CPU.rows_in_flight
    assert sizes.blocks_in_flight <= MAX_CALLS


def test_small_inputs_still_make_blocks_that_are_worth_their_handling() -> None:
    _, shape, _ = sizes_of(BatchJob(), CALLABLE, rows(3_000), Offer({"CPU": 64}))

    assert shape.rows_per_block == CALLABLE.min_rows_per_block


def test_blocks_hold_no_more_bytes_than_a_worker_should() -> None:
    _, shape, _ = sizes_of(
        BatchJob(), CALLABLE, rows(10_000, size_each=10_000 * 2**20), Offer({"CPU": 1})
    )

    assert shape.rows_per_block <= 128


def test_rows_of_lines_are_estimated_from_their_mean_length() -> None:
    lines = Inventory(
        (Piece("/in/a.jsonl", 100_000, 0, 100_000),),
        pa.schema([("text", pa.string())]),
        "bytes",
        units_per_row=50.0,
    )

    _, shape, blocks = sizes_of(BatchJob(rows_per_file=500), CALLABLE, lines, Offer({"CPU": 1}))

    assert shape.estimated
    assert shape.rows == 2_000
    assert len(blocks) == 4


def test_files_stay_whole() -> None:
    images = Inventory(
        tuple(Piece(f"/in/{n}.png", 1_000, 0, 1, 1) for n in range(10)),
        pa.schema([("image", pa.binary())]),
        "files",
    )

    _, _, blocks = sizes_of(BatchJob(rows_per_file=4), CALLABLE, images, Offer({"CPU": 1}))

    assert [len(block.pieces) for block in blocks] == [4, 4, 2]


def test_what_the_caller_says_counts() -> None:
    job = BatchJob(workers=(2, 3), resources={"CPU": 2}, rows_per_file=10)

    sizes, shape, _ = sizes_of(job, CALLABLE, rows(1_000), Offer({"CPU": 8}))

    assert sizes.workers == (2, 3)
    assert sizes.resources == {"CPU": 2}
    assert shape.rows_per_block == 10


def test_a_worker_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(DoesNotFit, match="batch workers with GPU 2"):
        sizes_of(BatchJob(), LLM_ON_GPU, rows(1_000), Offer({"CPU": 8}))


def test_all_problems_of_a_job_are_told_at_once() -> None:
    with pytest.raises(InvalidSpec) as caught:
        BatchJob(workers=0, max_error_share=2, rows_per_file=-1, format="xml")

    assert {problem.path.split(".")[0] for problem in caught.value.problems} >= {
        "workers",
        "max_error_share",
        "rows_per_file",
        "format",
    }
