"""Which rows are suspected of killing the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from eksml.errors import Damaged
from eksml.serving.batch_jobs.care import Care
from eksml.serving.batch_jobs.lines import Row
from eksml.serving.batch_jobs.records import Batch
from eksml.storage import URI


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(URI.parse(tmp_path / "batch_1"))


def died(batch: Batch, *blocks: int) -> None:
    care = Care(batch)
    for block in blocks:
        care.open(block)


def test_one_death_makes_nobody_careful(batch: Batch) -> None:
    died(batch, 0, 1)
    assert not Care(batch).runs_alone(0)


def test_two_deaths_make_the_open_blocks_suspect_and_no_others(batch: Batch) -> None:
    died(batch, 0, 1)
    died(batch, 0)
    care = Care(batch)
    assert [care.runs_alone(block) for block in (0, 1, 2)] == [True, True, False]


def test_an_attempt_that_stops_in_peace_is_no_death(batch: Batch) -> None:
    died(batch, 0)
    for _ in range(5):
        Care(batch).stop_in_peace()
    care = Care(batch)
    assert not care.runs_alone(0)


def test_a_death_after_the_suspected_blocks_were_committed_is_the_first_one(batch: Batch) -> None:
    died(batch, 0, 1)
    second = Care(batch)
    second.open(0)
    second.committed(1)  # block 1 is open still
    second.committed(2)
    second.open(2)
    assert not Care(batch).runs_alone(2)


def test_a_row_is_refused_after_two_deaths_over_it_alone(batch: Batch) -> None:
    died(batch, 0)
    died(batch, 0)
    for _ in range(2):
        care = Care(batch)
        assert care.refused == ()
        care.begin_alone("innocent")
        care.begin_alone("killer")
    assert Care(batch).refused == ("killer",)


def test_two_rows_that_died_once_each_are_not_refused(batch: Batch) -> None:
    died(batch, 0)
    died(batch, 0)
    for row in ("one", "other"):
        Care(batch).begin_alone(row)
    assert Care(batch).refused == ()


def test_the_row_that_was_alone_at_the_last_death_is_tried_again_as_the_last_of_its_block(
    batch: Batch,
) -> None:
    rows = [Row(name, {}) for name in ("a", "b", "c")]
    died(batch, 0)
    assert Care(batch).in_order(rows) == rows
    care = Care(batch)
    care.begin_alone("b")
    assert [row.custom_id for row in Care(batch).in_order(rows)] == ["a", "c", "b"]


def test_what_is_no_record_of_deaths_is_told(batch: Batch) -> None:
    (batch.folder / "deaths.json").write_json({"attempts": "many"})
    with pytest.raises(Damaged, match="does not tell of deaths"):
        Care(batch)
