"""Where applications are deployed: on the Ray of this process, or on a cluster by its REST API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from eksml.errors import ClusterError, ClusterNotUp
from eksml.serving.environment import has_haproxy, serve_environment

if TYPE_CHECKING:
    from eksml.backends import Running
    from eksml.serving.apps import Part

PATH = "/api/serve/applications/"
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class AppState:
    """One application at one moment."""

    status: str
    """Serve's word: ``DEPLOYING``, ``RUNNING``, ``DEPLOY_FAILED``, ``UNHEALTHY``, ``DELETING``, or
    ``NOT_STARTED`` if Serve does not know it."""
    message: str = ""
    replicas: Mapping[str, int] | None = None
    """Serve's word for a replica's state → how many there are."""


class Stage(Protocol):
    """This is the whole surface."""

    origin: str
    """Where Serve's proxy is: ``http://127.0.0.1:8000``."""

    def deploy(self, parts: Sequence[Part]) -> None:
        """Start or change these applications; returns before they run.

        One that runs already and is the same goes on as it is. All replicas of one that changed
        are replaced.

        Raises:
            InvalidSpec, ClusterError: They were refused.
        """

    def states(self) -> dict[str, AppState]:
        """All applications by name."""

    def delete(self, names: Sequence[str]) -> None:
        """Stop applications; those that are not there are fine."""


class Here:
    """The Ray of this process, which ``runs.connect`` has connected it with.

    Serve's Python API takes any application that is deployed again for a new one, and replaces its
    replicas. So this process remembers what it deployed, and when.
    """

    _deployed: ClassVar[dict[str, tuple[Part, float]]] = {}

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self._port = port

    def deploy(self, parts: Sequence[Part]) -> None:
        """As ``Stage`` says."""
        from ray import serve

        from eksml.backends.ports import free_ports

        new = [part for part in parts if not self._runs(part)]
        if not new:
            return
        built = [serve.RunTarget(part.build(), part.name, part.route) for part in new]
        environment = serve_environment(free_ports(3)) if has_haproxy() else {}
        serve.start(
            proxy_location="HeadOnly",  # all nodes of a local cluster share the port
            http_options={"host": "127.0.0.1", "port": self._port},
            controller_options={"runtime_env": {"env_vars": environment}},
            logging_config={"enable_access_log": False},
        )
        serve.run_many(
            built, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
        )
        found = serve.status().applications
        for part in new:
            self._deployed[part.name] = part, found[part.name].last_deployed_time_s

    def _runs(self, part: Part) -> bool:
        from ray import serve

        app = serve.status().applications.get(part.name)
        if app is None or app.status in ("DEPLOY_FAILED", "DELETING"):
            return False
        return self._deployed.get(part.name) == (part, app.last_deployed_time_s)

    def states(self) -> dict[str, AppState]:
        """As ``Stage`` says."""
        from ray import serve

        return {
            name: AppState(
                str(app.status.value),
                app.message or " ".join(each.message for each in app.deployments.values()),
                _sum(each.replica_states for each in app.deployments.values()),
            )
            for name, app in serve.status().applications.items()
        }

    def delete(self, names: Sequence[str]) -> None:
        """As ``Stage`` says. With the last application Serve itself goes."""
        from ray import serve

        there = set(serve.status().applications)
        for name in sorted(there & set(names)):
            serve.delete(name)
        if not there - set(names):
            serve.shutdown()


class There:
    """A cluster, through the REST API of Serve beside the Jobs API."""

    def __init__(self, running: Running, port: int) -> None:
        self.origin = f"http://{_host(running)}:{port}"
        self._running = running
        self._port = port

    def deploy(self, parts: Sequence[Part]) -> None:
        """As ``Stage`` says. What else runs there stays: the API takes the whole of it."""
        own = {part.name for part in parts}
        others = [app for name, app in self._configs().items() if name not in own]
        self._put([*others, *map(_config, parts)])

    def states(self) -> dict[str, AppState]:
        """As ``Stage`` says."""
        return {
            name: AppState(
                app["status"],
                app["message"] or " ".join(each["message"] for each in app["deployments"].values()),
                _count(app["deployments"].values()),
            )
            for name, app in self._applications().items()
        }

    def delete(self, names: Sequence[str]) -> None:
        """As ``Stage`` says."""
        self._put([app for name, app in self._configs().items() if name not in names])

    def _configs(self) -> dict[str, Any]:
        apps = self._applications().items()
        return {
            name: app["deployed_app_config"] for name, app in apps if app["deployed_app_config"]
        }

    def _applications(self) -> dict[str, Any]:
        told = json.loads(self._ask("GET", None))
        return dict(told["applications"])

    def _put(self, applications: list[Any]) -> None:
        local = self._running.spec is not None and self._running.spec.backend == "local"
        config = {
            "proxy_location": "HeadOnly" if local else "EveryNode",
            "http_options": {"host": "0.0.0.0", "port": self._port},
            "controller_options": {"runtime_env": {"env_vars": _environment(local)}},
            "logging_config": {"enable_access_log": False},
            "applications": applications,
        }
        self._ask("PUT", config)

    def _ask(self, method: str, body: Any) -> bytes:
        request = urllib.request.Request(
            self._running.jobs_address.rstrip("/") + PATH,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **self._running.headers()},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            told = error.read().decode(errors="replace")[:2000]
            what = f"Cluster {self._running.name!r} refused the applications ({error.code})"
            raise ClusterError(f"{what}: {told}") from error
        except OSError as error:
            raise ClusterNotUp(
                f"Cluster {self._running.name!r} does not answer: {error}."
            ) from error


def _environment(local: bool) -> dict[str, str]:
    from eksml.backends.ports import free_ports

    if not local:
        return serve_environment()
    return serve_environment(free_ports(3)) if has_haproxy() else {}


def _config(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "route_prefix": part.route,
        "import_path": part.import_path,
        "args": part.args,
    }


def _host(running: Running) -> str:
    """A local cluster's proxy is on this machine; another's on its head node."""
    if running.spec is None or running.spec.backend == "local":
        return "127.0.0.1"
    return running.address.rpartition(":")[0] or running.name


def _sum(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for state, count in each.items():
            name = str(getattr(state, "value", state))
            total[name] = total.get(name, 0) + count
    return total


def _count(deployments: Any) -> dict[str, int]:
    return _sum({replica["state"]: 1} for each in deployments for replica in each["replicas"])
