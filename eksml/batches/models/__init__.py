"""What computes: a user's function, a torch module, an LLM, an endpoint."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "endpoint": "eksml.batches.models.endpoint",
    "callable_model": "eksml.batches.models.callable",
    "llm": "eksml.batches.models.llm_call",
    "model_of": "eksml.batches.models.kinds",
    "serve_app": "eksml.batches.models.serve_app",
    "torch_module": "eksml.batches.models.torch_module",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from eksml.batches.models.callable import callable_model as callable_model
    from eksml.batches.models.endpoint import endpoint as endpoint
    from eksml.batches.models.kinds import model_of as model_of
    from eksml.batches.models.llm_call import llm as llm
    from eksml.batches.models.serve_app import serve_app as serve_app
    from eksml.batches.models.torch_module import torch_module as torch_module


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'eksml.batches.models' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value
