"""Commands on manifests: render, plan, check, diff, nodegroup."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eksml.cli import options, output
from eksml.cli.app import command

if TYPE_CHECKING:
    from eksml.cluster import Cluster
    from eksml.errors import Problem

_STDIN = "-"


@command(
    "render",
    "eksml render clusters/gpu-train.yaml | kubectl apply --server-side -f -",
    "eksml render clusters/gpu-train.yaml --kind NodePool --kind EC2NodeClass",
    "eksml render clusters/llm-serve.yaml --job service.yaml",
)
def render(
    file: options.ClusterFile,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only objects of this kind. May be repeated."),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(
            "--job",
            metavar="JOBFILE",
            help="A YAML file with a job, a service or a schedule to render in place of the "
            "RayCluster.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Print the Kubernetes objects of a cluster, in the order in which to apply them.

    Nothing is asked of anybody, and nothing is started.
    """
    from eksml.cluster.render import objects
    from eksml.cluster.workload_file import load_workload
    from eksml.cluster.yaml import dump_yaml

    made = objects(_load(file), load_workload(job) if job else None)
    if kind:
        made = _of_kinds(made, kind)
    if json:
        output.print_json(made)
    else:
        typer.echo("---\n".join(map(dump_yaml, made)), nl=False)


@command(
    "plan",
    "eksml plan clusters/gpu-train.yaml",
    "eksml plan clusters/gpu-train.yaml --cluster-name my-eks",
    "eksml plan clusters/gpu-train.yaml --json | jq .cost",
)
def plan(
    file: options.ClusterFile, cluster_name: options.EksCluster = None, json: options.Json = False
) -> None:
    """Show what a cluster would be: pods, machines, cost per hour, quotas, permissions, risks.

    Nobody is asked unless --cluster-name says so. Exit code 1 if it can't be had as it is written.
    """
    from eksml.backends import eks
    from eksml.cluster.plan import plan as plan_of

    spec = _load(file)
    answer = plan_of(spec)
    account = eks.ask(spec, answer.quotas, cluster_name) if cluster_name else None
    if json:
        output.print_json(answer.to_dict() | ({"account": account.to_dict()} if account else {}))
    else:
        typer.echo(str(answer))
        if account:
            typer.echo(f"\n{account}")
    if answer.problems or (account and account.problems):
        raise typer.Exit(1)


@command(
    "check",
    "eksml check raycluster.yaml",
    "helm template . | eksml check -",
    "eksml check *.yaml --gate RayCronJob --json",
)
def check(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="YAML of manifests; - for stdin.")
    ],
    gate: Annotated[
        list[str] | None,
        typer.Option("--gate", metavar="GATE", help="A feature gate that the operator has on."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Check manifests of KubeRay, whoever wrote them, by the rules that the API server omits.

    RayCluster, RayJob, RayService and RayCronJob, several in a file too. Exit code 1 if anything
    is wrong.
    """
    from dataclasses import asdict

    found = [(where, problems) for name in files for where, problems in _checked(name, gate or [])]
    wrong = sum(len(problems) for _, problems in found)
    if json:
        listed = [
            {"object": where, "problems": [asdict(one) for one in problems]}
            for where, problems in found
        ]
        output.print_json({"ok": not wrong, "objects": listed})
    else:
        for where, problems in found:
            output.print_level("fail" if problems else "ok", where)
            for problem in problems:
                typer.echo(f"      {problem}")
        if not found:
            output.note("No object of KubeRay is in there.")
    if wrong:
        raise typer.Exit(1)


@command(
    "diff",
    "eksml diff clusters/gpu-train.yaml",
    "eksml diff clusters/gpu-train.yaml --json | jq '.[].path'",
)
def diff(file: options.ClusterFile, json: options.Json = False) -> None:
    """Show what applying a cluster's file would change on the Kubernetes where it is up.

    Fields that others own are told, and left alone unless `eksml up --force`.
    """
    from dataclasses import asdict

    from eksml.backends.kube.difference import differences

    changes = differences(_load(file))
    if json:
        output.print_json([asdict(change) for change in changes])
    elif not changes:
        output.note("Nothing would change.")
    else:
        for change in changes:
            typer.echo(str(change))


@command(
    "nodegroup",
    "eksml nodegroup clusters/gpu-train.yaml gpu --cluster-name my-eks",
    "eksml nodegroup clusters/gpu-train.yaml gpu --cluster-name my-eks --create",
)
def nodegroup(
    file: options.ClusterFile,
    group: Annotated[
        str,
        typer.Argument(metavar="GROUP", help="The worker group's name; headgroup for the head."),
    ],
    cluster_name: Annotated[
        str, typer.Option("--cluster-name", metavar="EKS", help="The EKS cluster's name.")
    ],
    node_role: Annotated[
        str | None,
        typer.Option(
            metavar="ARN", help="The nodes' role.  [that of the node groups which are there]"
        ),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make it. Without: only show what would be asked.")
    ] = False,
) -> None:
    """Show, as JSON, the managed node group on which a worker group can land, or make it.

    With Karpenter, `eksml render FILE --kind NodePool` shows its pools instead.
    """
    from eksml.backends import eks

    spec = _load(file)
    where = eks.place_of(cluster_name, spec.region, node_role=node_role)
    asked = eks.node_group_request(spec, group, where, eks.reservation_of(spec, group))
    output.print_json(asked.to_dict())
    if create:
        arn = eks.create_node_group(asked, spec.region)
        name = asked.node_group["nodegroupName"]
        output.note(
            f"Asked for {arn}. Wait for it:\n  aws eks wait nodegroup-active "
            f"--cluster-name {cluster_name} --nodegroup-name {name} --region {spec.region}"
        )


def _load(file: str) -> Cluster:
    from eksml.cluster import Cluster

    return Cluster.load(file)


def _of_kinds(made: list[dict[str, Any]], kinds: list[str]) -> list[dict[str, Any]]:
    there = dict.fromkeys(one["kind"] for one in made)
    if unknown := [kind for kind in kinds if kind not in there]:
        raise typer.BadParameter(
            f"none of kind {', '.join(unknown)} is rendered; there are {', '.join(there)}",
            param_hint="--kind",
        )
    return [one for one in made if one["kind"] in kinds]


def _checked(name: str, gates: list[str]) -> list[tuple[str, list[Problem]]]:
    """Each object of KubeRay in a file, by its name there, with its problems."""
    from eksml.cluster.rules import check as problems_of
    from eksml.cluster.vocabulary import GATES
    from eksml.cluster.yaml import load_all_yaml

    if unknown := [gate for gate in gates if gate not in GATES]:
        told = f"no gate of KubeRay: {', '.join(unknown)}; they are {', '.join(GATES)}"
        raise typer.BadParameter(told, param_hint="--gate")
    try:
        text = sys.stdin.read() if name == _STDIN else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{name} cannot be read: {error}", param_hint="FILE") from error
    found = []
    for document in load_all_yaml(text, name):
        for thing in document.get("items") or () if document.get("kind") == "List" else [document]:
            if str(thing.get("apiVersion")).startswith("ray.io/"):
                metadata = thing.get("metadata")
                title = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
                where = f"{name}: {thing.get('kind')} {title}"
                found.append((where, problems_of(thing, gates=gates)))
    return found
