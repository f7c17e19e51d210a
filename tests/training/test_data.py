"""``ctx.batches``: Ray datasets, and a resume in the middle of an epoch to the last bit."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from loops import leave_word, outcome

import eksml
from eksml.errors import InvalidSpec
from eksml.runs.progress import read_progress
from eksml.training.data import datasets_of, named

ROWS, BATCH, TOTAL = 400, 10, 30  # 20 steps an epoch on each of two ranks
CALL = {"workers": 2, "checkpoint": {"every_steps": 6}}

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("embedded_ray")]


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> Path:
    """A table with a feature and a number to learn from it, in several files' worth of groups."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    x = np.random.default_rng(0).normal(size=ROWS).astype("float32")
    file = tmp_path_factory.mktemp("data") / "train.parquet"
    pq.write_table(pa.table({"x": x, "y": 3 * x + 1}), file, row_group_size=50)
    return file


def fit(ctx):
    """A line through the rows; the order of the batches is in its weights."""
    import torch

    torch.use_deterministic_algorithms(True)
    model = ctx.prepare(torch.nn.Linear(1, 1))
    opt = torch.optim.AdamW(model.parameters(), lr=0.05)
    batches = ctx.batches(batch_size=BATCH)
    ctx.restore(model=model, optimizer=opt)
    leave_word(ctx)
    told = ask_for_other_data(ctx)
    for _, batch in ctx.steps(batches, total=TOTAL):
        noise = 0.01 * torch.randn(1)
        loss = (model(batch["x"][:, None] + noise)[:, 0] - batch["y"]).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        ctx.log(loss=loss)
        time.sleep(ctx.config.get("sleep_s", 0))
    return {"rows": len(batch["x"]), "told": told}


def ask_for_other_data(ctx):
    try:
        ctx.batches("valid", batch_size=BATCH)
    except InvalidSpec as error:
        return str(error)


def as_path(parquet: Path):
    return parquet


def as_dataset(parquet: Path):
    import ray.data

    return ray.data.read_parquet(str(parquet))


def as_function(parquet: Path):
    return lambda: as_dataset(parquet)


@pytest.mark.parametrize("given", [as_path, as_dataset, as_function])
def test_a_path_a_dataset_and_a_function_are_the_same_rows_in_the_same_order(parquet, given):
    import pyarrow.parquet as pq

    [(name, dataset)] = datasets_of(named(given(parquet))).items()
    assert name == "train"
    assert dataset.take_all() == pq.read_table(parquet).to_pylist()


@pytest.fixture(scope="module")
def calm(embedded_ray, parquet, tmp_path_factory):
    """A run that nothing happens to."""
    folder = tmp_path_factory.mktemp("calm")
    return eksml.train(fit, data=as_function(parquet), storage=folder, **CALL)


def test_a_rank_killed_in_the_middle_of_an_epoch_changes_nothing(calm, parquet, tmp_path):
    run = eksml.train(
        fit,
        config={"sleep_s": 0.1, "pids": str(tmp_path)},
        data={"train": as_dataset(parquet)},
        storage=tmp_path,
        wait=False,
        **CALL,
    )
    while (progress := read_progress(run.uri)) is None or progress.step < 9:
        assert run.state in ("pending", "running"), run.why()
        time.sleep(0.05)
    os.kill(int((tmp_path / "rank1").read_text()), signal.SIGKILL)
    run.wait(progress=False)
    assert run.receipt().restarts == 1
    assert outcome(run) == outcome(calm)
    assert run.result()["rows"] == calm.result()["rows"] == BATCH


def test_data_that_was_not_given_is_named_with_the_remedy(calm):
    told = calm.result()["told"]
    assert "'valid' was not given as data" in told
    assert "data={'valid': dataset}" in told
