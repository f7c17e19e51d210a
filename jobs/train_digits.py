"""Train a small convolutional net on scikit-learn's 1,797 real handwritten digits.

The same file runs everywhere:

    python jobs/train_digits.py                        # in this process
    python jobs/train_digits.py --cluster laptop       # on a cluster that is up
    eksml train jobs/train_digits.py --workers 2       # the function alone
    ray job submit -- python jobs/train_digits.py      # as any Ray job
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import eksml

if TYPE_CHECKING:
    import torch

HELD_OUT = 360
"""Digits that training never sees: a fifth."""


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images (n, 1, 8, 8) in 0…1 and labels to learn from, then images and labels held out."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        images / 16, labels, test_size=HELD_OUT, stratify=labels, random_state=0
    )
    x, x_test, y, y_test = (torch.tensor(part) for part in parts)
    return x.float().view(-1, 1, 8, 8), y, x_test.float().view(-1, 1, 8, 8), y_test


def network() -> torch.nn.Module:
    """Two convolutions and a classifier, some 38,000 weights."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def fit(ctx: eksml.Context) -> dict[str, float]:
    """Train, then judge the net on the digits held out."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, TensorDataset

    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    x, y, x_test, y_test = digits()
    model = ctx.prepare(network())
    optimizer = torch.optim.AdamW(model.parameters(), lr=ctx.config.get("lr", 2e-3))
    batches = ctx.prepare(DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True))
    start = ctx.restore(model=model, optimizer=optimizer)
    print(f"rank {ctx.rank} of {ctx.world_size} begins at step {start}")

    for _, (images, labels) in ctx.steps(batches, total=ctx.config.get("steps", 600)):
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ctx.log(loss=loss)

    model.eval()
    with torch.no_grad():
        scores = model(x_test.to(ctx.device)).cpu()
    return {
        "accuracy": (scores.argmax(1) == y_test).double().mean().item(),
        "loss": cross_entropy(scores, y_test).item(),
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that train (default: 2)")
    parser.add_argument("--steps", type=int, default=600, help="steps in all (default: 600)")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate (default: 0.002)")
    parser.add_argument("--cluster", help="name or YAML file of a cluster that is up")
    parser.add_argument("--storage", help="folder or s3://bucket/prefix (default: ~/.eksml/runs)")
    parser.add_argument("--name", help="the run's name; that of a killed run resumes it")
    return parser.parse_args()


def main() -> None:
    """Train as the command line says, and print what came of it."""
    args = arguments()
    run = eksml.train(
        fit,
        config={"lr": args.lr, "steps": args.steps},
        workers=args.workers,
        cluster=args.cluster,
        storage=args.storage,
        name=args.name,
        checkpoint={"every_steps": 100},
    )
    result = run.result()
    print(f"{run.name}: {result['accuracy']:.2%} of {HELD_OUT} held-out digits right")
    print(f"final loss {result['loss']:.6f} · {run.receipt()}")
    print(f"kept in {run.uri}")


if __name__ == "__main__":
    main()
