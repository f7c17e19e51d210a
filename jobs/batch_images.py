"""Read the digits in images, with the network that jobs/train_digits.py trained.

    python jobs/train_digits.py --name digits
    python jobs/batch_images.py --run digits --data images/ --output labels/

Without --data, scikit-learn's 1,797 digits are written as PNG files first, named by what they show.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train_digits import network

import eksml

if TYPE_CHECKING:
    import torch


def classifier() -> torch.nn.Module:
    """The trained network, from images (n, 8, 8, 1) in 0 … 255 to digits and how sure it is."""
    net = network()
    net.register_forward_pre_hook(scaled)
    net.register_forward_hook(named)
    return net


def scaled(net: Any, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """What the network was trained on: (n, 1, 8, 8) in 0 … 1."""
    return inputs[0].permute(0, 3, 1, 2).float() / 255


def named(net: Any, inputs: Any, scores: torch.Tensor) -> dict[str, torch.Tensor]:
    """The digit with the highest score, and its probability."""
    probability, digit = scores.softmax(1).max(1)
    return {"digit": digit, "probability": probability}


def write_digits(folder: Path) -> Path:
    """Write scikit-learn's digits as PNG files ``<digit>-<number>.png``."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        image = Image.fromarray((pixels / 16 * 255).round().astype("uint8"))
        image.save(folder / f"{digit}-{number:04}.png")
    return folder


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="the run of jobs/train_digits.py")
    parser.add_argument("--data", help="images: a folder or a pattern; local or s3://")
    parser.add_argument("--output", default="digits-read", help="folder for the results")
    parser.add_argument("--cluster", help="name or YAML file of a cluster that is up")
    parser.add_argument("--storage", help="folder or s3://bucket/prefix (default: ~/.eksml/runs)")
    parser.add_argument("--name", help="the run's name; that of a killed run resumes it")
    return parser.parse_args()


def main() -> None:
    """Compute as the command line says, and print what came of it."""
    args = arguments()
    _, checkpoint = eksml.get_run(args.run, args.storage).checkpoints()[-1]
    run = eksml.batch(
        eksml.batches.torch_module(classifier, weights=checkpoint, input="image"),
        eksml.batches.images(args.data or write_digits(Path("digits")), size=(8, 8), mode="L"),
        args.output,
        keep=["path"],
        cluster=args.cluster,
        storage=args.storage,
        name=args.name,
    )
    report = run.result()
    print(f"{run.name}: {report['rows']:,} images, {report['errors']:,} errors, in {args.output}")
    print(f"{report['rows_per_s']:,.0f} images/s")


if __name__ == "__main__":
    main()
