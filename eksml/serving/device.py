"""What a model computes on, and where it lies, where nobody has said it."""

from __future__ import annotations

from eksml.llm.installed import installed_device
from eksml.registry import place_of
from eksml.serving.spec import ModelSpec


def on_device(model: ModelSpec) -> ModelSpec:
    """With its device said: where none is, what the installed vLLM computes on.

    Imports vLLM, which takes seconds, unless the device is said.

    Raises:
        MissingExtra: vLLM is not installed.
    """
    if model.device is not None:
        return model
    return model.model_copy(update={"device": installed_device()})


def located(model: ModelSpec) -> ModelSpec:
    """With the places of its registered versions, as they are now.

    Raises:
        InvalidSpec, MissingExtra, NotFound, StorageUnavailable: One cannot be looked up.
    """
    adapters = {name: place_of(source) for name, source in model.adapters.items()}
    return model.model_copy(update={"source": place_of(model.source), "adapters": adapters})
