"""Arguments of vLLM's engine: what a user may say, what eksml says, and what holds otherwise."""

from __future__ import annotations

import difflib
import sys
import typing
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

from eksml.errors import Problem

Device = Literal["cpu", "gpu", "neuron"]

SLOTS = {"cpu": 256, "gpu": 1024, "neuron": 256}
"""Upper bounds of what vLLM sets as ``max_num_seqs`` by itself (1,024 on the largest GPUs)."""
ON_CPU: dict[str, Any] = {"dtype": "bfloat16", "enforce_eager": True}
"""There is nothing to capture, and compiling takes longer than it saves."""

OURS = {
    "model": "Give it as source.",
    "runner": "It follows from task.",
    "enable_lora": "It follows from adapters.",
    "max_loras": "It follows from adapters.",
    "hf_token": "Set HF_TOKEN in the environment: secrets do not belong into records.",
    "nnodes": "An engine runs on one node.",
}
"""What cannot be said as an engine argument, and what to do."""

PACE = frozenset(
    {
        *("max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "enforce_eager"),
        *("tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend"),
        *(
            "enable_prefix_caching",
            "kv_cache_memory_bytes",
            "download_dir",
            "num_gpu_blocks_override",
        ),
    }
)
"""What decides on the speed and not on the answers: a run may go on with other values."""


def static_problems(
    given: Mapping[str, Any], also: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Problem]:
    """What is wrong with engine arguments and can be seen without vLLM.

    Args:
        given: The arguments.
        also: Names that cannot be said either, beside ``OURS`` → what to do.
    """
    for name, remedy in {**OURS, **also}.items():
        if name in given:
            yield Problem(f"engine.{name}", "cannot be set here.", remedy)
    if given.get("distributed_executor_backend") == "ray":
        what = "'ray' would place parts of the engine outside of the worker."
        yield Problem("engine.distributed_executor_backend", what, "Leave it out, or say 'mp'.")
    for name in ("max_num_seqs", "tensor_parallel_size", "pipeline_parallel_size"):
        if isinstance(given.get(name), int) and given[name] < 1:
            yield Problem(f"engine.{name}", f"{given[name]} is less than one.")


def accelerators(given: Mapping[str, Any]) -> int:
    """How many accelerators one engine takes."""
    sizes = (given.get("tensor_parallel_size"), given.get("pipeline_parallel_size"))
    return (sizes[0] or 1) * (sizes[1] or 1)


def complete(given: Mapping[str, Any], device: Device) -> dict[str, Any]:
    """The engine arguments with eksml's defaults below those of the user."""
    defaults: dict[str, Any] = {"load_format": "safetensors", "use_tqdm_on_load": False}
    if device == "cpu":
        defaults |= ON_CPU
    if accelerators(given) > 1:
        defaults["distributed_executor_backend"] = "mp"
    return defaults | dict(given) | {"disable_log_stats": True}


def vllm_problems(given: Mapping[str, Any]) -> Iterator[Problem]:
    """Names that the installed vLLM does not have and values of another type than it wants."""
    import dataclasses

    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {field.name: field for field in dataclasses.fields(AsyncEngineArgs)}
    for name, value in given.items():
        if name not in known:
            yield unknown(f"engine.{name}", name, known)
        elif (told := _type_problem(known[name], value)) is not None:
            yield Problem(f"engine.{name}", told)


def unknown(path: str, name: str, known: Collection[str]) -> Problem:
    """The problem of a name that vLLM does not know, with the nearest one that it does."""
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else "See vLLM's documentation for the names."
    return Problem(path, "is unknown to the installed vLLM.", remedy)


def _type_problem(field: Any, value: Any) -> str | None:
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
    from vllm.engine.arg_utils import AsyncEngineArgs

    try:
        holder = type("Holder", (), {"__annotations__": {field.name: field.type}})
        names = vars(sys.modules[AsyncEngineArgs.__module__])
        hint = typing.get_type_hints(holder, names, include_extras=True)[field.name]
        TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        return f"{value!r:.80}: {message[:1].lower()}{message[1:]}."
    except (NameError, PydanticSchemaGenerationError):
        return None  # a type that only vLLM itself can check, when it starts
    return None
