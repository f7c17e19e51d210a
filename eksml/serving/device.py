"""What a model computes on, where nobody has said it."""

from __future__ import annotations

from eksml.llm.installed import installed_device
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
