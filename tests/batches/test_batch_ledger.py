"""What is to do and what is done: written once, whoever writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from eksml.batches import ledger
from eksml.batches.blocks import Block, Piece
from eksml.batches.ledger import Done, Key
from eksml.batches.tally import Tally, pending, percentile
from eksml.errors import Damaged
from eksml.storage import URI

BLOCKS = [Block(n, (Piece("/in/a.parquet", 100, n * 10, n * 10 + 10, 10),)) for n in range(4)]


def test_blocks_come_back_as_they_were_saved(root: URI) -> None:
    ledger.save(root, BLOCKS, {"identity": {"model": "m"}})

    assert ledger.load(root) == BLOCKS
    assert ledger.meta_of(root) == {"identity": {"model": "m"}}


def test_a_run_without_blocks_has_no_meta(root: URI) -> None:
    assert ledger.meta_of(root) is None


def test_of_racing_workers_one_receipt_counts(root: URI) -> None:
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda n: ledger.record(root, Done(3, 0, n, 0)), range(8)))

    assert all(one == told[0] for one in told)
    assert ledger.read_all(root) == [told[0]]
    assert ledger.find(root, Key(3)) == told[0]
    assert ledger.find(root, Key(3, 1)) is None


def test_a_damaged_receipt_is_told(root: URI) -> None:
    (root / ledger.DONE / "000001-0.json").write_json({"rows": "?"})

    with pytest.raises(Damaged, match="000001-0"):
        ledger.read_all(root)


def test_what_is_left_are_blocks_without_receipt() -> None:
    done = {one.key: one for one in (Done(0, 0, 10, 0), Done(2, 0, 8, 2))}

    assert pending(BLOCKS, done, generation=0) == [Key(1), Key(3)]


def test_failed_rows_are_left_as_often_as_they_are_to_be_tried_again() -> None:
    done = {one.key: one for one in (Done(n, 0, 8, 2 * (n == 2)) for n in range(4))}
    assert pending(BLOCKS, done, generation=1) == [Key(2, 1)]

    done[Key(2, 1)] = Done(2, 1, 1, 1)
    assert pending(BLOCKS, done, generation=1) == []
    assert pending(BLOCKS, done, generation=2) == [Key(2, 2)]

    done[Key(2, 2)] = Done(2, 2, 1, 0)
    assert pending(BLOCKS, done, generation=3) == []


def test_a_tally_counts_the_errors_of_the_newest_generation() -> None:
    tally = Tally({block.index: block for block in BLOCKS})
    for one in (Done(0, 0, 8, 2), Done(1, 0, 10, 0), Done(0, 1, 1, 1)):
        tally.add(one)

    assert (tally.rows, tally.errors) == (19, 1)
    assert (tally.computed, tally.failed) == (0, 0)  # none of it by this attempt
    assert tally.total(planned=40) == 40


def test_a_total_that_was_estimated_gets_right_as_blocks_are_done() -> None:
    tally = Tally({block.index: block for block in BLOCKS})
    assert tally.total(planned=1_000) == 1_000

    tally.add(Done(0, 0, 5, 0))  # a filter let half of the rows through
    assert tally.total(planned=1_000) == 20


def test_speed_is_of_late() -> None:
    tally = Tally({block.index: block for block in BLOCKS})
    for second in range(4):
        lengths = {"tokens_out": {"5": 10}}
        tally.add(Done(second, 0, 10, 0, lengths=lengths), now_s=100.0 + second)

    rows_per_s, tokens_per_s = tally.speed(104.0, since_s=99.0)

    assert rows_per_s == pytest.approx(10, rel=0.3)
    assert tokens_per_s == pytest.approx(5 * rows_per_s)


def test_percentiles_are_lengths_that_occur() -> None:
    histogram = {1: 90, 50: 5, 100: 5}

    assert percentile(histogram, 0.5) == 1
    assert percentile(histogram, 0.95) == 50
    assert percentile(histogram, 1.0) == 100
