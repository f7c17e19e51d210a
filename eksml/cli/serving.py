"""The commands ``eksml serve …``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from eksml.cli import options, output, values
from eksml.cli.app import app

if TYPE_CHECKING:
    from eksml.serving.fit import Need, Room
    from eksml.serving.profiles import Settings
    from eksml.serving.spec import AppSpec, ModelSpec

serving = typer.Typer(
    help="Serve language models: explain their settings, render manifests, make API keys.",
    epilog=output.examples(
        "eksml serve explain serve_apps/llm.yaml",
        "eksml serve render serve_apps/llm.yaml --cluster clusters/llm-serve.yaml",
        "eksml serve key acme",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(serving, name="serve")

_FILE = typer.Argument(
    metavar="FILE", help="A YAML file: a Serve configuration, or the fields of a ServeSpec."
)


@serving.command(
    "explain",
    epilog=output.examples(
        "eksml serve explain serve_apps/llm-latency.yaml",
        "eksml serve explain Qwen/Qwen3-8B --profile throughput --instance g6.2xlarge",
        "eksml serve explain s3://models/llama --engine max_model_len=8192 --json",
    ),
)
def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|MODEL",
            help="A YAML file, or a model: its folder, s3:// URI, name on the hub or models:/ URI.",
        ),
    ],
    profile: Annotated[
        Literal["latency", "throughput"] | None,
        typer.Option(help="Of a MODEL.  [latency]"),
    ] = None,
    device: Annotated[
        Literal["cpu", "gpu", "neuron"] | None,
        typer.Option(help="What it computes on.  [as written, else gpu]"),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A vLLM argument of a MODEL, as YAML. Repeatable."),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Also, how much fits into the devices of this machine."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show every setting of a model, where it comes from, and why.

    What you write stands over the profile, and the profile over vLLM's defaults.
    """
    from eksml.serving.profiles import settings_of

    found = {}
    for each in _apps(what, profile, engine):
        model = each.model
        chosen = model.model_copy(update={"device": device}) if device else model
        settings = settings_of(chosen, deadline_s=each.limits.deadline_s)
        if json:
            found[model.name] = _as_json(chosen, settings, instance)
        else:
            _print(chosen, settings, instance)
    if json:
        output.print_json(found)


@serving.command(
    "render",
    epilog=output.examples(
        "eksml serve render serve_apps/llm.yaml --cluster clusters/llm-serve.yaml "
        "| kubectl apply --server-side -f -",
        "eksml serve render models.yaml > serve.yaml && serve deploy serve.yaml",
    ),
)
def render(
    file: Annotated[str, _FILE],
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The cluster's YAML file: print its Kubernetes objects, with a RayService. "
            "Without it: Serve's configuration.",
        ),
    ] = None,
    upgrade: Annotated[
        Literal["incremental", "new-cluster", "none"],
        typer.Option(help="How a later change comes onto a cluster."),
    ] = "incremental",
    json: options.Json = False,
) -> None:
    """Print what is to be served as a Serve configuration, or as a RayService with all around it.

    Nothing is asked of anybody, and nothing is started. A model that the cluster cannot place is
    refused.
    """
    from eksml.cluster.yaml import dump_yaml
    from eksml.serving import config

    written = config.read(file)
    if cluster is None:
        made = [written.config]
    else:
        from eksml.cluster import Cluster
        from eksml.cluster.preflight import preflight
        from eksml.cluster.render import objects

        spec = Cluster.load(cluster)
        placed = tuple(config.on_cluster(model, spec) for model in written.models)
        preflight(config.demands_of(placed), spec)
        made = objects(spec, config.ray_service_spec(written.config, upgrade=upgrade))
    if json:
        output.print_json(made if cluster else made[0])
    else:
        typer.echo("---\n".join(map(dump_yaml, made)), nl=False)


@serving.command("key", epilog=output.examples("eksml serve key acme"))
def key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tenant's name.")],
    json: options.Json = False,
) -> None:
    """Make a new API key for a tenant, and the lines that let it in.

    The key is shown this once and written nowhere; a specification holds only its hash.
    """
    from eksml.serving.spec import TenantSpec, key_hash, new_key

    made = new_key()
    tenant = TenantSpec(name=name, key_sha256=key_hash(made))
    fields = {"name": tenant.name, "key_sha256": tenant.key_sha256}
    if json:
        output.print_json({"key": made, "tenant": fields})
        return
    output.print_facts({"key": made, **fields})
    output.note(
        "Give the key to the tenant: it is shown this once. Put name and key_sha256 into tenants, "
        "or into the file that tenants_file names."
    )


def _apps(what: str, profile: str | None, engine: list[str] | None) -> tuple[AppSpec, ...]:
    from eksml.registry import name_of
    from eksml.serving import config
    from eksml.serving.spec import AppSpec, ModelSpec

    if what.endswith((".yaml", ".yml")):
        if profile or engine:
            raise typer.BadParameter(
                "are for a MODEL; a file says its own.", param_hint="--profile and --engine"
            )
        return config.read(what).apps
    fields: dict[str, Any] = {"profile": profile} if profile else {}
    arguments = values.config(engine or (), None)
    model = ModelSpec(name=name_of(what), source=what, engine=arguments, **fields)
    return (AppSpec(model=model),)


def _print(model: ModelSpec, settings: Settings, instance: str | None) -> None:
    from eksml.serving import explain

    typer.echo(f"{model.name}: profile {model.profile} on {model.device or 'gpu'}")
    rows = list(explain.rows(settings))
    if (need := _need(model, settings)) is not None:
        rows += explain.memory_rows(need, _room(model, settings, instance))
    output.print_table(explain.COLUMNS, rows)


def _as_json(model: ModelSpec, settings: Settings, instance: str | None) -> dict[str, object]:
    from dataclasses import asdict

    from eksml.serving import explain

    made: dict[str, object] = {"settings": explain.as_json(settings)}
    if (need := _need(model, settings)) is not None:
        made["need"] = asdict(need)
        if (room := _room(model, settings, instance)) is not None:
            made["room"] = asdict(room) | {"sequences": room.sequences(need)}
    return made


def _need(model: ModelSpec, settings: Settings) -> Need | None:
    from eksml.errors import StorageError
    from eksml.serving.checks import need_on_disk
    from eksml.serving.device import located

    try:
        return need_on_disk(located(model), settings)
    except StorageError as error:
        output.note(f"Its memory is not known: {error}")
        return None


def _room(model: ModelSpec, settings: Settings, name: str | None) -> Room | None:
    from eksml.cluster.catalogue import instance
    from eksml.serving.fit import device_memory, room_of

    if name is None:
        return None
    device = model.device or "gpu"
    memory = device_memory(instance(name), device)
    if memory is None:
        raise typer.BadParameter(f"{name} has no {device}.", param_hint="--instance")
    return room_of(memory, settings, name)
