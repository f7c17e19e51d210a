"""Two profiles: values with reasons, under what a user says."""

from __future__ import annotations

from typing import Any

import pytest

from eksml.errors import InvalidSpec
from eksml.serving import ModelSpec
from eksml.serving.profiles import REFUSED_AT_ONCE, Settings, settings_of

DEVICES = ("cpu", "gpu", "neuron")


def settings(**fields: Any) -> Settings:
    return settings_of(ModelSpec(**({"name": "m", "source": "s", "device": "gpu"} | fields)))


@pytest.mark.parametrize("device", DEVICES)
def test_throughput_batches_more_and_waits_longer_than_latency(device: str) -> None:
    quick = settings(profile="latency", device=device)
    busy = settings(profile="throughput", device=device)
    assert busy.slots > quick.slots
    assert busy.queue > 4 * quick.queue
    assert busy.target_ongoing > busy.slots > quick.slots > quick.target_ongoing
    assert busy.upscale_delay_s > quick.upscale_delay_s == 0


@pytest.mark.parametrize("profile", ["latency", "throughput"])
@pytest.mark.parametrize("device", DEVICES)
def test_every_setting_has_a_reason_and_an_origin(profile: str, device: str) -> None:
    made = settings(profile=profile, device=device, tensor_parallel=2, engine={"seed": 1})
    assert {f"engine.{name}" for name in made.engine} <= made.choices.keys()
    for name, choice in made.choices.items():
        assert choice.why or choice.origin == "user", name
        if not name.startswith("engine."):
            assert getattr(made, name) == choice.value


def test_what_the_user_says_stands_over_the_profile() -> None:
    made = settings(engine={"max_num_seqs": 10, "enable_prefix_caching": False}, queue=3)
    assert (made.slots, made.queue, made.capacity) == (10, 3, 13)
    assert made.target_ongoing == 7.5
    assert made.engine["enable_prefix_caching"] is False
    assert made.choices["engine.max_num_seqs"].origin == "user"
    assert made.choices["queue"].origin == "user"


def test_what_is_too_many_still_reaches_the_gate_to_be_told_so() -> None:
    made = settings(queue=0)
    assert made.max_ongoing == made.capacity + REFUSED_AT_ONCE


def test_arguments_of_vllms_server_are_kept_apart_from_its_engines() -> None:
    made = settings(engine={"tool_call_parser": "hermes", "max_model_len": 1024})
    assert made.frontend == {"tool_call_parser": "hermes"}
    assert made.engine["max_model_len"] == 1024
    assert "tool_call_parser" not in made.engine


def test_embedding_models_are_left_to_take_prompts_as_they_can() -> None:
    made = settings(task="embed")
    assert made.engine["runner"] == "pooling"
    assert not {"enable_chunked_prefill", "max_num_batched_tokens"} & made.engine.keys()
    assert made.target_ttft_s is None


def test_several_devices_make_one_engine_in_its_replica() -> None:
    made = settings(tensor_parallel=4, pipeline_parallel=2)
    assert made.engine["tensor_parallel_size"] == 4
    assert made.engine["pipeline_parallel_size"] == 2
    assert made.engine["distributed_executor_backend"] == "mp"
    assert "tensor_parallel_size" not in settings().engine


def test_a_cpu_computes_in_bfloat16_without_compiling_and_leaves_memory_to_others() -> None:
    made = settings(device="cpu").engine
    assert (made["dtype"], made["enforce_eager"]) == ("bfloat16", True)
    assert made["kv_cache_memory_bytes"] == 2**30


def test_a_replica_drains_as_long_as_its_longest_request_may_take() -> None:
    model = ModelSpec(name="m", source="s")
    assert settings_of(model, deadline_s=1200.0).drain_s == 1200.0


@pytest.mark.parametrize(
    "argument",
    [
        {"served_model_name": "x"},
        {"tensor_parallel_size": 2},
        {"scheduling_policy": "fcfs"},
        {"allowed_local_media_path": "/"},
        {"hf_token": "secret"},
        {"model": "x"},
        {"max_num_seqs": None},
        {"max_num_seqs": 0},
        {"max_num_batched_tokens": "many"},
    ],
)
def test_what_other_fields_say_is_no_engine_argument(argument: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as refused:
        settings(engine=argument)
    (problem,) = refused.value.problems
    assert problem.path == f"engine.{next(iter(argument))}"
    assert problem.remedy or "less than one" in problem.message


@pytest.mark.parametrize("profile", ["latency", "throughput"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("task", ["generate", "embed"])
def test_the_installed_vllm_takes_all_that_profiles_say(
    profile: str, device: str, task: str
) -> None:
    pytest.importorskip("vllm")
    from eksml.llm.engine_arguments import vllm_problems

    made = settings(profile=profile, device=device, task=task, tensor_parallel=2)
    assert list(vllm_problems(made.engine)) == []
