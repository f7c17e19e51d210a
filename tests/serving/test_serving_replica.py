"""What a replica is made of, without an engine: deployment options, parts, pulse and state."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from eksml.errors import EngineDied
from eksml.llm.installed import installed_device
from eksml.serving import AppSpec, ModelSpec, ServeSpec
from eksml.serving import engine as engines
from eksml.serving.apps import deployment_options, parts_of, replica_resources
from eksml.serving.device import on_device
from eksml.serving.engine import Engine, Pulse
from eksml.serving.environment import HAPROXY, REPLICA, serve_environment
from eksml.serving.profiles import settings_of
from eksml.serving.replica import Replica, version_of

ORIGIN = "http://127.0.0.1:8000"


def model(name: str = "m", **fields: Any) -> ModelSpec:
    return ModelSpec(name=name, source=f"/models/{name}", **fields)


def test_one_model_stands_at_the_route_itself() -> None:
    [part] = parts_of(ServeSpec(models=(model(),), route="/llm"), ORIGIN)
    assert (part.name, part.route) == ("llm", "/llm")
    assert part.import_path == "eksml.serving.apps:model"
    assert AppSpec(**part.args).model == model()


def test_several_models_stand_behind_a_gateway() -> None:
    parts = parts_of(ServeSpec(models=(model("a"), model("b"))), ORIGIN)
    told = [(part.name, part.route, part.builder) for part in parts]
    assert told == [
        ("llm-a", "/a", "model"),
        ("llm-b", "/b", "model"),
        ("llm", "/", "gateway"),
    ]
    assert parts[-1].args["origin"] == ORIGIN


@pytest.mark.parametrize(
    ("device", "resources"),
    [
        ("cpu", {"CPU": 2}),
        ("gpu", {"CPU": 1, "GPU": 2}),
        ("neuron", {"CPU": 1, "neuron_cores": 2}),
    ],
)
def test_a_replica_takes_all_devices_of_its_engine(device: Any, resources: Any) -> None:
    asked = model(device=device, tensor_parallel=2)
    assert replica_resources(asked) == resources
    options = deployment_options(asked, settings_of(asked))["ray_actor_options"]
    assert options["num_cpus"] == resources["CPU"]
    assert options["num_gpus"] == resources.get("GPU", 0)
    assert options.get("resources", {}).get("neuron_cores") == resources.get("neuron_cores")


def test_serve_never_refuses_or_holds_back_what_the_gate_decides_on() -> None:
    settings = settings_of(model())
    options = deployment_options(model(), settings)
    assert options["max_ongoing_requests"] > settings.capacity
    assert options["max_queued_requests"] == -1


def test_a_range_of_replicas_is_scaled_by_eksmls_policy() -> None:
    asked = model(replicas=(0, 3))
    scaling = deployment_options(asked, settings_of(asked))["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (0, 3)
    assert "LoadPolicy" in scaling["policy"]["policy_function"]
    assert deployment_options(model(replicas=2), settings_of(model()))["num_replicas"] == 2


def test_a_version_is_that_of_what_is_computed_not_of_who_may_ask() -> None:
    spec = AppSpec(model=model())
    assert version_of(spec) == version_of(spec.model_copy(update={"log_prompts": True}))
    assert version_of(spec) != version_of(AppSpec(model=model(engine={"max_num_seqs": 3})))


def test_serves_environment_is_text_and_clusters_on_one_machine_differ_in_ports() -> None:
    own = serve_environment([1, 2, 3])
    assert {"1", "2", "3"} <= set(own.values())
    assert HAPROXY.items() <= own.items()
    assert serve_environment() == HAPROXY
    assert all(isinstance(value, str) for value in (own | REPLICA).values())


def test_an_engines_pulse_is_its_last_step_and_its_load() -> None:
    now = [10.0]
    pulse = Pulse(lambda: now[0])
    now[0] = 13.0
    assert pulse.quiet_s() == 3.0
    scheduler = SimpleNamespace(num_running_reqs=2, num_waiting_reqs=1, kv_cache_usage=0.25)
    step = SimpleNamespace(time_to_first_tokens_iter=[0.1], inter_token_latencies_iter=[0.01])
    pulse.record(scheduler, step)
    assert pulse.quiet_s() == 0.0
    assert pulse.signals.numbers()["kv"] == 0.25
    pulse.record(None, None)


class Hanging(Engine):
    """An engine that needs no vLLM, and hangs when it is told to."""

    hangs = False

    async def _one_token(self) -> None:
        if self.hangs:
            await asyncio.sleep(3600)


def fake_engine() -> Hanging:
    pulse = Pulse()
    pulse.last_s -= 100  # quiet for long: only a probe can tell
    parts: list[Any] = [SimpleNamespace(errored=False), SimpleNamespace()]
    return Hanging(*parts, "generate", pulse, SimpleNamespace(let_go=lambda: None), [])  # type: ignore[arg-type]


async def until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def test_an_engine_that_hangs_is_not_ready_until_it_generates_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "PROBE_S", 0.1)
    monkeypatch.setattr(engines, "LOOK_S", 0.02)

    async def scene() -> None:
        engine = fake_engine()
        watch = asyncio.ensure_future(engine.watch())
        await until(lambda: engine.ready)
        engine.hangs = True
        await until(lambda: not engine.ready)
        assert engine.alive
        engine.hangs = False
        await until(lambda: engine.ready)
        engine.llm.errored = True
        await until(watch.done)
        assert not engine.ready

    asyncio.run(scene())


def test_a_replica_is_unhealthy_when_its_engine_is_not_ready() -> None:
    replica = Replica({"model": {"name": "m", "source": "/m"}})
    replica.check_health()
    assert replica.record_autoscaling_stats() == {}
    replica._engine = fake_engine()
    with pytest.raises(EngineDied, match="does not answer"):
        replica.check_health()


def test_a_replica_finds_out_what_it_computes_on() -> None:
    pytest.importorskip("vllm")
    here = installed_device()
    assert on_device(model()) == model(device=here)
    other = "gpu" if here == "cpu" else "cpu"
    assert on_device(model(device=other)).device == other
