"""``eksml.train``: what a call gives, how it ends, and how it goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from loops import TOTAL, fit, outcome

import eksml
from eksml.errors import RunCancelled, RunFailed, RunNameInUse
from eksml.runs.driver import abandon, create
from eksml.runs.progress import read_progress
from eksml.storage import URI
from eksml.training.checkpoints import folder_of, load
from eksml.training.rendezvous import Rendezvous
from eksml.training.writer import Writer

CALL = {"workers": 2, "checkpoint": {"every_steps": 10}}
ALONE = {**CALL, "workers": 1}

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("embedded_ray")]


def wait_for_step(run, step: int) -> None:
    while (progress := read_progress(run.uri)) is None or progress.step < step:
        assert run.state in ("pending", "running"), run.why()
        time.sleep(0.05)


# Functions that know nothing of eksml


def plain(config):
    """As Ray Train's own documentation has it."""
    import ray.train
    from ray.train import Checkpoint

    for epoch in range(config["epochs"]):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "epoch").write_text(str(epoch))
            ray.train.report({"epoch": epoch}, checkpoint=Checkpoint.from_directory(folder))
    with ray.train.get_checkpoint().as_directory() as folder:
        last = int((Path(folder) / "epoch").read_text())
    return {"last": last, "rank": ray.train.get_context().get_world_rank()}


def without_arguments():
    import ray.train

    return ray.train.get_context().get_world_size()


def test_a_function_for_ray_train_runs_unchanged_and_its_value_is_the_result(tmp_path):
    run = eksml.train(plain, config={"epochs": 2}, storage=tmp_path, name="plain")
    assert run.state == "succeeded"
    assert run.result() == {"last": 1, "rank": 0}
    assert sorted(file.read_text() for file in tmp_path.glob("plain/ray/**/epoch")) == ["0", "1"]


def test_a_function_without_parameters_runs_too(tmp_path):
    assert eksml.train(without_arguments, storage=tmp_path).result() == 1


# What a run gives


def shares(ctx):
    """Which samples each rank is given in two epochs, and the very numbers that it logs."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data = DataLoader(TensorDataset(torch.arange(40)), batch_size=4, shuffle=True)
    batches, given, losses = ctx.prepare(data), [], []
    ctx.restore(model=torch.nn.Linear(2, 2))
    for step, (numbers,) in ctx.steps(batches, total=10):
        given += numbers.tolist()
        losses.append(0.1 * step / 3)
        ctx.log(loss=losses[-1], accuracy=torch.tensor(step / 7, dtype=torch.float64))
        time.sleep(0.1)
    Path(ctx.config["out"], f"rank{ctx.rank}.json").write_text(json.dumps(given))
    return {"losses": losses, "device": str(ctx.device), "steps": ctx.step}


def test_ranks_share_each_epoch_and_every_step_is_a_row_of_exact_numbers(tmp_path):
    run = eksml.train(
        shares,
        config={"out": str(tmp_path)},
        storage=tmp_path,
        workers=2,
        checkpoint={"every_s": 0.2},
    )
    one, other = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    first, second = one[:20] + other[:20], one[20:] + other[20:]
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second

    losses = [0.1 * step / 3 for step in range(10)]
    assert run.result() == {"losses": losses, "device": "cpu", "steps": 10}
    metrics = run.metrics()
    assert list(metrics.index) == list(range(10))
    assert list(metrics.loss) == losses
    assert list(metrics.accuracy) == [step / 7 for step in range(10)]
    # Every 0.2 s of a second that takes 1 s: not at every step, but not only at the end
    assert 2 <= len(run.checkpoints()) < 10
    assert run.checkpoints()[-1][0] == 10


# How a run stops, and goes on


@pytest.fixture(scope="module")
def cancelled(embedded_ray, tmp_path_factory):
    """A run that was cancelled after some steps, and the call that began it."""
    call = {"storage": tmp_path_factory.mktemp("cancelled"), "name": "stopped", **CALL}
    run = eksml.train(fit, config={"total": TOTAL, "sleep_s": 0.1}, wait=False, **call)
    wait_for_step(run, 12)
    run.cancel(grace_s=120)
    return run, call


def test_cancel_stops_at_a_checkpoint(cancelled):
    run, _ = cancelled
    assert run.state == "cancelled"
    step = run.checkpoints()[-1][0]
    assert 12 <= step < TOTAL
    assert run.why().startswith(f"The run stopped was cancelled after step {step} of {TOTAL}.")
    with pytest.raises(RunCancelled):
        run.result()


OTHER_PROCESS = """
import json, sys, eksml
run = eksml.get_run("stopped", storage=sys.argv[1])
print(run.state, flush=True)
sys.stdin.readline()
print(json.dumps(run.wait(progress=False).result()))
"""


def test_the_same_call_goes_on_from_it_and_others_may_follow_but_not_take_its_name(
    cancelled, undisturbed
):
    before, call = cancelled
    step = before.checkpoints()[-1][0]
    run = eksml.train(fit, config={"total": TOTAL, "sleep_s": 0.2}, wait=False, **call)
    wait_for_step(run, step + 1)
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(call["storage"])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "running\n"
    with pytest.raises(RunNameInUse, match=r"stopped is running\. Wait for it"):
        eksml.train(fit, config={"total": 1}, **call)
    out, _ = other.communicate("go\n", timeout=120)
    assert json.loads(out) == run.wait(progress=False).result()
    assert run.result()["step"] == TOTAL
    assert outcome(run) == undisturbed(TOTAL)
    assert run.receipt().attempts == 2
    with pytest.raises(RunNameInUse, match="stopped has succeeded already"):
        eksml.train(fit, config={"total": 1}, **call)
    assert outcome(run) == undisturbed(TOTAL)


def test_a_deadline_stops_at_a_checkpoint_and_says_so(tmp_path):
    config = {"total": TOTAL, "sleep_s": 0.5}
    with pytest.raises(RunCancelled, match=r"reached its deadline of 1\.0 s"):
        eksml.train(fit, config=config, deadline_s=1.0, storage=tmp_path, name="late", **ALONE)
    run = eksml.get_run("late", storage=tmp_path)
    assert run.state == "cancelled"
    step = run.checkpoints()[-1][0]
    assert run.why().startswith(
        f"The run late reached its deadline of 1.0 s after step {step} of {TOTAL}."
    )


def bug_at_25(step, ctx):
    if step == 25:
        raise ValueError("the user's own words")


def test_the_users_exception_comes_first(tmp_path):
    """How the mended call goes on is seen in ``tests/faults/test_checkpoints.py``."""
    config = {"total": TOTAL, "sleep_s": 0.05, "at": bug_at_25}
    with pytest.raises(RunFailed) as caught:
        eksml.train(fit, config=config, storage=tmp_path, name="buggy", **ALONE)
    lines = str(caught.value).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{fit.__code__.co_filename}", line ')
    own, _, rest = str(caught.value).partition("\nValueError: the user's own words\n")
    assert "ray/" not in own
    assert "The run buggy failed on rank 0. Mend it and call again" in rest

    run = eksml.get_run("buggy", storage=tmp_path)
    assert run.state == "failed"
    assert run.why() == "It failed on rank 0: ValueError: the user's own words"
    assert run.receipt().restarts <= 1  # the same code on the same data fails again
    assert 10 <= run.checkpoints()[-1][0] < 25


def diverges(ctx):
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    ctx.restore(model=ctx.prepare(model))
    for step, _ in ctx.steps(range(40)):
        if step == 25:
            with torch.no_grad():
                model[1].bias[0] = float("nan")
        ctx.log(loss=float(model[1].bias[0]))
        time.sleep(0.02)


def test_nan_is_never_committed_and_the_tensor_is_named(tmp_path):
    with pytest.raises(RunFailed, match=r"model\.1\.bias holds NaN or infinity"):
        eksml.train(diverges, storage=tmp_path, name="nan", **ALONE)
    run = eksml.get_run("nan", storage=tmp_path)
    steps = [step for step, _ in run.checkpoints()]
    assert 10 in steps
    assert max(steps) <= 25
    for step in steps:
        model = load(folder_of(run.uri, step)).state["model"]
        assert all(tensor.isfinite().all() for tensor in model.values())


# What is told to a function that uses its context wrongly


def said(work) -> str:
    """What ``work()`` raises, for a function that returns it."""
    try:
        work()
    except eksml.errors.EksmlError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def wrong(ctx):
    """On a run that goes on from a checkpoint of ``torch.nn.Linear(2, 2)``."""
    import torch

    right = torch.nn.Linear(2, 2)
    return {
        "no state": said(lambda: ctx.restore(model=right, rate=0.1)),
        "no data": said(lambda: ctx.batches("valid", batch_size=4)),
        "nothing restored": said(lambda: list(ctx.steps(range(2)))),
        "twice": said(lambda: list(ctx.steps(range(2)))),
        "other names": said(lambda: ctx.restore(net=right)),
        "other shape": said(lambda: ctx.restore(model=torch.nn.Linear(3, 2))),
    }


@pytest.fixture
def begun(tmp_path) -> str:
    """The name of a run that was given up after its first checkpoint."""
    import torch

    run = create(URI.parse(tmp_path), "resumed", verb="train", entry="fit")
    writer = Writer(
        run,
        Rendezvous(0, 1),
        keep=1,
        give_up_s=1,
        check_finite=True,
        before_commit=lambda: None,
        committed=lambda step, at_s: None,
    )
    writer.start(7, {"model": torch.nn.Linear(2, 2).state_dict()}, {})
    writer.finish()
    writer.close()
    abandon(run, ValueError("for the test"))
    return run.name


def test_wrong_uses_of_the_context_are_told_with_the_remedy(begun, tmp_path):
    told = eksml.train(wrong, storage=tmp_path, name=begun).result()
    spec = ("no state", "no data", "twice")
    assert all(told[name].startswith("InvalidSpec") for name in spec)
    assert all(told[name].startswith("CheckpointError") for name in told.keys() - spec)
    assert "rate: a float has no state_dict() and load_state_dict()" in told["no state"]
    assert "'valid' was not given as data" in told["no data"]
    assert "ctx.steps: was called twice" in told["twice"]
    assert "goes on from step 7, but nothing was restored" in told["nothing restored"]
    assert "holds ['model'], but ctx.restore was given ['net']" in told["other names"]
    assert "model does not fit" in told["other shape"]
    assert "size mismatch" in told["other shape"]


# From a script

SCRIPT = """
import eksml

FACTOR = 3

class Half:
    def __call__(self, value):
        return value / 2

def fit(ctx):
    return {"value": Half()(FACTOR * ctx.config["value"])}

if __name__ == "__main__":
    run = eksml.train(fit, config={"value": 5})
    print(run.result())
"""


def test_a_function_of_a_script_runs_in_it(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "EKSML_STORAGE": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'value': 7.5}\n"
    [run] = eksml.list_runs(tmp_path / "runs")
    assert run.record.entry == "__main__.fit"
