"""A run's name is claimed before anything is written: of calls that race, one begins it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from counted import write_input

from eksml.batches import ledger, opening
from eksml.batches.asked import Asked, checked
from eksml.batches.sink import CLAIM
from eksml.cluster.preflight import Offer
from eksml.errors import DoesNotFit, InvalidSpec, RunNameInUse
from eksml.runs.record import RECORD, read_record
from eksml.runs.standing import state_of
from eksml.storage import URI

RACERS = 3

RACER = """
import sys, time
from pathlib import Path
from eksml.batches import opening
from eksml.batches.asked import checked
from eksml.cluster.preflight import Offer
from eksml.errors import RunNameInUse
from eksml.storage import URI

root, gun, number = URI.parse(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
opening._target = lambda cluster: (None, (Offer({"CPU": 4.0}),))
asked = checked(
    lambda batch: batch, str(root / "in"), root / f"out{number}", "r", root / "runs",
    rows_per_file=100 + number,
)
print("ready", flush=True)
while not gun.exists():
    time.sleep(0.001)
try:
    opening.opened(root / "runs" / "r", asked, None, None, False)
    print("begun", flush=True)
    sys.stdin.read()
except RunNameInUse as error:
    print(error)
"""
"""It stays until its input ends: a run whose call is gone is another's to take up."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for four workers, without a Ray."""
    offers = (Offer({"CPU": 4.0}),)
    monkeypatch.setattr(opening, "_target", lambda cluster: (None, offers))


def same(batch):
    return batch


def asked_of(root: URI, output: str = "out", **fields) -> Asked:
    return checked(same, str(root / "in"), root / output, "r", root / "runs", **fields)


def begin(root: URI, asked: Asked, again: bool = False) -> None:
    opening.opened(root / "runs" / "r", asked, None, None, again)


def written(root: URI) -> list[str]:
    return [stat.uri.relative_to(root) for stat in root.list(recursive=True)]


def test_of_calls_that_race_for_a_name_one_begins_the_run_and_the_others_touch_nothing(
    root: URI, tmp_path: Path
) -> None:
    write_input(root / "in", 1_000)
    script, gun = tmp_path / "racer.py", tmp_path / "gun"
    script.write_text(RACER)
    racers = [
        subprocess.Popen(
            [sys.executable, script, str(root), gun, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(RACERS)
    ]
    try:
        assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * RACERS
        gun.touch()
        told = [racer.stdout.readline() for racer in racers]
    finally:
        for racer in racers:
            racer.communicate()

    assert told.count("begun\n") == 1, told
    assert all("Wait for it" in line for line in told if line != "begun\n"), told
    winner, run = told.index("begun\n"), root / "runs" / "r"
    assert read_record(run).spec["output"] == str(root / f"out{winner}")
    assert {block.rows for block in ledger.load(run)[:-1]} == {100 + winner}
    claims = [name for name in written(root) if name.endswith(CLAIM)]
    assert claims == [f"out{winner}/{CLAIM}"]


@pytest.mark.usefixtures("here")
def test_a_call_that_is_refused_leaves_nothing(root: URI) -> None:
    write_input(root / "in", 100)
    before = written(root)

    with pytest.raises(DoesNotFit):
        begin(root, asked_of(root, workers=5))
    with pytest.raises(InvalidSpec, match="'m' is no column"):
        begin(root, asked_of(root, keep=["m"]))

    assert written(root) == before


@pytest.mark.usefixtures("here")
def test_a_call_that_was_killed_before_it_had_cut_the_input_is_begun_anew(
    root: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_input(root / "in", 1_000)
    run = root / "runs" / "r"
    _begin_and_be_killed(root, monkeypatch)
    assert state_of(run) == "interrupted"

    begin(root, asked_of(root, rows_per_file=500))

    assert [block.rows for block in ledger.load(run)] == [500, 500]


@pytest.mark.usefixtures("here")
def test_of_two_that_take_up_what_was_killed_one_cuts_the_input(
    root: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_input(root / "in", 1_000)
    run, save = root / "runs" / "r", ledger.save
    _begin_and_be_killed(root, monkeypatch)

    def overtaken(*given) -> None:
        save(*given)
        save(*given)

    monkeypatch.setattr(ledger, "save", overtaken)
    with pytest.raises(RunNameInUse, match="begun by another call at the same time"):
        begin(root, asked_of(root, rows_per_file=500))
    assert state_of(run) == "pending"


@pytest.mark.usefixtures("here")
def test_an_output_that_became_anothers_meanwhile_fails_the_run(
    root: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_input(root / "in", 100)
    check = opening.check_claimable

    def overtaken(folder: URI, run: URI) -> None:
        check(folder, run)
        (folder / CLAIM).write_json({"run": "another"})

    monkeypatch.setattr(opening, "check_claimable", overtaken)
    with pytest.raises(RunNameInUse, match="belongs to the run another"):
        begin(root, asked_of(root))
    assert state_of(root / "runs" / "r") == "failed"


@pytest.mark.usefixtures("here")
def test_what_is_left_of_a_run_that_was_deleted_in_part_is_not_taken_for_done(root: URI) -> None:
    write_input(root / "in", 100)
    begin(root, asked_of(root))
    (root / "runs" / "r" / RECORD).delete()

    with pytest.raises(RunNameInUse, match="deleted in part"):
        begin(root, asked_of(root))


def _begin_and_be_killed(root: URI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the record and the ledger."""

    def killed(*given) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            begin(root, asked_of(root))
    lease = root / "runs" / "r" / "lease.json"
    lease.write_json({**lease.read_json(), "pid_started_s": 1.0})  # of a process that is gone
