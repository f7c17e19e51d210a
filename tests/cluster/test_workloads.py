"""Jobs, services and schedules that KubeRay would refuse, or worse accept, are refused here."""

from __future__ import annotations

from typing import Any

import pytest

from eksml.cluster import RayCronSpec, RayJobSpec, RayServiceSpec
from eksml.cluster.problems import Spec
from eksml.errors import InvalidSpec

SELECTOR = {"ray.io/cluster": "mine"}
APPLICATION = {"name": "app", "import_path": "module:app", "route_prefix": None}


def problems_of(model: type[Spec], **fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as refused:
        model(**fields)
    return {problem.path: str(problem) for problem in refused.value.problems}


@pytest.mark.parametrize(
    ("fields", "path", "told"),
    [
        ({"entrypoint": ""}, "entrypoint", "is missing"),
        ({"entrypoint": " \n"}, "entrypoint", "is missing"),
        ({"mode": "interactive"}, "entrypoint", "where you submit"),
        ({"entrypoint": "", "mode": "interactive", "retries": 1}, "retries", "does not retry"),
        ({"submitter_retries": 5}, "submitter_retries", "mode: sidecar"),
        ({"mode": "K8sJobMode"}, "mode", "'sidecar'"),
        ({"deadline_s": 0}, "deadline_s", "equal to 1"),
        ({"retries": -1}, "retries", "equal to 0"),
        ({"retries": 2**31}, "retries", "less than"),
        ({"delete_workers_s": 400}, "delete_cluster_s", "300 is less than delete_workers_s, 400"),
        ({"delete_cluster_s": 10**6}, "delete_job_s", "less than delete_cluster_s"),
        ({"delete_cluster_s": None, "delete_workers_s": 10**5}, "delete_job_s", "Workers go"),
        ({"selector": SELECTOR}, "mode", "Say mode: k8s"),
        ({"selector": {"team": "a"}, "mode": "http"}, "selector", "names no cluster"),
        ({"selector": SELECTOR, "mode": "http", "retries": 1}, "retries", "rules out"),
        ({"selector": SELECTOR, "mode": "http", "suspend": True}, "suspend", "rules out"),
        ({"selector": SELECTOR, "mode": "k8s", "delete_workers_s": 1}, "delete_workers_s", "own"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, "runtime_env.env_vars.A", "quotes"),
        ({"runtime_env": {"pip": [object()]}}, "runtime_env.pip.0", "JSON"),
    ],
)
def test_a_wrong_job_is_refused(fields: dict[str, Any], path: str, told: str) -> None:
    (problem,) = problems_of(RayJobSpec, **({"entrypoint": "python a.py"} | fields)).items()
    assert problem[0] == path
    assert told in problem[1]


def test_all_that_is_wrong_with_a_job_is_told_at_once() -> None:
    told = problems_of(RayJobSpec, selector={}, retries=2, suspend=True, delete_cluster_s=10**6)
    assert set(told) == {"entrypoint", "selector", "mode", "suspend", "retries", "delete_job_s"}


@pytest.mark.parametrize(
    "fields",
    [
        {"entrypoint": "python a.py"},
        {"mode": "interactive"},
        {"entrypoint": "x", "mode": "k8s", "submitter_retries": 5, "selector": SELECTOR},
        {"entrypoint": "x", "delete_workers_s": 0, "delete_cluster_s": None, "delete_job_s": None},
        {"entrypoint": "x", "runtime_env": {"env_vars": {"A": "1"}, "pip": ["torch"]}},
    ],
)
def test_jobs_that_kuberay_runs_are_accepted(fields: dict[str, Any]) -> None:
    job = RayJobSpec(**fields)
    assert RayJobSpec(**job.model_dump(mode="json")) == job


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"serve_config": ""}, {"serve_config"}),
        ({"serve_config": "applications: ["}, {"serve_config"}),
        ({"serve_config": {"applications": []}}, {"serve_config.applications"}),
        (
            {"serve_config": {"applications": [{"import_pth": "a:b"}]}},
            {"serve_config.applications.0.import_path", "serve_config.applications.0.import_pth"},
        ),
        ({"serve_config": {"applications": [{"x": object()}]}}, {"serve_config.applications.0.x"}),
        ({"surge": 20, "step": 30}, {"step"}),
        ({"surge": 101}, {"surge"}),
        ({"step": 0}, {"step"}),
        ({"interval_s": 0}, {"interval_s"}),
        ({"gateway_class": ""}, {"gateway_class"}),
        ({"upgrade": "NewCluster"}, {"upgrade"}),
    ],
)
def test_a_wrong_service_is_refused(fields: dict[str, Any], paths: set[str]) -> None:
    right = {"serve_config": {"applications": [APPLICATION]}}
    assert set(problems_of(RayServiceSpec, **(right | fields))) == paths


def test_a_service_is_written_as_a_mapping_or_as_text() -> None:
    assert RayServiceSpec(serve_config={"applications": [APPLICATION]}).upgrade == "incremental"
    text = "applications: [{name: app, import_path: module.app}]"
    assert RayServiceSpec(serve_config=text, upgrade="none").serve_config == text


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"schedule": "0 25 * * *"}, "schedule"),
        ({"schedule": "0 2 * *"}, "schedule"),
        ({"schedule": ""}, "schedule"),
        ({"schedule": "TZ=Europe/Berlin 0 2 * * *"}, "schedule"),
        ({"time_zone": "Europe/Nowhere"}, "time_zone"),
        ({"time_zone": ""}, "time_zone"),
        ({"job": {"entrypoint": "x", "retries": -1}}, "job.retries"),
        ({"job": {"entrypoint": ""}}, "job.entrypoint"),
    ],
)
def test_a_wrong_schedule_is_refused(fields: dict[str, Any], path: str) -> None:
    right = {"schedule": "0 2 * * mon-fri", "job": {"entrypoint": "x"}}
    assert set(problems_of(RayCronSpec, **(right | fields))) == {path}
    assert RayCronSpec(**right, time_zone="Europe/Berlin")  # type: ignore[arg-type]
