"""The loop that ``benchmarks/train.py`` times, under ``eksml.train`` and under torchrun.

The work of a step is the same on both sides; only where batches, checkpoints and numbered steps
come from differs.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path


def model_and_data(config: dict):
    """A network whose step takes at least 50 ms on one core, and ``state_mb`` of state beside."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    width = 512 if config["work"] else 16
    layers = [layer for _ in range(4) for layer in (torch.nn.Linear(width, width), torch.nn.ReLU())]
    net = torch.nn.Sequential(*layers)
    rows = 1024 if config["work"] else 8
    data = torch.utils.data.TensorDataset(torch.randn(16 * rows, width))
    count = config.get("state_mb", 0) * 250_000
    ballast = torch.nn.ParameterList(
        torch.nn.Parameter(torch.zeros(count // 10), requires_grad=False) for _ in range(10)
    )
    return net, ballast, torch.utils.data.DataLoader(data, batch_size=rows)


class Notes:
    """Writes down when steps ended, and a heartbeat for the kill test."""

    def __init__(self, config: dict, rank: int) -> None:
        self.folder, self.rank, self.config = Path(config["notes"]), rank, config
        (self.folder / f"rank{rank}.pid").write_text(str(os.getpid()))
        self.times, self.saved_at = [], []
        self.first_s = 0.0

    def step(self) -> None:
        self.times.append(time.perf_counter())
        self.first_s = self.first_s or time.time()
        if self.rank == 0 and self.config.get("pause_s"):
            place = self.folder / "rank0.beat"
            place.with_suffix(".tmp").write_text(f"{os.getpid()} {len(self.times)} {self.first_s}")
            place.with_suffix(".tmp").rename(place)

    def write(self) -> None:
        steps = [b - a for a, b in itertools.pairwise(self.times)]
        # The first steps warm up. A checkpoint stalls the step after it; the last has none
        saved_at = [count - 6 for count in self.saved_at if 6 <= count <= len(steps)]
        notes = {"step_s": steps[5:], "saved_at": saved_at}
        if self.rank == 0:
            (self.folder / "rank0.json").write_text(json.dumps(notes))


def step_of(config: dict, model, optimizer, batch) -> float:
    """One step of training; the same on both sides."""
    loss = model(batch).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if config.get("pause_s"):
        time.sleep(config["pause_s"])
    return loss


def fit(ctx) -> None:
    """Under ``eksml.train``."""
    import torch

    config = ctx.config
    net, ballast, loader = model_and_data(config)
    model, batches = ctx.prepare(net), ctx.prepare(loader)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    ctx.restore(model=model, optimizer=optimizer, ballast=ballast)
    notes = Notes(config, ctx.rank)
    for step, (batch,) in ctx.steps(batches, total=config["steps"]):
        loss = step_of(config, model, optimizer, batch)
        ctx.log(loss=loss)
        notes.step()
        if config.get("every") and (step + 1) % config["every"] == 0:
            notes.saved_at.append(len(notes.times))
    notes.write()


def bare(config: dict) -> None:
    """Under torchrun."""
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("cpu:gloo" if config.get("save") == "dcp.async_save" else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    net, ballast, loader = model_and_data(config)
    model = DistributedDataParallel(net) if world > 1 else net
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    if world > 1:
        sampler = torch.utils.data.DistributedSampler(loader.dataset, shuffle=False)
        loader = torch.utils.data.DataLoader(
            loader.dataset, batch_size=loader.batch_size, sampler=sampler
        )
    place = Path(config["storage"]) / "state.pt"
    if place.exists():
        model.load_state_dict(torch.load(place)["model"])
    notes, step, pending = Notes(config, rank), 0, None
    while step < config["steps"]:
        for (batch,) in loader:
            if step == config["steps"]:
                break
            step_of(config, model, optimizer, batch)
            step += 1
            notes.step()
            if config.get("every") and step % config["every"] == 0:
                notes.saved_at.append(len(notes.times))
                state = {"model": model.state_dict(), "ballast": ballast.state_dict()}
                pending = save(config["save"], state, place, rank, step, pending, dcp)
    if pending is not None:
        pending.result()
    notes.write()


def save(how: str, state: dict, place: Path, rank: int, step: int, pending, dcp):
    """Checkpoint as a user of bare torch does."""
    import torch

    if how == "torch.save" and rank == 0:
        with open(place.with_suffix(".tmp"), "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        place.with_suffix(".tmp").rename(place)
    if how == "dcp.async_save":
        if pending is not None:
            pending.result()
        return dcp.async_save(state, checkpoint_id=str(place.parent / f"dcp-{step}"))
    return None


if __name__ == "__main__":
    bare(json.loads(sys.argv[1]))
