"""A serving specification as Serve's configuration, and as KubeRay's service.

How many replicas a model has stands in ``deployments``, not in ``args``: Serve takes new arguments
for new code and replaces every replica, while it adds and removes replicas of the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eksml.cluster.workloads import RayServiceSpec
from eksml.cluster.yaml import load_yaml_file
from eksml.errors import InvalidSpec, Problem
from eksml.serving.apps import deployment_options, parts_of, replica_resources
from eksml.serving.environment import serve_environment
from eksml.serving.profiles import settings_of
from eksml.serving.spec import AppSpec, ModelSpec, ServeSpec

if TYPE_CHECKING:
    from eksml.cluster import Cluster
    from eksml.cluster.preflight import Demand

PORT = 8000
"""Serve's own, which KubeRay's Service leads to."""
BUILDERS = "eksml.serving.apps:"
_SCALING = ("num_replicas", "autoscaling_config", "graceful_shutdown_timeout_s")
"""Options of a deployment that change without new replicas."""


@dataclass(frozen=True)
class Written:
    """What a file says is to be served."""

    config: dict[str, Any]
    """Serve's configuration, with :func:`serve_options` where the file says nothing."""
    apps: tuple[AppSpec, ...]
    """One for each model."""

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """The models alone."""
        return tuple(app.model for app in self.apps)


def serve_config(spec: ServeSpec) -> dict[str, Any]:
    """Serve's configuration of all applications, as ``serve deploy`` takes it."""
    one_each = [model.model_copy(update={"replicas": 1}) for model in spec.models]
    parts = parts_of(spec.model_copy(update={"models": one_each}), f"http://127.0.0.1:{PORT}")
    applications: list[dict[str, Any]] = [
        {
            "name": part.name,
            "route_prefix": part.route,
            "import_path": part.import_path,
            "args": part.args,
        }
        for part in parts
    ]
    for model, application in zip(spec.models, applications, strict=False):  # a gateway comes last
        application["deployments"] = [_scaling(spec, model)]
    return {**serve_options(), "applications": applications}


def serve_options() -> dict[str, Any]:
    """The part of a configuration that is Serve's: it counts when Serve starts, then no more."""
    return {
        "http_options": {"host": "127.0.0.1", "port": PORT},
        "controller_options": {"runtime_env": {"env_vars": serve_environment()}},
    }


def ray_service_spec(config: Mapping[str, Any], **fields: Any) -> RayServiceSpec:
    """A configuration as KubeRay's service, to be rendered with a cluster.

    Serve listens on all addresses there: a pod's own is what a Service leads to.

    Args:
        config: Serve's configuration, from :func:`serve_config` or a file.
        fields: How upgrades come: those of :class:`RayServiceSpec`.

    Raises:
        InvalidSpec: With every problem.
    """
    http = {**config.get("http_options", {}), "host": "0.0.0.0"}
    return RayServiceSpec(serve_config={**config, "http_options": http}, **fields)


def read(path: str | Path) -> Written:
    """What a YAML file says is to be served: a Serve configuration, if it has ``applications``, or
    the fields of a :class:`ServeSpec`.

    Raises:
        InvalidSpec: It cannot be read, or with every problem in it.
    """
    fields = load_yaml_file(path, "the file")
    if "applications" not in fields:
        spec = ServeSpec(**fields)
        return Written(serve_config(spec), tuple(map(spec.app, spec.models)))
    applications = fields["applications"]
    if not isinstance(applications, list) or not all(isinstance(app, dict) for app in applications):
        raise InvalidSpec([Problem("applications", "is no list of mappings.")], str(path))
    apps = tuple(_apps(applications, str(path)))
    return Written({**serve_options(), **fields}, apps)


def on_cluster(model: ModelSpec, cluster: Cluster) -> ModelSpec:
    """The model with its device said: where it is not, what the cluster has most to offer."""
    from eksml.cluster.catalogue import instances

    if model.device is not None:
        return model
    known = [
        instances()[name]
        for group in cluster.groups
        for name in group.instances
        if name in instances()
    ]
    if any(group.gpus for group in cluster.groups) or any(each.gpu for each in known):
        device = "gpu"
    elif any(group.neuron_cores for group in cluster.groups) or any(each.neuron for each in known):
        device = "neuron"
    else:
        device = "cpu"
    return model.model_copy(update={"device": device})


def demands_of(models: tuple[ModelSpec, ...]) -> list[Demand]:
    """What must be placed for all models to be there, for :func:`eksml.cluster.preflight`.

    One replica counts of a model that scales to zero.
    """
    from eksml.cluster.preflight import Demand

    return [
        Demand((replica_resources(model),) * max(1, model.replica_range[0]), what=model.name)
        for model in models
    ]


def _scaling(spec: ServeSpec, model: ModelSpec) -> dict[str, Any]:
    settings = settings_of(model, deadline_s=spec.limits.deadline_s)
    options = deployment_options(model, settings, spec.batches)
    return {"name": options["name"]} | {name: options[name] for name in _SCALING if name in options}


def _apps(applications: list[dict[str, Any]], path: str) -> Iterator[AppSpec]:
    """The models of a Serve configuration's applications; every problem of all of them at once."""
    problems: list[Problem] = []
    for number, application in enumerate(applications):
        try:
            yield from _apps_of(application)
        except InvalidSpec as error:
            start = f"applications.{number}.args"
            problems += [
                Problem(f"{start}.{found.path}", found.message, found.remedy)
                for found in error.problems
            ]
    if problems:
        raise InvalidSpec(problems, path)


def _apps_of(application: Mapping[str, Any]) -> Iterator[AppSpec]:
    builder, args = application.get("import_path"), application.get("args", {})
    if not isinstance(args, Mapping):
        raise InvalidSpec([Problem("args", "is no mapping.", "Write the fields of AppSpec.")])
    if builder == f"{BUILDERS}model":
        app = AppSpec(**args)
        model = app.model.model_copy(update={"replicas": _replicas(application, app.model)})
        yield app.model_copy(update={"model": model})
    elif builder == f"{BUILDERS}gateway":
        ServeSpec(**args.get("serve", {}))


def _replicas(application: Mapping[str, Any], model: ModelSpec) -> Any:
    """As ``deployments`` says, else as the model does."""
    for options in application.get("deployments") or ():
        scaling = options.get("autoscaling_config") or {}
        if "max_replicas" in scaling:
            return (scaling.get("min_replicas", 1), scaling["max_replicas"])
        if isinstance(options.get("num_replicas"), int):
            return options["num_replicas"]
    return model.replicas
