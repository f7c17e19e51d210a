"""Whether a model fits into its devices' memory: weights, and the KV cache at the asked context.

What is counted is a lower bound: activations, graphs and the runtime come on top. So a model that
is refused cannot start; one that is just accepted may still not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.errors import Problem
from eksml.llm.shape import DTYPE_BYTES, Shape

if TYPE_CHECKING:
    from eksml.cluster.catalogue import Instance
    from eksml.serving.profiles import Settings
    from eksml.serving.spec import ModelSpec

UTILIZATION = 0.92
"""vLLM's default for ``gpu_memory_utilization``, from 0.30 on."""
_KV_BYTES = {"fp8": 1.0, "int8": 1.0, "int4": 0.5, "nvfp4": 0.5, "turboquant_4": 0.5}
"""Bytes of a number in the cache, by how vLLM's names of its dtypes begin."""


@dataclass(frozen=True)
class Need:
    """What one device has to hold of a model, in bytes."""

    weights: int
    kv_token: int
    """The KV cache for one token of a short sequence."""
    kv_sequence: int
    """The KV cache for one sequence of ``context`` tokens."""
    context: int
    """Longest prompt and answer together, in tokens."""
    may_shrink: bool
    """Whether vLLM is to choose a shorter context if that one does not fit."""


@dataclass(frozen=True)
class Room:
    """What one device has for a model, in bytes."""

    memory: int
    """All of its memory."""
    budget: int
    """What vLLM may use of it, weights included."""
    cache: int | None
    """What the KV cache may take, where that is said; None: what the weights leave."""
    where: str
    """As people know the device: ``a GPU of g6.12xlarge``."""

    def for_cache(self, need: Need) -> int:
        """Bytes for the KV cache beside the weights; less than none if they do not fit."""
        left = self.budget - need.weights
        return left if self.cache is None else min(left, self.cache)

    def sequences(self, need: Need) -> float:
        """How many sequences of full length fit at once."""
        return max(0.0, self.for_cache(need) / max(1, need.kv_sequence))


def dtype_bytes(engine: dict[str, Any]) -> int:
    """Bytes of a number that is computed with."""
    return DTYPE_BYTES.get(str(engine.get("dtype", "auto")), 2)


def need_of(model: ModelSpec, settings: Settings, shape: Shape, weights: int) -> Need:
    """What each device holds.

    Args:
        model: How the model is split over devices.
        settings: Of the model.
        shape: Of the model.
        weights: Bytes of all weights together as they are stored; they are dealt out evenly.
    """
    engine, asked = settings.engine, settings.engine.get("max_model_len")
    context = asked if isinstance(asked, int) and asked > 0 else shape.context
    # Many embedding models keep nothing between tokens
    size = _kv_dtype_bytes(engine) if model.task == "generate" else 0.0
    split = (model.tensor_parallel, model.pipeline_parallel)
    loaded = int(weights * _shrunk(engine, shape)) // model.devices
    return Need(
        weights=max(0, loaded - int(engine.get("cpu_offload_gb", 0) * 2**30)),
        kv_token=shape.kv_bytes(1, size, *split),
        kv_sequence=shape.kv_bytes(context, size, *split),
        context=context,
        may_shrink=asked == -1,
    )


def room_of(memory: int, settings: Settings, where: str) -> Room:
    """What a device with so much memory has for a model."""
    share = settings.engine.get("gpu_memory_utilization", UTILIZATION)
    cache = settings.engine.get("kv_cache_memory_bytes")
    return Room(memory, int(memory * share) if cache is None else memory, cache, where)


def device_memory(instance: Instance, device: str) -> int | None:
    """Bytes of one device of an instance type; None if it has no such device.

    Of Neuron a device is a core as Ray counts them; a CPU engine has the whole machine.
    """
    if device == "gpu":
        return instance.gpu.memory_bytes if instance.gpu else None
    if device == "neuron":
        found = instance.neuron
        return found.memory_bytes * found.devices // found.cores if found else None
    return instance.memory_bytes


def fit_problems(need: Need, room: Room) -> Iterator[Problem]:
    """Why a model cannot start there, with the numbers and what to change."""
    if need.weights >= room.budget:
        yield Problem(
            "source",
            f"{gib(need.weights)} of weights a device do not fit into {gib(room.budget)}, which "
            f"is what vLLM may use of {room.where} ({gib(room.memory)}).",
            "Raise tensor_parallel, use a quantized model, or larger devices.",
        )
        return
    free = room.for_cache(need)
    if need.kv_sequence <= free or need.may_shrink:
        return
    fits = int(need.context * free / need.kv_sequence)
    yield Problem(
        "engine.max_model_len",
        f"a sequence of {need.context:,} tokens takes {gib(need.kv_sequence)} of KV cache on each "
        f"device; beside {gib(need.weights)} of weights, {room.where} has {gib(free)} for it.",
        f"Set it to {fits:,} or less, or {_more_room(room)}.",
    )


def _more_room(room: Room) -> str:
    if room.cache is not None:
        return "raise engine.kv_cache_memory_bytes"
    return "raise tensor_parallel, or set engine.kv_cache_dtype to 'fp8'"


def _shrunk(engine: dict[str, Any], shape: Shape) -> float:
    """What loading makes of stored weights: vLLM can quantize those that are not."""
    if shape.linear_bits is not None or not engine.get("quantization"):
        return 1.0
    return 0.25 if engine["quantization"] == "bitsandbytes" else 0.5


def _kv_dtype_bytes(engine: dict[str, Any]) -> float:
    name = str(engine.get("kv_cache_dtype", "auto"))
    for start, size in _KV_BYTES.items():
        if name.startswith(start):
            return size
    return dtype_bytes(engine)


def gib(size: int) -> str:
    """For people."""
    return f"{size / 2**30:,.2f} GiB"
