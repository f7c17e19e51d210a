"""What a Serve configuration names: ``import_path: eksml.serving.apps:model`` and ``…:gateway``.

::

    applications:
      - name: llm
        route_prefix: /
        import_path: eksml.serving.apps:model
        args:
          model: {name: qwen, source: Qwen/Qwen3-8B, replicas: [1, 4]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.serving.environment import REPLICA
from eksml.serving.scaling import Targets, autoscaling_config

if TYPE_CHECKING:
    from ray.serve import Application

    from eksml.serving.profiles import Settings
    from eksml.serving.spec import AppSpec, ModelSpec, ServeSpec

HEALTH_PERIOD_S = 5.0
"""Seconds between Serve's questions to a replica; after three bad answers it is replaced."""
TRIES = 3
"""A model that could not be started so often, in all replicas together, cannot be started."""
GATEWAY_ONGOING = 10_000
"""Requests that pass through a gateway at once; their models' gates bound them."""


@dataclass(frozen=True)
class Part:
    """One Serve application of what is served behind a URL."""

    name: str
    route: str
    builder: str
    """A function of this module."""
    args: dict[str, Any]
    """Its argument, of plain data."""

    @property
    def import_path(self) -> str:
        """As a Serve configuration names it."""
        return f"{__name__}:{self.builder}"

    def build(self) -> Application:
        """The application.

        Raises:
            InvalidSpec: With all that is wrong with the arguments.
        """
        builders: dict[str, Callable[[Mapping[str, Any]], Application]]
        builders = {"model": model, "gateway": gateway}
        return builders[self.builder](self.args)


def parts_of(spec: ServeSpec, origin: str) -> tuple[Part, ...]:
    """The applications of a specification: one for each model, and a gateway if there are several.

    Args:
        spec: What is served.
        origin: Where Serve's proxy is for the gateway: ``http://127.0.0.1:8000``.
    """
    alone = len(spec.models) == 1
    parts = [
        Part(
            spec.name if alone else f"{spec.name}-{each.name}",
            spec.route_of(each),
            "model",
            spec.app(each).model_dump(mode="json"),
        )
        for each in spec.models
    ]
    if not alone:
        args = {"origin": origin, "serve": spec.model_dump(mode="json")}
        parts.append(Part(spec.name, spec.route, "gateway", args))
    return tuple(parts)


def model(args: Mapping[str, Any]) -> Application:
    """The application of one model; ``args`` are the fields of :class:`AppSpec`.

    Raises:
        InvalidSpec: With all that is wrong with them.
    """
    from eksml.serving.spec import AppSpec

    return application(AppSpec(**args))


def gateway(args: Mapping[str, Any]) -> Application:
    """The application in front of several models.

    Args:
        args: ``serve``, the fields of a :class:`ServeSpec`; ``origin``, where Serve's proxy is for
            each node: ``http://127.0.0.1:8000`` unless given.

    Raises:
        InvalidSpec: With all that is wrong with them.
    """
    from ray import serve

    from eksml.serving.gateway import DEFAULT_ORIGIN, Gateway
    from eksml.serving.spec import ServeSpec

    spec = ServeSpec(**args["serve"])
    options = {
        "name": "gateway",
        "num_replicas": 1,
        "max_ongoing_requests": GATEWAY_ONGOING,
        "max_queued_requests": -1,
        "graceful_shutdown_timeout_s": spec.limits.deadline_s,
        "ray_actor_options": {"num_cpus": 0.1, "runtime_env": {"env_vars": dict(REPLICA)}},
        "logging_config": {"enable_access_log": False},
    }
    deployment = serve.deployment(serve.ingress()(Gateway), **options)
    return deployment.bind(spec.model_dump(mode="json"), args.get("origin", DEFAULT_ORIGIN))


def application(spec: AppSpec) -> Application:
    """The same, of a specification that was checked already."""
    from ray import serve

    from eksml.serving.device import located, on_device
    from eksml.serving.profiles import settings_of
    from eksml.serving.replica import Replica

    spec = spec.model_copy(update={"model": on_device(located(spec.model))})
    settings = settings_of(spec.model, deadline_s=spec.limits.deadline_s)
    options = deployment_options(spec.model, settings, spec.batches)
    deployment = serve.deployment(serve.ingress()(Replica), **options)
    # Plain data that Serve compares with what runs: a change in it replaces all replicas, so how
    # many there are is left out
    one = spec.model_copy(update={"model": spec.model.model_copy(update={"replicas": 1})})
    return deployment.bind(one.model_dump(mode="json"))


def deployment_options(
    model: ModelSpec, settings: Settings, batches: str | None = None
) -> dict[str, Any]:
    """How Serve is to run replicas of a model, for which batches are open in that folder."""
    fewest, most = model.replica_range
    options = {
        "name": "model",
        "max_ongoing_requests": settings.max_ongoing,
        "max_queued_requests": -1,  # the gate's queue is the one that is bounded
        "max_surge_percent": settings.surge_percent,
        "graceful_shutdown_timeout_s": settings.drain_s,
        "health_check_period_s": HEALTH_PERIOD_S,
        "max_constructor_retry_count": TRIES,
        "ray_actor_options": _actor_options(model),
        "logging_config": {"enable_access_log": False},
    }
    if fewest == most:
        return {**options, "num_replicas": fewest}
    targets = Targets(settings.target_ongoing, settings.target_ttft_s)
    delays = (settings.upscale_delay_s, settings.downscale_delay_s)
    names = list(model.served_names)
    waiting = None if batches is None else {"root": batches, "models": names}
    scaling = autoscaling_config(fewest, most, targets, *delays, waiting)
    return {**options, "autoscaling_config": scaling}


def replica_resources(model: ModelSpec) -> dict[str, float]:
    """What one replica takes, in Ray's names: all parts of an engine are processes of it."""
    if model.device == "gpu":
        return {"CPU": 1, "GPU": model.devices}
    if model.device == "neuron":
        return {"CPU": 1, "neuron_cores": model.devices}
    return {"CPU": model.devices}


def _actor_options(model: ModelSpec) -> dict[str, Any]:
    resources = replica_resources(model)
    options: dict[str, Any] = {
        "num_cpus": resources.pop("CPU"),
        "num_gpus": resources.pop("GPU", 0),
        "runtime_env": {"env_vars": dict(REPLICA)},
    }
    return {**options, "resources": resources} if resources else options
