"""What ``eksml.batch`` is given as its model, as a model."""

from __future__ import annotations

import os
import sys
from typing import Any

from eksml.batches.models.base import Model
from eksml.batches.models.callable import callable_model
from eksml.batches.models.networks import is_program
from eksml.errors import InvalidSpec, Problem

_METHODS = ("describe", "check", "sizing", "load")


def model_of(given: Any) -> Model:
    """A model as it is; a class, a function or an instance as a model with default settings.

    Raises:
        InvalidSpec: It is none; says how to make one of it.
    """
    if not isinstance(given, type) and all(hasattr(given, name) for name in _METHODS):
        model: Model = given
        return model
    problem = _problem(given)
    if problem is not None:
        raise InvalidSpec([problem], "the model")
    return callable_model(given)


def _problem(given: Any) -> Problem | None:
    if isinstance(given, str | os.PathLike):
        return Problem("model", f"{os.fspath(given)!r:.200} is only a name.", _remedy(given))
    if _is_network(given):
        remedy = "Say which columns it reads: eksml.batches.torch_module(net, input='image')."
        return Problem("model", f"A {type(given).__name__} takes tensors.", remedy)
    if not callable(given):
        remedy = (
            "Give a class, a function, or one of eksml.batches: llm, torch_module, endpoint, "
            "serve_app."
        )
        return Problem("model", f"{given!r:.80} cannot be called.", remedy)
    return None


def _remedy(given: str | os.PathLike[str]) -> str:
    text = os.fspath(given)
    if text.endswith(".pt2"):
        return f"Write eksml.batches.torch_module({text!r}, input='…', sha256='…')."
    if text.endswith((".safetensors", ".pt", ".pth")):
        return f"Write eksml.batches.torch_module(build_net, weights={text!r}, input='…')."
    if text.startswith(("http://", "https://")):
        return f"Write eksml.batches.endpoint({text!r}, model='…', prompt='…')."
    return f"Write eksml.batches.llm({text!r}, prompt='…')."


def _is_network(given: Any) -> bool:
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    if isinstance(given, type):
        return issubclass(given, torch.nn.Module)
    return isinstance(given, torch.nn.Module) or is_program(given)
