"""FAULTS cases 3, 4, 6 and 11 for checkpoints: two writers, damaged bytes, absent S3, pickles."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from loops import TOTAL, fit, outcome

import eksml
from eksml.errors import Damaged, EksmlError, Fenced, RunFailed
from eksml.runs.driver import Attempt, create
from eksml.storage import URI, commit_files
from eksml.testing import FaultProxy
from eksml.training import incarnation
from eksml.training.checkpoints import FORMAT, folder_of, load, newest_good, steps_of
from eksml.training.rendezvous import Rendezvous
from eksml.training.writer import Writer

FLIPS = 100


def writer_of(run: URI, number: int = 1) -> Writer:
    """A writer of the run's only rank, in the incarnation ``number``."""
    return Writer(
        run,
        Rendezvous(0, 1),
        keep=100,
        give_up_s=10,
        check_finite=True,
        before_commit=lambda: incarnation.check_owner(run, number),
        committed=lambda step, at_s: None,
    )


def flip_a_byte(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


# Case 4


def fail_at_25(step, ctx):
    if step == 25 and not Path(ctx.config["mended"]).exists():
        raise ValueError("mend me")


@pytest.mark.long
def test_one_flipped_bit_is_refused_by_name_and_the_run_goes_on_from_the_step_before(
    undisturbed, tmp_path
):
    mended = tmp_path / "mended"
    config = {"total": TOTAL, "sleep_s": 0.05, "at": fail_at_25, "mended": str(mended)}
    call = {"config": config, "workers": 2, "checkpoint": {"every_steps": 10}, "max_failures": 0}
    with pytest.raises(RunFailed, match="mend me"):
        eksml.train(fit, name="damaged", storage=tmp_path, **call)
    run = eksml.get_run("damaged", storage=tmp_path)
    older, newest = [step for step, _ in run.checkpoints()]

    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    files = sorted(folder_of(run.uri, newest).path.iterdir())
    assert len(files) == 4  # two ranks' shards, the outline, the manifest
    for _ in range(FLIPS):
        file = rng.choice(files)
        whole = file.read_bytes()
        flip_a_byte(file, rng)
        with pytest.raises(Damaged, match=str(file)):
            load(folder_of(run.uri, newest))
        said: list[str] = []
        assert newest_good(run.uri, said.append).step == older
        assert len(said) == 1
        assert str(file) in said[0]
        file.write_bytes(whole)

    flip_a_byte(files[-1], rng)
    mended.touch()
    resumed = eksml.train(fit, name="damaged", storage=tmp_path, **call)
    told = [line for line in resumed.logs() if f"Checkpoint {newest} is damaged" in line]
    assert len(told) == 1
    assert str(files[-1]) in told[0]
    assert outcome(resumed) == undisturbed(TOTAL)


def test_a_damaged_checkpoint_is_written_anew_when_its_step_is_reached_again(tmp_path):
    run, state = URI.parse(tmp_path), {"model": {"w": torch.arange(1000.0)}}
    for _ in range(2):
        writer = writer_of(run)
        writer.start(10, state, {})
        writer.finish()
        writer.close()
        assert torch.equal(load(folder_of(run, 10)).state["model"]["w"], state["model"]["w"])
        for shard in tmp_path.glob("checkpoints/0000000010/rank-*"):
            flip_a_byte(shard, random.Random(0))
        with pytest.raises(Damaged):
            load(folder_of(run, 10))


# Case 3


def test_of_two_writers_each_step_is_wholly_from_one_and_the_older_one_is_told(tmp_path):
    run = URI.parse(tmp_path / "run")
    old, new = incarnation.claim(run, 1, 1), 2
    told = []

    def write(number: int, steps: range) -> None:
        writer = writer_of(run, number)
        value = float(number)
        state = {"model": {str(i): torch.full((1000,), value) for i in range(5)}, "by": number}
        try:
            for step in steps:
                writer.start(step, state, {"by": number})
                writer.finish()
                if step == 30 and number == old:
                    assert incarnation.claim(run, 2, 1) == new
                    other.start()
        except Fenced as error:
            told.append((number, str(error)))
        finally:
            writer.close()

    other = threading.Thread(target=write, args=(new, range(1, 101)))
    first = threading.Thread(target=write, args=(old, range(1, 101)))
    first.start()
    first.join()
    other.join()
    assert [number for number, _ in told] == [old]
    assert "owned by incarnation 2" in told[0][1]
    assert steps_of(run) == list(range(1, 101))
    for step in range(1, 101):
        found = load(folder_of(run, step))
        [by] = {found.state["by"], found.ranks[0]["by"]}
        assert all((tensor == by).all() for tensor in found.state["model"].values())
        assert by == old if step <= 30 else by == new


@pytest.mark.parametrize("trial", range(3))
def test_writers_that_meet_at_every_step_leave_whole_checkpoints(root, trial):
    meet = threading.Barrier(2)

    def write(number: int) -> None:
        writer = writer_of(root)
        value = float(number)
        state = {"model": {str(i): torch.full((1000,), value) for i in range(5)}}
        for step in range(1, 9):
            meet.wait()
            writer.start(step, state, {"by": number})
            writer.finish()
        writer.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for step in range(1, 9):
        found = load(folder_of(root, step))
        assert all((t == found.ranks[0]["by"]).all() for t in found.state["model"].values())
        names = [stat.uri.name for stat in folder_of(root, step).list()]
        assert names.count("manifest.json") == 1


# Case 6

OUTAGE = """
import sys, time
import psutil, torch
from eksml.errors import StorageUnavailable
from eksml.storage import URI
from eksml.training.rendezvous import Rendezvous
from eksml.training.writer import Writer

run = URI.parse(sys.argv[1])
(run / "imports").write_bytes(b"boto3")
state = {"model": {"weight": torch.ones(int(sys.argv[2]) // 4)}}
writer = Writer(run, Rendezvous(0, 1), keep=3, give_up_s=5, check_finite=True,
                before_commit=lambda: None, committed=lambda step, at_s: None)
rss = psutil.Process().memory_info
base = peak = rss().rss
print("ready", flush=True)
sys.stdin.readline()
step = started = 0
try:
    while True:
        step += 1
        state["model"]["weight"] += 1
        if writer.failed:
            writer.finish()
        if not writer.busy:
            writer.start(step, state, {})
            started += 1
        peak = max(peak, rss().rss)
        time.sleep(0.02)
except StorageUnavailable as error:
    print(step, started, peak - base, error, sep="|", flush=True)
finally:
    writer.close()
"""


@pytest.mark.long
def test_without_s3_training_goes_on_in_bounded_memory_until_a_clear_error(
    s3_server, bucket, monkeypatch
):
    size = 100 << 20
    with FaultProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        process = subprocess.Popen(
            [sys.executable, "-c", OUTAGE, str(bucket), str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        proxy.down()
        out, _ = process.communicate("go\n", timeout=120)
    steps, started, grown, said = out.split("|")
    print(f"{steps} steps, memory grew by {int(grown) / size:.2f} x the state")
    assert int(started) == 1
    assert int(steps) > 50
    assert int(grown) <= 2 * size
    assert said.startswith("No checkpoint could be written for 5 s: S3 at ")
    assert "the same call resumes it" in said
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    assert steps_of(bucket) == []


# Case 11


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


def test_no_pickle_in_a_runs_folder_is_ever_opened(tmp_path):
    canary = tmp_path / "executed"
    poison = pickle.dumps(Canary(canary))
    pickle.loads(poison)
    canary.unlink()  # it works

    storage = URI.parse(tmp_path / "storage")
    run = create(storage, "poisoned", verb="train", entry="fit")
    with Attempt(run) as attempt:
        writer = writer_of(run)
        writer.start(1, {"model": {"w": torch.ones(3)}}, {})
        writer.finish()
        writer.close()
        attempt.write_result({"loss": 1.0})
    meta = {"format": FORMAT, "step": 2, "world": 1}
    names = ["outline.json", "rank-00000.safetensors"]
    outline = json.dumps({"state": {"dict": []}, "ranks": {}}).encode()
    # Sets whose checksums are right, as one who may write there can make them
    commit_files(folder_of(run, 2), dict.fromkeys(names, poison), meta)
    commit_files(folder_of(run, 3), {names[0]: outline, names[1]: poison}, {**meta, "step": 3})
    commit_files(folder_of(run, 4), {names[0]: poison}, {**meta, "step": 4})
    for name in ("model.pt", ".metadata", "call.json", "call.pkl", "checkpoint.pt"):
        (run / name).write_bytes(poison)
        (folder_of(run, 1) / name).write_bytes(poison)

    def look() -> None:
        """Everything that shows or restores a run; refusals are eksml's errors."""
        for use in (
            lambda: eksml.list_runs(storage),
            lambda: eksml.get_run("poisoned", storage)._repr_html_(),
            lambda: eksml.get_run("poisoned", storage).why(),
            lambda: eksml.get_run("poisoned", storage).result(),
            lambda: eksml.get_run("poisoned", storage).metrics(),
            lambda: list(eksml.get_run("poisoned", storage).logs()),
            lambda: eksml.get_run("poisoned", storage).receipt(),
            lambda: [
                load(folder) for _, folder in eksml.get_run("poisoned", storage).checkpoints()
            ],
            lambda: create(storage, "poisoned", verb="train", entry="fit"),
        ):
            try:
                use()
            except EksmlError:
                continue

    look()
    said: list[str] = []
    assert newest_good(run, said.append).step == 1
    assert len(said) == 3
    for name in ("run.json", "result/result.json", "lease.json", "control.json", "progress.json"):
        (run / name).write_bytes(poison)
        look()
    for folder in ("events", "metrics", "logs", "incarnations", "attempts", "failures/000001"):
        (run / folder / "000001.json").write_bytes(poison)
        (run / folder / "a000001-i0001-rank0-000000.jsonl").write_bytes(poison)
        look()
    assert not canary.exists()
