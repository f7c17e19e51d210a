"""Checkpoints of a stream: one manifest for what all tasks have written, and what may go."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from eksml.errors import Damaged
from eksml.storage import URI, commit, committed, read_manifest, retain
from eksml.streams.assignment import STATE, Restored
from eksml.streams.graph import Graph
from eksml.streams.sinks.staging import STAGED
from eksml.streams.snapshots import chains_of, files_of
from eksml.streams.task import Snapshot

CHECKPOINTS, SAVEPOINTS = "checkpoints", "savepoints"
KEEP = 3
"""Checkpoints that stay."""
_FORMAT = 1


def folder_of(run: URI, epoch: int, kind: str = CHECKPOINTS) -> URI:
    return run / kind / f"{epoch:08d}"


def epochs_of(run: URI) -> list[int]:
    """Epochs that were committed and are still there, oldest first."""
    return [int(folder.name) for folder in committed(run / CHECKPOINTS)]


def meta_of(
    epoch: int,
    graph: Graph,
    parallelism: int,
    snapshots: Mapping[tuple[int, int], Snapshot],
    *,
    run: URI,
    attempt: int,
    ended: bool,
) -> dict[str, Any]:
    """What a checkpoint's manifest says, put together from what the tasks said.

    ``snapshots`` are by (stage, index).
    """
    empty: dict[str, Any] = {"parts": [], "rows": 0}
    state: dict[str, list[dict[str, Any]]] = {}
    watermarks: dict[str, int] = {}
    positions: dict[str, dict[str, Any]] = {}
    prepared: dict[str, list[Any]] = {}
    for (_, index), snapshot in sorted(snapshots.items()):
        for name, chain in snapshot.state.items():
            state.setdefault(name, [empty] * parallelism)[index] = chain
        for name, mark in snapshot.watermarks.items():
            watermarks[name] = max(mark, watermarks.get(name, mark))
        for name, found in snapshot.positions.items():
            merged = positions.setdefault(name, {"at": {}, "times": {}})
            merged["at"].update(found["at"])
            merged["times"].update(found["times"])
        for name, token in snapshot.prepared.items():
            if token is not None:
                prepared.setdefault(name, []).append(token)
    return {
        "format": _FORMAT,
        "epoch": epoch,
        "attempt": attempt,
        "ended": ended,
        "parallelism": parallelism,
        "steps": {step.name: step.spec.kind for step in graph.steps},
        "folder": str(run / STATE),
        "state": state,
        "watermarks": watermarks,
        "positions": positions,
        "prepared": prepared,
    }


def write(run: URI, meta: Mapping[str, Any], kind: str = CHECKPOINTS) -> None:
    """Make a checkpoint exist: once for each epoch, whoever comes first.

    Raises:
        AlreadyExists: There is one of that epoch, which another owner wrote.
    """
    commit(folder_of(run, meta["epoch"], kind), [], meta)


def newest(run: URI) -> dict[str, Any] | None:
    """What the newest checkpoint says; None before the first."""
    epochs = epochs_of(run)
    return read(folder_of(run, epochs[-1])) if epochs else None


def read(folder: URI) -> dict[str, Any]:
    """What a checkpoint or savepoint says.

    Raises:
        Damaged: There is none, or it is of another format.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.meta.get("format") != _FORMAT:
        raise Damaged(f"{folder} holds no checkpoint of a stream that this eksml can read.")
    return manifest.meta


def restored(meta: Mapping[str, Any], *, with_prepared: bool = True) -> Restored:
    """What tasks begin with. Another run's savepoint comes without what its sinks had prepared:
    that run has committed it."""
    return Restored(
        folder=URI.parse(meta["folder"]),
        parallelism=meta["parallelism"],
        state=meta["state"],
        watermarks=meta["watermarks"],
        positions=meta["positions"],
        prepared=meta["prepared"] if with_prepared else {},
        epoch=meta["epoch"],
    )


def nothing(run: URI, parallelism: int) -> Restored:
    """What tasks of a new run begin with."""
    return Restored(run / STATE, parallelism)


def retire(run: URI) -> None:
    """Delete old checkpoints, and parts that no checkpoint or savepoint needs any more.

    Only parts that some deleted checkpoint named go: one that is being written is named by none.
    """
    gone: set[str] = set()
    for epoch in epochs_of(run)[:-KEEP]:
        gone |= _files(read(folder_of(run, epoch)))
    retain(run / CHECKPOINTS, KEEP)
    _delete(run / STATE, gone - _needed(run))


def sweep(run: URI, attempt: int) -> None:
    """Delete what earlier attempts' tasks left unnamed; before the first task of ``attempt`` works.

    What a later attempt writes is never touched: this owner may have slept, and be a zombie."""
    meta = newest(run)
    tokens: Sequence[Any] = (
        [] if meta is None else list(itertools.chain(*meta["prepared"].values()))
    )
    staged = {token["part"]["file"] for token in tokens if "part" in token}
    for folder, needed in ((run / STATE, _needed(run)), (run / STAGED, staged)):
        names = {stat.uri.name for stat in folder.list()} - needed
        _delete(folder, {name for name in names if int(name.partition("-")[0]) < attempt})


def _needed(run: URI) -> set[str]:
    kept = [*committed(run / CHECKPOINTS), *committed(run / SAVEPOINTS)]
    return set().union(*(_files(read(folder)) for folder in kept))


def _files(meta: Mapping[str, Any]) -> set[str]:
    return files_of(chains_of(meta["state"]))


def _delete(folder: URI, names: set[str]) -> None:
    folder.store.delete([folder / name for name in sorted(names)])
