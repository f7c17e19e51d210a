"""Which arguments of vLLM a model may name, and which eksml sets from other fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eksml.errors import Problem
from eksml.llm.engine_arguments import static_problems

FRONTEND = (
    *("chat_template", "chat_template_content_format", "default_chat_template_kwargs"),
    *("enable_auto_tool_choice", "tool_call_parser", "exclude_tools_when_tool_choice_none"),
    *("response_role", "return_tokens_as_token_ids"),
    *("enable_prompt_tokens_details", "enable_force_include_usage"),
)
"""Arguments of vLLM's server, not of its engine, that say how it answers."""

_ELSEWHERE = {
    "served_model_name": "It follows from name.",
    "tensor_parallel_size": "Write it as tensor_parallel, beside engine.",
    "pipeline_parallel_size": "Write it as pipeline_parallel, beside engine.",
    "data_parallel_size": "More replicas do the same, and can come and go.",
    "scheduling_policy": "It is 'priority', so that /v1/batches yields to others.",
    "disable_log_stats": "Metrics and readiness are made of them.",
    "enable_log_requests": "Say log_prompts, beside tenants.",
    "allowed_media_domains": "Say limits.media, which also refuses private addresses.",
    "allowed_local_media_path": "Clients do not read a replica's files.",
    "api_key": "Say tenants.",
}
"""What cannot be said as an engine argument of a served model, and what to do."""


def argument_problems(given: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with a served model's arguments and can be seen without vLLM."""
    yield from static_problems(given, _ELSEWHERE)
    for name in ("max_num_seqs", "max_num_batched_tokens"):
        if name in given and (not isinstance(given[name], int) or isinstance(given[name], bool)):
            told = f"{given[name]!r:.80} is not a whole number."
            yield Problem(f"engine.{name}", told, "Leave it out for the profile's.")
