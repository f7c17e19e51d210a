"""What is wrong with a served model beyond its specification: files, vLLM's arguments, memory.

Everything is told before anything starts. What cannot be known here (a name on a hub that is not in
the cache, an accelerator that is elsewhere) is left out, not guessed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from eksml.errors import InvalidSpec, Problem, StorageError
from eksml.llm import model_folder
from eksml.llm.shape import Shape, shape_of
from eksml.llm.weights import weight_bytes
from eksml.serving.arguments import FRONTEND
from eksml.serving.config import on_cluster
from eksml.serving.fit import Need, Room, device_memory, dtype_bytes, fit_problems, need_of, room_of
from eksml.serving.profiles import Settings, settings_of

if TYPE_CHECKING:
    from eksml.cluster import Cluster
    from eksml.serving.spec import ModelSpec, ServeSpec


def problems_of(spec: ServeSpec, cluster: Cluster | None = None) -> list[Problem]:
    """All that is wrong with the models, each problem's path beginning with ``models.<n>``.

    Args:
        spec: What is to be served.
        cluster: Where; None: on this machine, as far as CPUs are concerned.
    """
    return [
        Problem(f"models.{number}.{found.path}", found.message, found.remedy)
        for number, model in enumerate(spec.models)
        for found in model_problems(model, cluster)
    ]


def model_problems(model: ModelSpec, cluster: Cluster | None = None) -> Iterator[Problem]:
    """The same for one model."""
    model = model if cluster is None else on_cluster(model, cluster)
    settings = settings_of(model)
    yield from _pace_problems(settings)
    if importlib.util.find_spec("vllm") is not None:
        from eksml.llm.engine_arguments import vllm_problems

        given = {name: value for name, value in model.engine.items() if name not in FRONTEND}
        yield from vllm_problems(given)
    for name, place in model.adapters.items():
        try:
            yield from model_folder.adapter_problems(name, place)
        except (StorageError, InvalidSpec) as error:
            yield Problem(f"adapters.{name}", str(error))
    try:
        yield from _source_problems(model, settings, cluster)
    except (StorageError, InvalidSpec) as error:
        yield Problem("source", str(error))


def need_on_disk(model: ModelSpec, settings: Settings) -> Need | None:
    """What each device has to hold of a model, by its files; None if that cannot be known here.

    Raises:
        StorageError: They cannot be read.
    """
    folder = folder_of(model.source)
    if folder is None:
        return None
    shape = shape_of(model_folder.read_json(folder, "config.json"))
    return None if shape is None else _need(model, settings, folder, shape)


def folder_of(source: str) -> str | None:
    """Where a model's files are: its folder, or the hub's cache on this machine; None: nowhere."""
    if model_folder.is_place(source):
        return source
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, "config.json")
    return found.rpartition("/")[0] if isinstance(found, str) else None


def rooms(model: ModelSpec, settings: Settings, cluster: Cluster | None) -> Iterator[Room]:
    """What one device has on each kind of machine that could take a replica, as far as is known.

    Args:
        model: Its ``device`` is said.
        settings: Of the model.
        cluster: Where; None: this machine.
    """
    device = model.device
    if device is None:
        return
    shares = model.devices if device == "cpu" else 1  # the parts of an engine share the memory
    if cluster is None:
        if (memory := _machine_memory(device)) is not None:
            yield room_of(memory // shares, settings, "this machine")
        return
    from eksml.cluster.catalogue import instance

    for name in dict.fromkeys(name for group in cluster.groups for name in group.instances):
        if (memory := device_memory(instance(name), device)) is not None:
            where = name if device == "cpu" else f"a {device} of {name}"
            yield room_of(memory // shares, settings, where)


def _source_problems(
    model: ModelSpec, settings: Settings, cluster: Cluster | None
) -> Iterator[Problem]:
    if model_folder.is_place(model.source):
        files = model_folder.files_of(model.source)
        assert files is not None
        if incomplete := list(model_folder.model_problems(model.source, files)):
            yield from incomplete
            return
    folder = folder_of(model.source)
    shape = shape_of(model_folder.read_json(folder, "config.json")) if folder else None
    if folder is None or shape is None:
        return
    yield from _context_problems(settings, shape)
    need = _need(model, settings, folder, shape)
    fits = [(room, list(fit_problems(need, room))) for room in rooms(model, settings, cluster)]
    if fits and all(problems for _, problems in fits):
        _, nearest = max(fits, key=lambda pair: pair[0].budget)
        yield from nearest


def _need(model: ModelSpec, settings: Settings, folder: str, shape: Shape) -> Need:
    files, size = model_folder.files_of(folder) or {}, dtype_bytes(settings.engine)
    stored = weight_bytes(folder, files, size) or shape.weight_bytes(size)
    return need_of(model, settings, shape, stored)


def _pace_problems(settings: Settings) -> Iterator[Problem]:
    tokens = settings.engine.get("max_num_batched_tokens")
    if isinstance(tokens, int) and tokens < settings.slots:
        told = f"{tokens:,} is less than max_num_seqs, {settings.slots:,}, each of which takes one."
        yield Problem("engine.max_num_batched_tokens", told, "Raise it, or lower max_num_seqs.")


def _context_problems(settings: Settings, shape: Shape) -> Iterator[Problem]:
    asked = settings.engine.get("max_model_len")
    if isinstance(asked, int) and asked > shape.context and "hf_overrides" not in settings.engine:
        told = f"{asked:,} tokens are more than the {shape.context:,} that the model was made for."
        yield Problem("engine.max_model_len", told, "Ask for less.")


def _machine_memory(device: str) -> int | None:
    """Bytes of a device of this machine, or of the machine for CPUs; None where it is not known."""
    if device == "cpu":
        import psutil

        return int(psutil.virtual_memory().total)
    if device == "neuron" or importlib.util.find_spec("vllm") is None:
        return None
    from eksml.llm.installed import installed_device

    if installed_device() != device:
        return None
    from vllm.platforms import current_platform

    try:
        return int(current_platform.get_device_total_memory())  # by NVML, without using the GPU
    except (RuntimeError, NotImplementedError):
        return None
