"""A checkpoint on storage: a committed set of safetensors files and one JSON outline.

``<run>/checkpoints/0000000050/`` holds what was true after 50 steps. Each rank writes one file,
with its share of the replicated tensors and its own random state and position in the data; the
first rank commits. Readers see a whole checkpoint or none, verified to the last byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eksml.errors import CheckpointError, Damaged
from eksml.storage import URI, Manifest, committed, read_manifest, read_part
from eksml.training.state import unflatten

if TYPE_CHECKING:
    import torch

FOLDER = "checkpoints"
FORMAT = "eksml-checkpoint-1"
OUTLINE = "outline.json"


def folder_of(run: URI, step: int) -> URI:
    """Where the checkpoint after ``step`` steps lies."""
    return run / FOLDER / f"{step:010d}"


def part_name(rank: int) -> str:
    """The name of a rank's file in the set."""
    return f"rank-{rank:05d}.safetensors"


def steps_of(run: URI) -> list[int]:
    """The steps that have a committed checkpoint, oldest first. Does not read their parts."""
    return [int(folder.name) for folder in committed(run / FOLDER) if folder.name.isdigit()]


@dataclass(frozen=True)
class Checkpoint:
    """What was true after ``step`` steps, read and verified."""

    step: int
    uri: URI
    world: int
    """Number of ranks that wrote it."""
    state: Mapping[str, Any]
    """Name, as given to ``ctx.restore``, to ``state_dict``. The same on every rank."""
    ranks: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Rank to its random state and position in the data."""
    done: bool = False
    """Whether the training function had returned; ``result`` is what."""
    result: Any = None


def load(folder: URI, ranks: Callable[[int], bool] = lambda rank: True) -> Checkpoint:
    """Read one checkpoint.

    Args:
        folder: As listed by ``run.checkpoints()``.
        ranks: Which ranks' own state to keep.

    Raises:
        Damaged: A byte differs from what was written; the message names the file.
        CheckpointError: It is not committed, or of another format.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise CheckpointError(f"{folder} holds no committed checkpoint.")
    if manifest.meta.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has the format {manifest.meta.get('format')!r}.")
    outline = _read_outline(folder, manifest)
    tensors: dict[str, torch.Tensor] = {}
    for name in (part.name for part in manifest.parts if part.name != OUTLINE):
        tensors.update(_read_tensors(folder, manifest, name))
    return Checkpoint(
        step=manifest.meta["step"],
        uri=folder,
        world=manifest.meta["world"],
        state=unflatten(outline["state"], tensors),
        ranks={
            int(rank): unflatten(own, tensors)
            for rank, own in outline["ranks"].items()
            if ranks(int(rank))
        },
        done="result" in manifest.meta,
        result=manifest.meta.get("result"),
    )


def newest_good(
    run: URI, say: Callable[[str], None], ranks: Callable[[int], bool] = lambda rank: True
) -> Checkpoint | None:
    """The newest checkpoint that is whole; a damaged one is told to ``say`` and passed over."""
    for step in reversed(steps_of(run)):
        folder = folder_of(run, step)
        try:
            return load(folder, ranks)
        except Damaged as error:
            say(f"Checkpoint {step} is damaged and passed over for the next older one: {error}")
    return None


def _read_outline(folder: URI, manifest: Manifest) -> dict[str, Any]:
    try:
        outline = json.loads(read_part(folder, manifest.part(OUTLINE)))
        return {"state": outline["state"], "ranks": dict(outline["ranks"])}
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{folder / OUTLINE} is not the outline of a checkpoint.") from error


def _read_tensors(folder: URI, manifest: Manifest, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load as load_bytes

    data = read_part(folder, manifest.part(name))
    try:
        yield from load_bytes(bytes(data)).items()
    except SafetensorError as error:
        raise Damaged(f"{folder / name} is not a safetensors file: {error}.") from error
