"""The function that makes a language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eksml.batches.models.llm_spec import LLM, Task
from eksml.llm.engine_arguments import Device
from eksml.registry import place_of


def llm(
    source: str,
    *,
    task: Task = "generate",
    prompt: str | Callable[[dict[str, Any]], Any] | None = None,
    messages_column: str | None = None,
    pair: tuple[str, str] | None = None,
    image_column: str | None = None,
    chat: bool | None = None,
    system: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    sampling_column: str | None = None,
    json_schema: Mapping[str, Any] | type | None = None,
    regex: str | None = None,
    choices: Sequence[str] | None = None,
    json_tries: int = 1,
    adapters: Mapping[str, str] | None = None,
    adapter: str | None = None,
    adapter_column: str | None = None,
    output: str | None = None,
    engine: Mapping[str, Any] | None = None,
    device: Device | None = None,
) -> LLM:
    """A language model, run by vLLM.

    >>> llm("Qwen/Qwen3-8B", prompt="Summarise: {text}", sampling={"max_tokens": 64})
    ...                                                             # doctest: +SKIP
    >>> llm("s3://models/judge", prompt="Is this spam? {mail}", choices=["yes", "no"])
    ...                                                             # doctest: +SKIP
    >>> llm("HuggingFaceTB/SmolVLM-256M-Instruct", prompt="What is it?", image_column="photo")
    ...                                                             # doctest: +SKIP
    >>> llm("minilm/", task="embed", prompt="{text}")               # doctest: +SKIP

    Rows that cannot be asked or answered become errors: a null in a column that the prompt names,
    bytes that are no image, a prompt longer than the context, sampling parameters that vLLM
    refuses, an unknown adapter, an answer that breaks its form. A prompt that fits is answered up
    to the end of the context, where ``max_tokens`` would go beyond it, as vLLM does.

    Args:
        source: A local folder or ``s3://bucket/folder`` as transformers saves it, with weights as
            safetensors, a name on the Hugging Face hub, or a version in MLflow's registry:
            ``models:/NAME/3``, ``models:/NAME@ALIAS``.
        task: ``generate`` gives text, ``embed`` and ``classify`` a list of float32, ``score`` one
            float32 for a pair of texts.
        prompt: ``"Summarise: {text}"`` with columns in braces (a literal brace is written twice),
            or a function that is given the row as a dictionary and returns text or a list of
            messages, ``{"role": …, "content": text}``.
        messages_column: Instead of a prompt: a column with lists of messages, or with JSON of it.
        pair: For ``score``: the columns of query and document.
        image_column: For vision models: a column with a picture to each prompt, null for none. An
            encoded image, its place (absolute, or ``s3://``), a struct with ``bytes`` and ``path``,
            or pixels as ``eksml.batches.images`` gives them. It goes in front of the prompt, or of
            the user's last message, as the model's chat template writes it.
        chat: Whether the prompt is what a user says in the model's chat template (True), or the
            text to go on from (False). Unless said, it is where the tokenizer has a template.
        system: System message in front of every conversation.
        sampling: vLLM's sampling parameters. Unless said, ``temperature`` is 0, so that the same
            run gives the same text again, and ``max_tokens`` is 128.
        sampling_column: Where a row has its own: a struct or map, or JSON text; null for none.
        json_schema: A JSON schema, or a pydantic class, that answers keep to.
        regex: An expression that answers match.
        choices: Texts, one of which is the answer.
        json_tries: Times that an answer which breaks one of these three, because it was cut or a
            schema says more than a grammar can, is asked for again, with other seeds and at a
            temperature of 0.7 or more.
        adapters: LoRA adapters by name, each a folder, URI or registered version.
        adapter: Which of them rows use that name none.
        adapter_column: Where rows name theirs.
        output: Name of the new column: ``generated_text``, ``embedding``, ``probabilities`` or
            ``score`` unless said. A column of that name in the input is replaced.
        engine: vLLM's engine arguments, such as ``max_model_len`` or ``tensor_parallel_size``.
        device: ``cpu`` or ``gpu``; unless said, what the cluster has.

    Raises:
        InvalidSpec: With everything that is wrong.
        MissingExtra, NotFound, StorageUnavailable: A registered version cannot be looked up.
    """
    return LLM(
        source=place_of(source),
        task=task,
        prompt=prompt,
        messages_column=messages_column,
        pair=pair,
        image_column=image_column,
        chat=chat,
        system=system,
        sampling=dict(sampling or {}),
        sampling_column=sampling_column,
        json_schema=json_schema,  # type: ignore[arg-type]
        regex=regex,
        choices=None if choices is None else tuple(choices),
        json_tries=json_tries,
        adapters={name: place_of(place) for name, place in (adapters or {}).items()},
        adapter=adapter,
        adapter_column=adapter_column,
        output=output,
        engine=dict(engine or {}),
        device=device,
    )
