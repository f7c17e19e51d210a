"""vLLM's engine arguments by profile and device, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from eksml.llm.engine_arguments import ON_CPU, Device
from eksml.serving.spec import ModelSpec, Profile

GIB = 2**30

Origin = Literal["profile", "user", "eksml"]

_SLOTS: dict[Profile, dict[Device, int]] = {
    "latency": {"gpu": 64, "neuron": 8, "cpu": 32},
    "throughput": {"gpu": 512, "neuron": 32, "cpu": 128},
}
_SLOTS_WHY: dict[Profile, str] = {
    "latency": "each further request in a step makes all others' tokens later",
    "throughput": "weights are read once a step, however many requests share it",
}
_NEURON_WHY = "a graph is compiled for each batch size up to it; padding costs what requests do"
_STEP_TOKENS: dict[Profile, dict[Device, int]] = {
    "latency": {"gpu": 2048, "cpu": 512},
    "throughput": {"gpu": 8192, "cpu": 4096},
}
# docs.vllm.ai/en/stable/configuration/optimization: about 2,048 for the time between tokens, more
# than 8,192 for throughput
_STEP_TOKENS_WHY: dict[Profile, str] = {
    "latency": "small pieces of a long prompt hold up the others' next token less",
    "throughput": "large pieces of prompts use the device better; tokens come in larger gaps",
}
_KV_GIB: dict[Profile, int] = {"latency": 1, "throughput": 4}


@dataclass(frozen=True)
class Choice:
    """A setting's value, who chose it, and why."""

    value: Any
    origin: Origin
    why: str


def engine_choices(model: ModelSpec, device: Device) -> dict[str, Choice]:
    """``engine.<argument>`` → what it is set to: the profile's, eksml's, the user's, the last
    winning."""
    made = dict(_profile(model, device)) | dict(_always(model))
    if device == "cpu":
        made |= dict(_on_cpu(model.profile))
    given = {name: Choice(value, "user", "") for name, value in model.engine.items()}
    return {f"engine.{name}": choice for name, choice in (made | given).items()}


def _profile(model: ModelSpec, device: Device) -> Iterator[tuple[str, Choice]]:
    profile = model.profile
    why = _NEURON_WHY if device == "neuron" else _SLOTS_WHY[profile]
    yield "max_num_seqs", Choice(_SLOTS[profile][device], "profile", why)
    if model.task != "generate" or device == "neuron":
        return  # many embedding models, and Neuron, cannot take a prompt in pieces
    tokens = _STEP_TOKENS[profile][device]
    yield "max_num_batched_tokens", Choice(tokens, "profile", _STEP_TOKENS_WHY[profile])
    why = "a long prompt is computed in pieces between the others' tokens"
    yield "enable_chunked_prefill", Choice(True, "profile", why)
    why = "a beginning that was computed before, such as a system prompt, costs nothing"
    yield "enable_prefix_caching", Choice(True, "profile", why)


def _always(model: ModelSpec) -> Iterator[tuple[str, Choice]]:
    why = "other forms of weights can run code when they are loaded"
    yield "load_format", Choice("safetensors", "eksml", why)
    yield "use_tqdm_on_load", Choice(False, "eksml", "logs are for operators")
    if model.task == "embed":
        yield "runner", Choice("pooling", "eksml", "follows from task")
    else:
        why = "offline requests (/v1/batches) take only what online ones leave"
        yield "scheduling_policy", Choice("priority", "eksml", why)
    if model.devices > 1:
        yield "tensor_parallel_size", Choice(model.tensor_parallel, "user", "")
        yield "pipeline_parallel_size", Choice(model.pipeline_parallel, "user", "")
        why = "all devices of an engine are its replica's"
        yield "distributed_executor_backend", Choice("mp", "eksml", why)


def _on_cpu(profile: Profile) -> Iterator[tuple[str, Choice]]:
    whys = {
        "dtype": "half the memory and traffic of float32; CPUs that lack it convert",
        "enforce_eager": "there is no graph to capture; compiling takes longer than it saves",
    }
    for name, value in ON_CPU.items():
        yield name, Choice(value, "eksml", whys[name])
    size = _KV_GIB[profile]
    why = f"{size} GiB; vLLM would take all that is free, which Ray's other processes need"
    yield "kv_cache_memory_bytes", Choice(size * GIB, "profile", why)
