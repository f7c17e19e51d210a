"""Language models through vLLM: text, embeddings, classes and scores for rows of a table."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from eksml.batches.models import llm_adapters, llm_checks, sampling
from eksml.batches.models.base import Sizing
from eksml.batches.models.columns import missing
from eksml.batches.models.fingerprint import fingerprint
from eksml.batches.models.pictures import Pictures
from eksml.batches.models.prompts import FromFunction, FromMessages, Prompts, Template
from eksml.batches.models.structured import Form, schema_of
from eksml.cluster.problems import Refused, Spec
from eksml.errors import InvalidSpec, Problem, StorageError
from eksml.llm import engine_arguments, model_folder
from eksml.runs.call import entry_name

if TYPE_CHECKING:
    import pyarrow as pa

    from eksml.batches.models.llm_loaded import LoadedLLM
    from eksml.batches.models.llm_work import Work
    from eksml.batches.models.vllm_engine import Engine

Task = Literal["generate", "embed", "classify", "score"]

MIN_ROWS_PER_BLOCK = 64
PICTURES_AT_ONCE = 64
"""Of one block: what a model makes of a picture can be a hundred times as large as its file."""
OUTPUT = {
    "generate": "generated_text",
    "embed": "embedding",
    "classify": "probabilities",
    "score": "score",
}
"""Name of the new column unless another is given."""


class LLM(Spec):
    """A language model and what is asked of it. Made by :func:`eksml.batches.models.llm`."""

    source: str = Field(min_length=1)
    """A local folder, ``s3://bucket/folder``, or a name on the Hugging Face hub."""
    task: Task = "generate"
    """What is wanted for each row."""
    prompt: str | Callable[..., Any] | None = None
    """A template, or a function of the row."""
    messages_column: str | None = None
    """Column with conversations."""
    pair: tuple[str, str] | None = None
    """For ``score``: the columns of query and document."""
    image_column: str | None = None
    """Column with a picture to each prompt."""
    chat: bool | None = None
    """Whether a prompt is a user's message in the model's chat template; None where it has one."""
    system: str | None = None
    """System message of every conversation."""
    sampling: dict[str, Any] = Field(default_factory=dict)
    """vLLM's sampling parameters, over ``sampling.DEFAULT``."""
    sampling_column: str | None = None
    """Column with a row's own, over those: struct, map or JSON text."""
    json_schema: dict[str, Any] | None = None
    """Answers are JSON of this schema."""
    regex: str | None = None
    """Answers match this expression."""
    choices: tuple[str, ...] | None = None
    """Answers are one of these."""
    json_tries: int = Field(default=1, ge=0, le=10)
    """Times that an answer which breaks ``json_schema``, ``regex`` or ``choices`` is asked
    again."""
    adapters: dict[str, str] = Field(default_factory=dict)
    """LoRA adapters: name → folder or URI."""
    adapter: str | None = None
    """The adapter of rows that name none."""
    adapter_column: str | None = None
    """Column with the name of a row's adapter; null for ``adapter``."""
    output: str | None = Field(default=None, min_length=1)
    """Name of the new column."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """vLLM's engine arguments."""
    device: engine_arguments.Device | None = None
    """What it computes on; None until the cluster is known, and then an accelerator."""

    @model_validator(mode="before")
    @classmethod
    def _read_schema(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "json_schema" in given:
            return {**given, "json_schema": schema_of(given["json_schema"])}
        return given

    @model_validator(mode="after")
    def _check(self) -> LLM:
        if problems := list(llm_checks.problems(self)):
            raise Refused(problems)
        return self

    @property
    def column(self) -> str:
        """Name of the new column."""
        return self.output or OUTPUT[self.task]

    @property
    def rows_at_once(self) -> int | None:
        """Rows of a block that are held ready for the engine; None for all."""
        return None if self.image_column is None else PICTURES_AT_ONCE

    def on(self, device: engine_arguments.Device) -> LLM:
        """The same model on a certain kind of device."""
        return self.model_copy(update={"device": device})

    def describe(self) -> dict[str, Any]:
        """What decides on the output: not the device and what only makes the engine faster."""
        fields = self.model_dump(exclude={"device", "prompt", "engine"})
        engine = {
            name: value for name, value in self.engine.items() if name not in engine_arguments.PACE
        }
        return {
            "kind": "llm",
            "name": self.source,
            **fields,
            "prompt": self.prompt
            if isinstance(self.prompt, str | None)
            else {
                "function": entry_name(self.prompt),
                "fingerprint": fingerprint(self.prompt),
            },
            "engine": fingerprint(engine) if engine else None,
            "files": self._files_digest(),
        }

    def check(self, schema: pa.Schema) -> list[Problem]:
        """Columns that are missing, what the model's and adapters' folders lack, a context longer
        than the model's; and, where vLLM is installed, names and values that it does not take."""
        problems = [
            *missing(self._prompts().columns() if self.pair is None else (), schema, "prompt"),
            *missing(self.pair or (), schema, "pair"),
        ]
        for path in ("sampling_column", "adapter_column", "image_column"):
            problems += missing([name] if (name := getattr(self, path)) else [], schema, path)
        if self.image_column is not None:
            problems += Pictures(self.image_column).problems(schema)
        if callable(self.prompt):
            problems += llm_checks.travel_problems(self.prompt)
        problems += llm_checks.folder_problems(self)
        if (self.engine or self.sampling) and importlib.util.find_spec("vllm") is not None:
            problems += engine_arguments.vllm_problems(self.engine)
            problems += sampling.vllm_problems(self.sampling)
        return problems

    def sizing(self) -> Sizing:
        """On accelerators as many as one engine spans; on CPUs one, of which vLLM takes all cores
        of the machine that it may. Twice the engine's slots are kept in flight."""
        device = self.device or "gpu"
        slots = self.engine.get("max_num_seqs") or engine_arguments.SLOTS[device]
        resources = {"CPU": 1.0}
        if device == "gpu":
            resources["GPU"] = float(engine_arguments.accelerators(self.engine))
        return Sizing(resources, 2 * slots, MIN_ROWS_PER_BLOCK, one_per_node=device == "cpu")

    def load(self) -> LoadedLLM:
        """Fetch the model and start its engine.

        Raises:
            MissingExtra: vLLM is not installed.
            InvalidSpec: It does not start, or the model cannot do this task.
            NotFound, AccessDenied, StorageUnavailable, Damaged: The model cannot be fetched.
        """
        from eksml.batches.models import vllm_start
        from eksml.batches.models.llm_loaded import LoadedLLM
        from eksml.llm.installed import check_installed, installed_device

        began = time.perf_counter()
        device = self.device or installed_device()
        check_installed(device)
        adapters = llm_adapters.Adapters(self.adapters, self.adapter, self.adapter_column)
        arguments = {
            **adapters.engine_arguments(device),
            **engine_arguments.complete(self.engine, device),
            "model": model_folder.fetch(self.source),
            "runner": "generate" if self.task == "generate" else "pooling",
        }
        engine = vllm_start.start(arguments, device)
        try:
            work = self.work_on(engine, adapters)
        except BaseException:
            engine.close()
            raise
        threads = max(1, 2 * engine.slots // MIN_ROWS_PER_BLOCK)
        load_s = time.perf_counter() - began
        at_once = self.rows_at_once
        return LoadedLLM(
            engine, work, self.column, threads=threads, load_s=load_s, rows_at_once=at_once
        )

    def work_on(self, engine: Engine, adapters: llm_adapters.Adapters) -> Work:
        """What is asked of a running engine.

        Raises:
            InvalidSpec: The model cannot do this task.
        """
        from eksml.batches.models.llm_work import Generation, Pooling, Scoring
        from eksml.batches.models.vllm_scoring import scorer

        tasks = engine.tasks()
        if self.task == "score":
            assert self.pair is not None
            return Scoring(scorer(engine, tasks), self.pair)
        if self.task not in tasks:
            told = f"The model cannot {self.task}; it can {', '.join(tasks)}."
            remedy = "vLLM's engine argument convert may help." if self.task != "generate" else ""
            raise InvalidSpec([Problem("task", told, remedy)], "the model")
        if self.image_column is not None and not engine.sees():
            told = f"{self.source} takes no images."
            remedy = "Use a vision model, or leave image_column out."
            raise InvalidSpec([Problem("image_column", told, remedy)], "the model")
        if self.task != "generate":
            return Pooling(engine, self._prompts(), adapters, self.task)
        return Generation(
            engine,
            self._prompts(),
            sampling.Sampling(self.sampling, self.form()),
            adapters,
            sampling_column=self.sampling_column,
            form=self.form(),
            tries=self.json_tries,
            chat=self._chats(engine.has_chat_template()),
            system=self.system,
            pictures=None if self.image_column is None else Pictures(self.image_column),
        )

    def _chats(self, can: bool) -> bool:
        given = (self.messages_column, self.system, self.image_column)
        wanted = self.chat or any(one is not None for one in given)
        if wanted and not can:
            told = f"The tokenizer of {self.source} has no chat template."
            remedy = "Leave out chat, system, messages_column, image_column, or give it one."
            raise InvalidSpec([Problem("chat", told, remedy)], "the model")
        return can if self.chat is None else self.chat

    def _prompts(self) -> Prompts:
        if self.messages_column is not None:
            return FromMessages(self.messages_column)
        assert self.prompt is not None
        return Template(self.prompt) if isinstance(self.prompt, str) else FromFunction(self.prompt)

    def form(self) -> Form:
        """What answers must look like."""
        return Form(self.json_schema, self.regex, self.choices)

    def _files_digest(self) -> str | None:
        try:
            files = model_folder.files_of(self.source)
            adapters = {name: model_folder.files_of(at) for name, at in self.adapters.items()}
        except StorageError:
            return None  # told by check
        return None if files is None else fingerprint((files, adapters))
