"""What can be wrong with a language model and with what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from eksml.batches.blocks import INTERNAL
from eksml.batches.models import llm_adapters, sampling
from eksml.batches.models.prompts import Template
from eksml.errors import CallError, InvalidSpec, Problem, StorageError
from eksml.llm import engine_arguments, model_folder
from eksml.runs.pickling import check_picklable

if TYPE_CHECKING:
    from eksml.batches.models.llm_spec import LLM

ONLY_GENERATE = (
    *("messages_column", "image_column", "chat", "system", "sampling", "sampling_column"),
    *("json_schema", "regex", "choices"),
)
"""Fields that say how text is generated."""
NOT_IN_A_BATCH = {
    "disable_log_stats": "eksml counts by itself.",
    "enable_log_requests": "A batch has too many.",
    "data_parallel_size": "More workers do the same, and lose less when one dies.",
}
"""Engine arguments that cannot be said → what to do."""
PROCESSORS = frozenset({"preprocessor_config.json", "processor_config.json"})
"""One of them says how a vision model takes images."""


def problems(model: LLM) -> Iterator[Problem]:
    """What can be seen without looking at any file."""
    yield from _asking_problems(model)
    yield from model.form().problems()
    yield from engine_arguments.static_problems(model.engine, NOT_IN_A_BATCH)
    if model.device == "neuron":
        yield Problem("device", "'neuron' cannot compute batches yet.", "Use gpu or cpu.")
    yield from sampling.static_problems(model.sampling)
    yield from llm_adapters.name_problems(model.adapters, model.adapter)
    if model.adapters and not (model.adapter or model.adapter_column):
        yield Problem("adapters", "are used by no row.", "Give adapter or adapter_column.")
    if model.adapter_column and not model.adapters:
        yield Problem("adapter_column", "has no adapters to name.", "Give adapters.")
    if model.column in INTERNAL:
        yield Problem("output", f"{model.column!r} is eksml's own name.", "Choose another.")
    if model.task != "generate":
        for name in ONLY_GENERATE:
            if getattr(model, name) not in (None, {}):
                yield Problem(name, f"has no effect where the task is {model.task!r}.")


def _asking_problems(model: LLM) -> Iterator[Problem]:
    ways = {"prompt": model.prompt, "messages_column": model.messages_column, "pair": model.pair}
    given = [name for name, value in ways.items() if value is not None]
    wanted = ["pair"] if model.task == "score" else ["prompt", "messages_column"]
    if len(given) != 1 or given[0] not in wanted:
        told = f"{' and '.join(given)} given." if given else "is missing."
        yield Problem(wanted[0], told, f"For {model.task!r}, give {' or '.join(wanted)}.")
    if isinstance(model.prompt, str):
        pictures = model.image_column is not None
        yield from Template(model.prompt).problems("prompt", pictures=pictures)
    if model.system is not None and model.chat is False:
        yield Problem("system", "has no effect where chat is False.")
    if model.image_column is not None and model.chat is False:
        told = "needs the model's chat template, which says where a picture goes."
        yield Problem("image_column", told, "Leave chat out.")


def travel_problems(function: Any) -> Iterator[Problem]:
    """Why a prompt function cannot be sent to workers."""
    try:
        check_picklable(function)
    except CallError as error:
        yield Problem("prompt", str(error))


def folder_problems(model: LLM) -> Iterator[Problem]:
    """What the model's and the adapters' folders lack, and a context longer than the model's."""
    try:
        files = model_folder.files_of(model.source)
        if files is not None:
            yield from model_folder.model_problems(model.source, files)
            yield from _context_problems(model)
            if model.image_column is not None and not PROCESSORS.intersection(files):
                told = f"{model.source} has no processor for images ({', '.join(PROCESSORS)})."
                remedy = "Save it there: processor.save_pretrained(folder)."
                yield Problem("source", told, remedy)
    except (StorageError, InvalidSpec) as error:
        yield Problem("source", str(error))
    for name, place in model.adapters.items():
        try:
            yield from model_folder.adapter_problems(name, place)
        except (StorageError, InvalidSpec) as error:
            yield Problem(f"adapters.{name}", str(error))


def _context_problems(model: LLM) -> Iterator[Problem]:
    config = model_folder.read_json(model.source, "config.json")
    config = config.get("text_config") or config  # where it is one part of a vision model
    longest = config.get("max_position_embeddings")
    asked = model.engine.get("max_model_len")
    if not isinstance(longest, int):
        return
    if isinstance(asked, int) and asked > longest and "hf_overrides" not in model.engine:
        told = f"{asked:,} tokens are more than the {longest:,} that the model was made for."
        yield Problem("engine.max_model_len", told, "Ask for less.")
    context = min(longest, asked) if isinstance(asked, int) and asked > 0 else longest
    most = model.sampling.get("max_tokens")
    if isinstance(most, int) and most >= context:
        told = f"{most:,} leaves no room for a prompt in a context of {context:,} tokens."
        yield Problem("sampling.max_tokens", told, "Ask for less.")
