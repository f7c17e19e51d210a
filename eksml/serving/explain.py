"""Every setting of a model as rows for people: its value, who chose it, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eksml.serving.fit import Need, Room, gib
from eksml.serving.profile_engine import Choice
from eksml.serving.profiles import Settings
from eksml.serving.routing import MOST_LOAD

COLUMNS = ("setting", "value", "from", "why")

_LEFT_TO_VLLM = {
    "max_model_len": "the model's own context; less leaves room for more requests at once",
    "dtype": "as the weights are stored",
    "kv_cache_dtype": "as dtype; fp8 holds twice as many tokens",
    "gpu_memory_utilization": "0.92 of each device; the rest is for others on it",
}
"""Engine arguments that people change most, where neither they nor the profile say anything."""
_ROUTER = Choice(
    "prefix",
    "eksml",
    "a replica that has a prompt's beginning skips it, and none gets more than "
    f"{MOST_LOAD - 100} % above its share; holds for all models of one Serve",
)


def rows(settings: Settings) -> Iterator[tuple[str, str, str, str]]:
    """A row for each setting: vLLM's arguments first, then what eksml and Serve go by."""
    for name, choice in _choices(settings):
        why = choice.why or "you said so"
        yield name, _shown(choice.value), choice.origin, why
    for name, why in _LEFT_TO_VLLM.items():
        if name not in settings.engine:
            yield f"engine.{name}", "", "default", why


def memory_rows(need: Need, room: Room | None) -> Iterator[tuple[str, str, str, str]]:
    """Rows on what a device has to hold, and how many full sequences fit."""
    why = "of each device; activations and graphs come on top"
    yield "memory.weights", gib(need.weights), "model", why
    why = f"KV cache of one sequence of {need.context:,} tokens, {need.kv_token:,} bytes a token"
    yield "memory.sequence", gib(need.kv_sequence), "model", why
    if room is None:
        return
    if need.weights >= room.budget:
        yield "memory.sequences", "0", room.where, f"weights exceed {gib(room.budget)}"
    elif need.kv_sequence:
        why = f"full-length sequences at once, in {gib(room.for_cache(need))} of KV cache"
        yield "memory.sequences", f"{room.sequences(need):.1f}", room.where, why


def as_json(settings: Settings) -> dict[str, Any]:
    """The same for machines: name → value, origin and reason."""
    return {
        name: {"value": choice.value, "from": choice.origin, "why": choice.why}
        for name, choice in _choices(settings)
    }


def _choices(settings: Settings) -> Iterator[tuple[str, Choice]]:
    yield from settings.choices.items()
    yield "router", _ROUTER


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)
