"""Commands on manifests: what is printed can be applied, checked, compared."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.crd import needs_crds
from commandline import EKSML, invoke
from kube_server import KubeServer, kinds

CLUSTERS = Path(__file__).resolve().parents[2] / "clusters"
TRAIN = str(CLUSTERS / "gpu-train.yaml")

SMALL = """
name: small
backend: eks
groups:
  - {name: cpu, instance: m7i.4xlarge, nodes: [1, 4]}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    return file


# render


def test_what_is_rendered_is_yaml_in_the_order_in_which_to_apply_it() -> None:
    done = invoke("render", TRAIN)
    assert done.exit_code == 0
    found = [document["kind"] for document in yaml.safe_load_all(done.stdout)]
    assert found[0] == "ServiceAccount"
    assert found[-1] == "RayCluster"
    assert ": null" not in done.stdout


def test_rendering_is_the_same_each_time_and_the_same_as_json() -> None:
    text = invoke("render", TRAIN).stdout
    assert invoke("render", TRAIN).stdout == text
    assert json.loads(invoke("render", TRAIN, "--json").stdout) == list(yaml.safe_load_all(text))


def test_some_kinds_alone_can_be_rendered() -> None:
    done = invoke("render", TRAIN, "--kind", "NodePool", "--kind", "PodMonitor")
    assert {one["kind"] for one in yaml.safe_load_all(done.stdout)} == {"NodePool", "PodMonitor"}
    wrong = invoke("render", TRAIN, "--kind", "Ingress")
    assert wrong.exit_code == 2
    assert "RayCluster" in wrong.stderr


@pytest.mark.parametrize(
    ("workload", "kind"),
    [
        ("entrypoint: python train.py\nretries: 1\n", "RayJob"),
        ("serve_config:\n  applications: [{name: a, import_path: 'm:app'}]\n", "RayService"),
        ("schedule: '0 2 * * *'\njob: {entrypoint: python nightly.py}\n", "RayCronJob"),
    ],
)
def test_a_workload_is_rendered_in_place_of_the_cluster(
    tmp_path: Path, workload: str, kind: str
) -> None:
    cluster, job = tmp_path / "cluster.yaml", tmp_path / "job.yaml"
    cluster.write_text(f"{SMALL}operator: {{gates: [RayCronJob]}}\n")
    job.write_text(workload)
    done = invoke("render", str(cluster), "--job", str(job))
    assert done.exit_code == 0, done.stderr
    assert list(yaml.safe_load_all(done.stdout))[-1]["kind"] == kind


def test_a_file_that_is_wrong_tells_every_problem_and_prints_nothing(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("name: x\nbackend: eks\ngroups: [{name: g}]\nqueue: {}\n")
    done = invoke("render", str(tmp_path / "wrong.yaml"))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "queue.name" in done.stderr


def test_a_job_file_that_is_not_there_is_told(small: Path) -> None:
    done = invoke("render", str(small), "--job", "nowhere.yaml")
    assert done.exit_code == 1
    assert "nowhere.yaml: cannot be read" in done.stderr


# plan


def test_a_plan_shows_machines_cost_and_quotas() -> None:
    done = invoke("plan", TRAIN)
    assert done.exit_code == 0
    assert "4 × p5.48xlarge" in done.stdout
    assert "COST PER HOUR" in done.stdout
    told = json.loads(invoke("plan", TRAIN, "--json").stdout)
    assert told["ok"] is True
    assert {quota["code"] for quota in told["quotas"]} == {"L-417A185B", "L-1216C47A"}


# check


def test_what_is_rendered_passes_the_check(tmp_path: Path) -> None:
    file = tmp_path / "rendered.yaml"
    file.write_text(invoke("render", TRAIN).stdout)
    done = invoke("check", str(file))
    assert (done.exit_code, done.stdout.strip()) == (0, f"ok    {file}: RayCluster gpu-train")


def broken(small: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        invoke("render", str(small), "--kind", "RayCluster", "--json").stdout
    )[0]
    made["spec"]["workerGroupSpecs"][0]["minReplicas"] = 9
    return made


def test_every_problem_of_every_document_is_told_with_its_path(small: Path, tmp_path: Path) -> None:
    twice = broken(small), {"kind": "List", "apiVersion": "v1", "items": [broken(small)]}
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump_all([*twice, {"kind": "ConfigMap", "apiVersion": "v1"}]))
    done = invoke("check", str(file))
    assert done.exit_code == 1
    assert done.stdout.count("fail  ") == 2
    assert "spec.workerGroupSpecs.0" in done.stdout
    told = json.loads(invoke("check", str(file), "--json").stdout)
    assert [len(one["problems"]) > 0 for one in told["objects"]] == [True, True]


def test_manifests_come_through_a_pipe_too(small: Path) -> None:
    done = subprocess.run(
        [EKSML, "check", "-"],
        input=json.dumps(broken(small)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "RayCluster small" in done.stdout


def test_a_gate_that_is_on_allows_what_needs_it(small: Path, tmp_path: Path) -> None:
    cron = tmp_path / "cron.yaml"
    cron.write_text("schedule: '@daily'\njob: {entrypoint: python nightly.py}\n")
    small.write_text(f"{SMALL}operator: {{gates: [RayCronJob]}}\n")
    file = tmp_path / "rendered.yaml"
    file.write_text(invoke("render", str(small), "--job", str(cron)).stdout)
    assert invoke("check", str(file)).exit_code == 1
    assert invoke("check", str(file), "--gate", "RayCronJob").exit_code == 0
    assert invoke("check", str(file), "--gate", "Cron").exit_code == 2


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("kind: ConfigMap\napiVersion: v1\n", 0, "No object of KubeRay"),
        ("a: [", 1, "is not valid YAML"),
        ("- a list\n", 1, "does not hold fields"),
        ("a: 1\na: 2\n", 1, "'a' is written twice"),
    ],
)
def test_what_is_no_manifest_is_told(tmp_path: Path, text: str, code: int, told: str) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    done = invoke("check", str(tmp_path / "odd.yaml"))
    assert done.exit_code == code
    assert told in done.stderr


def test_a_file_that_is_not_there_is_wrong_usage() -> None:
    assert invoke("check", "nowhere.yaml").exit_code == 2


# diff, exec, cluster-logs: against a fake API server


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeServer]:
    monkeypatch.setenv("EKSML_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EKSML_CLUSTER", raising=False)
    with KubeServer(kinds.PROMETHEUS) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        yield server


def applied(file: Path) -> None:
    from eksml.backends.kube.client import KubeClient

    client = KubeClient.connect()
    for thing in yaml.safe_load_all(invoke("render", str(file)).stdout):
        client.apply(thing)


@needs_crds
def test_a_cluster_that_is_not_there_is_all_new(kube: KubeServer, small: Path) -> None:
    done = invoke("diff", str(small))
    assert done.exit_code == 0, done.stderr
    assert "+ RayCluster/small" in done.stdout.splitlines()


@needs_crds
def test_only_what_differs_is_shown(kube: KubeServer, small: Path) -> None:
    applied(small)
    done = invoke("diff", str(small))
    assert (done.stdout, done.stderr) == ("", "Nothing would change.\n")
    small.write_text(SMALL.replace("[1, 4]", "[1, 6]"))
    changed = json.loads(invoke("diff", str(small), "--json").stdout)
    assert [(one["path"], one["live"], one["wanted"]) for one in changed] == [
        ("spec.minAvailable", 4, 6),  # of the workers' disruption budget
        ("spec.workerGroupSpecs[cpu].maxReplicas", 4, 6),
    ]


def with_head(kube: KubeServer) -> None:
    labels = {"ray.io/cluster": "small", "ray.io/node-type": "head", "ray.io/group": "headgroup"}
    kube.store.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "small-head", "namespace": "default", "labels": labels},
            "spec": {"containers": [{"name": "ray-head", "image": "ray:1"}]},
            "status": {"phase": "Running"},
        }
    )


@needs_crds
def test_a_commands_output_and_exit_code_are_its_own(kube: KubeServer, small: Path) -> None:
    applied(small)
    with_head(kube)
    kube.exec = lambda pod, command: (3, f"{pod}: {' '.join(command)}\n", "oops\n")
    done = invoke("exec", "--cluster", "small", "--", "ray", "status", "-v")
    assert (done.exit_code, done.stdout, done.stderr) == (
        3,
        "small-head: ray status -v\n",
        "oops\n",
    )


@needs_crds
def test_the_log_of_a_node_is_printed(kube: KubeServer, small: Path) -> None:
    applied(small)
    with_head(kube)
    kube.logs["small-head", False] = "Ray runtime started.\n"
    assert invoke("cluster-logs", "--cluster", "small").stdout == "Ray runtime started.\n"
    missing = invoke("cluster-logs", "other", "--cluster", "small")
    assert missing.exit_code == 1
    assert "small-head" in missing.stderr
