"""``eksml.serve``: language models behind an OpenAI-compatible API, here or on a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eksml.errors import InvalidSpec
from eksml.registry import name_of
from eksml.serving.device import located, on_device
from eksml.serving.endpoint import START_S, Endpoint
from eksml.serving.spec import LimitsSpec, ModelSpec, ServeSpec, TenantSpec

if TYPE_CHECKING:
    from eksml.backends import Running
    from eksml.cluster import Cluster

PORT = 8000
Model = ModelSpec | Mapping[str, Any] | str


def serve(
    models: Model | Iterable[Model],
    *,
    cluster: Cluster | Running | str | Path | None = None,
    name: str = "llm",
    route: str = "/",
    port: int = PORT,
    tenants: Iterable[TenantSpec | Mapping[str, Any]] = (),
    tenants_file: str | None = None,
    limits: LimitsSpec | Mapping[str, Any] | None = None,
    log_prompts: bool = False,
    batches: str | None = None,
    wait: bool = True,
    timeout_s: float = START_S,
) -> Endpoint:
    """Serve models.

    >>> endpoint = eksml.serve("Qwen/Qwen3-8B")                    # doctest: +SKIP
    >>> endpoint.client().chat.completions.create(model="Qwen3-8B", messages=[…])  # doctest: +SKIP

    Args:
        models: One or several: a :class:`ModelSpec`, its fields, or the source alone, whose last
            part (of ``models:/NAME@ALIAS`` the name) is then the name.
        cluster: Where: a specification, the path of its YAML file, a name or a handle. None: the
            running Ray, else one of this process's own.
        name: Of the whole. The same name again changes what is served.
        route: Where the API begins.
        port: Of Serve's proxy, unless Serve runs already.
        tenants: Who may ask, each by the hash of a key; none: everybody.
        tenants_file: JSON list of tenants instead, read again when it changes.
        limits: What one request may ask for.
        log_prompts: Whether prompts and answers stand in the access log.
        batches: Folder for ``/v1/batches``; None: there is no such API.
        wait: Return when the models answer.
        timeout_s: For that.

    Raises:
        InvalidSpec: With every problem, before anything starts.
        NotFound, StorageUnavailable: A registered version cannot be looked up.
        DoesNotFit: A replica can never be placed.
        ClusterNotUp, ClusterStartFailed: There is no Ray to work on.
        RunFailed: A model cannot be started; says why.
        ClusterError: The models are not ready in time.
    """
    fields: dict[str, Any] = {  # pydantic makes of plain data what it should be
        "name": name,
        "route": route,
        "models": _models(models),
        "tenants": tuple(tenants),
        "tenants_file": tenants_file,
        "limits": {} if limits is None else limits,
        "log_prompts": log_prompts,
        "batches": batches,
    }
    spec = checked(ServeSpec(**fields), cluster)
    endpoint = _deployed(spec, cluster, port)
    if wait:
        endpoint.wait_ready(timeout_s)
    return endpoint


def checked(spec: ServeSpec, cluster: Cluster | Running | str | Path | None) -> ServeSpec:
    """The specification, its models' files, arguments and memory looked at. Registered versions
    are looked up; on this machine, what they compute on is filled in.

    Raises:
        InvalidSpec: With every problem.
        MissingExtra: This machine has no vLLM to compute with.
        NotFound, StorageUnavailable: A registered version cannot be looked up.
    """
    from eksml.cluster import Cluster
    from eksml.serving.checks import problems_of

    models = map(located, spec.models)
    if cluster is None:
        models = map(on_device, models)
    spec = spec.model_copy(update={"models": tuple(models)})
    known = cluster if isinstance(cluster, Cluster) else getattr(cluster, "spec", None)
    if problems := problems_of(spec, known):
        raise InvalidSpec(problems, "what is to be served")
    return spec


def _deployed(
    spec: ServeSpec, cluster: Cluster | Running | str | Path | None, port: int
) -> Endpoint:
    from eksml.cluster import Demand
    from eksml.runs.connect import target_of
    from eksml.serving.apps import parts_of, replica_resources
    from eksml.serving.stage import Here, There

    bundles = tuple(
        replica_resources(model)
        for model in spec.models
        for _ in range(max(1, model.replica_range[0]))
    )
    target = target_of(Demand(bundles, what="replicas"), cluster)
    stage = Here(port) if target is None else There(target, port)
    stage.deploy(parts_of(spec, stage.origin))
    return Endpoint(spec, stage)


def _models(models: Model | Iterable[Model]) -> tuple[Any, ...]:
    several = (models,) if isinstance(models, ModelSpec | Mapping | str | Path) else tuple(models)
    return tuple(_model(model) for model in several)


def _model(model: Any) -> Any:
    if not isinstance(model, str | Path):
        return model
    source = str(model)
    return {"name": name_of(source), "source": source}
