"""Training functions that the tests of several rooms share. Small, but with everything that exact
resume has to keep: shuffled data, dropout, random augmentation, an optimizer and a scheduler."""

from __future__ import annotations

import os
import time
from pathlib import Path

TOTAL = 80
"""Steps of most runs; ``undisturbed(TOTAL)`` is made once for all tests."""


def fit(ctx):
    """A classifier of noisy points; deterministic on a CPU, its random numbers from everywhere."""
    import random

    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch.utils.data import DataLoader, TensorDataset

    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(600, 16, generator=generator)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).long()
    net = torch.nn.Sequential(
        torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(32, 2)
    )
    model = ctx.prepare(net)
    opt = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 1000)
    batches = ctx.prepare(DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True))
    ctx.restore(model=model, optimizer=opt, scheduler=scheduler)
    leave_word(ctx)
    for step, (a, b) in ctx.steps(batches, total=ctx.config.get("total", 100)):
        noise = np.random.normal(size=1)[0] * 0.01 + random.random() * 0.01
        loss = F.cross_entropy(model(a + noise), b)
        opt.zero_grad()
        loss.backward()
        opt.step()
        scheduler.step()
        ctx.log(loss=loss, lr=scheduler.get_last_lr()[0])
        time.sleep(ctx.config.get("sleep_s", 0))
        ctx.config.get("at", lambda step, ctx: None)(step, ctx)
    return {"loss": loss.item(), "step": ctx.step}


def leave_word(ctx) -> None:
    """Write this process's pid where the test looks for it."""
    if "pids" in ctx.config:
        place = Path(ctx.config["pids"]) / f"rank{ctx.rank}"
        place.with_suffix(".tmp").write_text(str(os.getpid()))
        place.with_suffix(".tmp").rename(place)


def outcome(run) -> tuple:
    """All that must be equal to the last bit: step, weights, and every loss that was logged."""
    from eksml.training.checkpoints import load

    step, folder = run.checkpoints()[-1]
    model = load(folder).state["model"]
    weights = {name: tensor.numpy().tobytes() for name, tensor in model.items()}
    metrics = run.metrics()
    return step, weights, [(i, v.hex()) for i, v in metrics["loss"].items()]
