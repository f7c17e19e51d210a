"""What vLLM's engine must be told to take LoRA adapters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from eksml.errors import InvalidSpec, Problem
from eksml.llm.engine_arguments import Device
from eksml.llm.model_folder import read_json

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as ``max_lora_rank``."""
TOGETHER = 8
"""Adapters that one batch of an engine on accelerators may mix; each takes memory there."""


def lora_arguments(folders: Collection[str], device: Device) -> dict[str, Any]:
    """Engine arguments for the adapters in these folders; empty without any.

    Raises:
        InvalidSpec: An adapter's rank is more than vLLM takes.
        Damaged: An adapter's configuration is no JSON.
    """
    if not folders:
        return {}
    count = len(folders)
    # On CPUs vLLM 0.32 gives a request without adapter, beside some that have one, what is in the
    # last place (vllm-project/vllm#48421), which must stay empty therefore.
    places = count + 1 if device == "cpu" else min(count, TOGETHER)
    return {
        "enable_lora": True,
        "max_loras": places,
        "max_cpu_loras": places if device == "cpu" else count,
        "max_lora_rank": _rank(folders),
    }


def _rank(folders: Collection[str]) -> int:
    found = [read_json(folder, "adapter_config.json") for folder in folders]
    largest = max(int(config.get("r", RANKS[0])) for config in found)
    for rank in RANKS:
        if rank >= largest:
            return rank
    told = f"have a rank of {largest}; vLLM takes {RANKS[-1]} at most."
    raise InvalidSpec([Problem("adapters", told)], "the model")
