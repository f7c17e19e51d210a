"""``serveConfigV2``: text that the operator passes on unread."""

from __future__ import annotations

import textwrap

import pytest
from manifests import ray_service

from eksml.cluster.rules import check

RULE = "rule 14: service: serveConfigV2"


def problems(text: str) -> list[str]:
    found = check(ray_service(serveConfigV2=textwrap.dedent(text)))
    assert {problem.rule for problem in found} <= {RULE}
    return [f"{problem.path.removeprefix('spec.')}: {problem.message}" for problem in found]


def test_a_whole_configuration_is_accepted():
    text = """
        proxy_location: EveryNode
        http_options: {host: 0.0.0.0, port: 8000}
        applications:
        - name: chat
          route_prefix: /chat
          import_path: serve_apps.chat:app
          runtime_env: {working_dir: "s3://bucket/chat.zip", env_vars: {A: "1"}}
          args: {model: qwen}
          deployments:
          - name: Model
            num_replicas: auto
            autoscaling_config: {min_replicas: 0, initial_replicas: 1, max_replicas: 8}
            max_ongoing_requests: 32
            max_queued_requests: -1
            ray_actor_options: {num_gpus: 1, accelerator_type: L4}
        - {name: worker, route_prefix: null, import_path: serve_apps.worker.app}
    """
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "serveConfigV2: is missing."),
        ("applications: [", "is not valid YAML"),
        ("- a", "serveConfigV2: does not hold fields."),
        ("applications: []", "serveConfigV2.applications: holds no application."),
        ("import_path: a:b", "serveConfigV2.applications: is missing."),
        ("applications: [{name: a}]", "applications.0.import_path: is missing."),
        ("applications: [{name: '', import_path: a:b}]", "'' is not a name of its own."),
        ("applications: [{import_path: app}]", "'app' names nothing to import."),
        ("applications: [{import_path: 'a:b:c'}]", "'a:b:c' names nothing to import."),
        ("applications: [{import_path: a:b, route_prefix: chat}]", "'chat' is not a route."),
        ("applications: [{import_path: a:b, route_prefix: /a/}]", "'/a/' is not a route."),
        ("applications: [{import_path: a:b, port: 8000}]", "port: is not the application's."),
        ("applications: [{import_path: a:b, route: /a}]", "route: is not a field of"),
        (
            "applications: [{import_path: a:b, runtime_env: {working_dir: .}}]",
            "working_dir: '.' is not a remote URI.",
        ),
    ],
)
def test_an_application_can_be_imported_and_reached(text, problem):
    assert any(problem in found for found in problems(text)), problems(text)


def test_applications_have_names_and_routes_of_their_own():
    text = "applications: [{import_path: a:b}, {import_path: c:d}]"
    found = problems(text)
    assert len([line for line in found if "name of its own" in line]) == 2
    assert len([line for line in found if "more than one application" in line]) == 2


@pytest.mark.parametrize(
    ("deployment", "problem"),
    [
        ("{num_replicas: 0}", "0 is less than 1."),
        ("{num_replicas: many}", "'many' is neither a whole number nor 'auto'."),
        ("{num_replicas: 2, autoscaling_config: {max_replicas: 4}}", "stands beside"),
        (
            "{num_replicas: auto, autoscaling_config: {min_replicas: 4, max_replicas: 2}}",
            "max_replicas: 2 is less than min_replicas, which is 4.",
        ),
        ("{max_ongoing_request: 5}", "max_ongoing_request: is not a field of"),
        ("{ray_actor_options: {num_gpu: 1}}", "num_gpu: is not a field of"),
        ("{max_queued_requests: -2}", "-2 is less than -1."),
    ],
)
def test_a_deployment_is_configured_as_serve_reads_it(deployment, problem):
    deployment = deployment.replace("{", "{name: M, ", 1)
    text = f"applications: [{{import_path: a:b, deployments: [{deployment}]}}]"
    assert any(problem in found for found in problems(text)), problems(text)


def test_a_deployment_is_configured_once():
    text = "applications: [{import_path: a:b, deployments: [{name: M}, {name: M}]}]"
    assert problems(text) == [
        f"serveConfigV2.applications.0.deployments.{index}.name: 'M' is configured more than once."
        for index in (0, 1)
    ]
