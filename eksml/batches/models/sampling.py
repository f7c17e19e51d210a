"""How tokens are chosen: vLLM's sampling parameters for all rows, and for single ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from eksml.batches.models.structured import Form
from eksml.errors import Problem
from eksml.llm.engine_arguments import unknown

DEFAULT: dict[str, Any] = {"temperature": 0.0, "max_tokens": 128}
"""Greedy, so that a run gives the same answers each time."""
RETRY_TEMPERATURE = 0.7
"""At least, when an answer is asked for again: a greedy one would be the same."""

NO_EFFECT = {
    "n": "Each row has one answer.",
    "structured_outputs": "Use json_schema, regex or choices.",
    "output_kind": "Only whole answers are kept.",
    "stream_interval": "Only whole answers are kept.",
    "detokenize": "The answer is text.",
    "skip_clone": "It is vLLM's own.",
    "output_text_buffer_length": "It is vLLM's own.",
    **dict.fromkeys(
        [
            *("logprobs", "prompt_logprobs", "logprob_token_ids", "flat_logprobs"),
            *("prompt_logprob_token_ids", "prompt_logprob_start", "routed_experts_prompt_start"),
        ],
        "Probabilities are not kept.",
    ),
}
"""What would have no effect here, and why."""


def static_problems(given: Mapping[str, Any], path: str = "sampling") -> Iterator[Problem]:
    """What is wrong with sampling parameters and can be seen without vLLM."""
    for name in given:
        if name in NO_EFFECT:
            yield Problem(f"{path}.{name}", "has no effect.", NO_EFFECT[name])


def vllm_problems(given: Mapping[str, Any], path: str = "sampling") -> Iterator[Problem]:
    """Names that the installed vLLM does not have, and values that it refuses."""
    from vllm import SamplingParams

    known = [name for name in SamplingParams.__struct_fields__ if not name.startswith("_")]
    problems = [unknown(f"{path}.{name}", name, known) for name in given if name not in known]
    yield from problems
    if problems:
        return
    try:
        SamplingParams(**(DEFAULT | dict(given)))
    except Exception as error:  # ValueError, TypeError and vLLM's own, according to the field
        yield Problem(path, f"{error}".rstrip(".") + ".")


def row_sampling(value: Any) -> dict[str, Any]:
    """The sampling parameters in a row: a struct or map, or the same as JSON text; null for none.

    Raises:
        ValueError: It is none of these, or holds what has no effect here.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, list):  # how Arrow gives maps
        value = dict(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r:.80} holds no sampling parameters by name")
    given = {name: setting for name, setting in value.items() if setting is not None}
    if problems := list(static_problems(given)):
        raise ValueError(str(problems[0]))
    return given


class Sampling:
    """Makes vLLM's ``SamplingParams``; those that are alike are made once.

    Args:
        given: For all rows, over ``DEFAULT``.
        form: What answers must look like.
    """

    def __init__(self, given: Mapping[str, Any], form: Form) -> None:
        self._base = DEFAULT | dict(given)
        self._form = form
        self._made: dict[str, Any] = {}

    def of(self, row: Mapping[str, Any], attempt: int = 0) -> Any:
        """The parameters of one row.

        Args:
            row: What it says itself.
            attempt: 0 for the first; later ones get another seed, and are never greedy.

        Raises:
            ValueError: vLLM has no parameter of that name, or refuses the value.
        """
        settings = self._base | dict(row)
        if attempt:
            settings["seed"] = (settings.get("seed") or 0) + attempt
            settings["temperature"] = max(settings["temperature"], RETRY_TEMPERATURE)
        key = json.dumps(settings, sort_keys=True, default=str)
        if key not in self._made:
            if problems := list(vllm_problems(settings)):
                raise ValueError(str(problems[0]))
            self._made[key] = self._make(settings)
        return self._made[key]

    def _make(self, settings: Mapping[str, Any]) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        form = None
        if self._form:
            choices = self._form.choices
            form = StructuredOutputsParams(
                json=self._form.json_schema,
                regex=self._form.regex,
                choice=None if choices is None else list(choices),
            )
        only_final = RequestOutputKind.FINAL_ONLY
        return SamplingParams(**settings, output_kind=only_final, structured_outputs=form)
