"""eksml: a Ray-native ML runtime. The same call runs on a laptop and on EKS.

>>> import eksml
>>> run = eksml.train(fit, config={"lr": 1e-3}, workers=2)   # doctest: +SKIP

Names are imported at first use, so that ``import eksml`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Checkpointing": "eksml.training",
    "Cluster": "eksml.cluster",
    "Context": "eksml.training",
    "EksmlError": "eksml.errors",
    "Run": "eksml.runs",
    "batch": "eksml.batches",
    "cpu": "eksml.cluster",
    "get_run": "eksml.runs",
    "gpu": "eksml.cluster",
    "list_runs": "eksml.runs",
    "neuron": "eksml.cluster",
    "on_event": "eksml.streams",
    "serve": "eksml.serving",
    "stream": "eksml.streams",
    "train": "eksml.training",
}

_ROOMS = ("backends", "batches", "cluster", "runs", "serving", "storage", "streams", "training")
"""Rooms that are reached as attributes, as in ``eksml.batches.llm(…)``."""

__all__ = ["__version__", *sorted(_HOMES)]

if TYPE_CHECKING:
    from eksml.batches import batch as batch
    from eksml.cluster import Cluster as Cluster
    from eksml.cluster import cpu as cpu
    from eksml.cluster import gpu as gpu
    from eksml.cluster import neuron as neuron
    from eksml.errors import EksmlError as EksmlError
    from eksml.runs import Run as Run
    from eksml.runs import get_run as get_run
    from eksml.runs import list_runs as list_runs
    from eksml.serving import serve as serve
    from eksml.streams import on_event as on_event
    from eksml.streams import stream as stream
    from eksml.training import Checkpointing as Checkpointing
    from eksml.training import Context as Context
    from eksml.training import train as train


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if name in _ROOMS:
        return importlib.import_module(f"eksml.{name}")
    if home is None:
        raise AttributeError(f"module 'eksml' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
