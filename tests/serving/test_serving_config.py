"""A serving specification as Serve's configuration and as KubeRay's service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from eksml.cli.main import app
from eksml.cluster import Cluster
from eksml.cluster.render import ray_object
from eksml.errors import DoesNotFit, InvalidSpec
from eksml.serving import ModelSpec, ServeSpec
from eksml.serving.config import PORT, on_cluster, ray_service_spec, read, serve_config
from eksml.serving.spec import key_hash

REPOSITORY = Path(__file__).parents[2]
CLUSTER = REPOSITORY / "clusters" / "llm-serve.yaml"


def model(name: str = "qwen", **fields: Any) -> ModelSpec:
    return ModelSpec(**({"name": name, "source": "Qwen/Qwen3-8B", "device": "gpu"} | fields))


def written(tmp_path: Path, fields: dict[str, Any]) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["serve", *arguments], catch_exceptions=False)


@pytest.fixture
def both() -> ServeSpec:
    return ServeSpec(models=[model("a", replicas=(1, 4)), model("b", replicas=2)], route="/llm")


def test_serve_takes_the_configuration_of_one_and_of_several_models(both: ServeSpec) -> None:
    from ray.serve.schema import ServeDeploySchema

    for spec in (both, ServeSpec(models=[model()])):
        config = serve_config(spec)
        taken = ServeDeploySchema.model_validate(config)
        assert [each.name for each in taken.applications] == [
            each["name"] for each in config["applications"]
        ]
        # Serve passes over fields that it does not know: the same, with nothing left out
        assert json.loads(json.dumps(config)) == config


def test_a_single_model_stands_at_the_route_and_several_behind_a_gateway(both: ServeSpec) -> None:
    (alone,) = serve_config(ServeSpec(models=[model()]))["applications"]
    assert (alone["route_prefix"], alone["import_path"]) == ("/", "eksml.serving.apps:model")
    routes = {
        each["route_prefix"]: each["import_path"] for each in serve_config(both)["applications"]
    }
    assert routes == {
        "/llm/a": "eksml.serving.apps:model",
        "/llm/b": "eksml.serving.apps:model",
        "/llm": "eksml.serving.apps:gateway",
    }


def test_more_replicas_are_no_new_arguments_for_which_all_would_be_replaced(
    both: ServeSpec,
) -> None:
    more = both.model_copy(update={"models": [model("a", replicas=(2, 9)), model("b", replicas=7)]})
    before, after = serve_config(both)["applications"], serve_config(more)["applications"]
    assert [each["args"] for each in before] == [each["args"] for each in after]
    assert after[0]["deployments"][0]["autoscaling_config"]["max_replicas"] == 9
    assert after[1]["deployments"][0]["num_replicas"] == 7


def test_a_replica_drains_for_as_long_as_a_request_may_take() -> None:
    spec = ServeSpec(models=[model()], limits={"deadline_s": 1800})
    (application,) = serve_config(spec)["applications"]
    assert application["deployments"][0]["graceful_shutdown_timeout_s"] == 1800


def test_no_key_stands_in_a_configuration_only_its_hash() -> None:
    tenants = [{"name": "acme", "key_sha256": key_hash("sk-secret")}]
    text = json.dumps(serve_config(ServeSpec(models=[model()], tenants=tenants)))
    assert key_hash("sk-secret") in text
    assert "sk-secret" not in text


def test_a_rayservice_listens_on_its_pods_addresses_and_upgrades_without_a_gap(
    both: ServeSpec,
) -> None:
    service = ray_object(Cluster.load(CLUSTER), ray_service_spec(serve_config(both)))
    assert service["kind"] == "RayService"
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    assert config["http_options"] == {"host": "0.0.0.0", "port": PORT}
    assert service["spec"]["upgradeStrategy"]["type"] == "NewClusterWithIncrementalUpgrade"


def test_a_file_holds_a_serve_configuration_or_a_specification(
    tmp_path: Path, both: ServeSpec
) -> None:
    specification = read(written(tmp_path, both.model_dump(mode="json")))
    configuration = read(written(tmp_path, serve_config(both)))
    assert specification.config == configuration.config == serve_config(both)
    # Their replicas are what the deployments say
    assert configuration.models == specification.models == both.models


def test_all_that_is_wrong_with_a_files_models_is_told_with_its_place(tmp_path: Path) -> None:
    config = serve_config(ServeSpec(models=[model("a"), model("b")]))
    config["applications"][0]["args"]["model"]["sorce"] = "x"
    config["applications"][1]["args"]["limits"]["n"] = 0
    with pytest.raises(InvalidSpec) as refused:
        read(written(tmp_path, config))
    assert [problem.path for problem in refused.value.problems] == [
        "applications.0.args.model.sorce",
        "applications.1.args.limits.n",
    ]


def test_a_model_without_device_takes_what_the_cluster_has() -> None:
    spec = Cluster.load(CLUSTER)
    assert on_cluster(model(device=None), spec).device == "gpu"
    assert on_cluster(model(device="cpu"), spec).device == "cpu"
    neuron = Cluster.load(REPOSITORY / "clusters" / "neuron-serve.yaml")
    assert on_cluster(model(device=None), neuron).device == "neuron"


def test_render_prints_a_rayservice_with_all_that_it_needs_around_it(tmp_path: Path) -> None:
    file = written(tmp_path, ServeSpec(models=[model()]).model_dump(mode="json"))
    done = run("render", str(file), "--cluster", str(CLUSTER), "--upgrade", "new-cluster")
    objects = list(yaml.safe_load_all(done.output))
    assert objects[-1]["kind"] == "RayService"
    assert objects[-1]["spec"]["upgradeStrategy"]["type"] == "NewCluster"
    assert "PodDisruptionBudget" in {each["kind"] for each in objects}


def test_render_alone_prints_what_serve_deploy_takes(tmp_path: Path, both: ServeSpec) -> None:
    file = written(tmp_path, both.model_dump(mode="json"))
    assert yaml.safe_load(run("render", str(file)).output) == serve_config(both)


def test_a_model_that_no_group_can_hold_is_refused_before_anything_is_rendered(
    tmp_path: Path,
) -> None:
    spec = ServeSpec(models=[model(tensor_parallel=8)])
    file = written(tmp_path, spec.model_dump(mode="json"))
    arguments = ["--traceback", "serve", "render", str(file), "--cluster", str(CLUSTER)]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, DoesNotFit)
    assert "GPU" in str(done.exception)


def test_explain_tells_each_setting_its_origin_and_reason(tmp_path: Path) -> None:
    fields = model(engine={"max_num_seqs": 7}, profile="throughput").model_dump(mode="json")
    done = run(
        "explain", str(written(tmp_path, {"models": [fields], "limits": {"deadline_s": 90}}))
    )
    lines = {line.split()[0]: line.split() for line in done.output.splitlines()}
    assert lines["engine.max_num_seqs"][1:3] == ["7", "user"]
    assert lines["engine.max_num_batched_tokens"][1:3] == ["8192", "profile"]
    assert lines["engine.gpu_memory_utilization"][1] == "default"
    assert lines["surge_percent"][1:3] == ["10", "profile"]
    assert lines["drain_s"][1] == "90"


def test_explain_of_a_model_takes_profile_device_and_arguments() -> None:
    arguments = ["--profile", "throughput", "--device", "cpu", "--engine", "max_model_len=64"]
    found = json.loads(run("explain", "some/name", *arguments, "--json").output)
    settings = found["name"]["settings"]
    assert settings["engine.max_model_len"]["value"] == 64
    assert settings["engine.dtype"] == {
        "value": "bfloat16",
        "from": "eksml",
        "why": settings["engine.dtype"]["why"],
    }


def test_explain_says_how_much_fits_into_the_devices_of_a_machine(tmp_path: Path) -> None:
    from tiny_llm import tiny_llm

    folder = str(tiny_llm(tmp_path / "tiny"))
    found = json.loads(run("explain", folder, "--instance", "g6.2xlarge", "--json").output)["tiny"]
    assert found["room"]["sequences"] > 100
    assert found["need"]["context"] == 512
    text = run("explain", folder, "--instance", "g6.2xlarge").output
    assert "full-length sequences at once" in text
    assert run("explain", folder, "--instance", "m7i.large").exit_code == 2


def test_a_new_key_is_shown_once_with_the_hash_that_lets_it_in() -> None:
    found = json.loads(run("key", "acme", "--json").output)
    assert found["tenant"] == {"name": "acme", "key_sha256": key_hash(found["key"])}
    assert run("key", "../acme").exit_code == 1
