"""Commands on clusters: up, down, status, scale, interrupt, env."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from eksml.cli import options, output
from eksml.cli.app import command
from eksml.errors import ClusterError, ClusterNotUp

if TYPE_CHECKING:
    from eksml.backends import Running

_START = "Start one with `eksml up clusters/laptop.yaml`."

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME",
        help="Which cluster.  [EKSML_CLUSTER, else the only one that is up]",
    ),
]


@command(
    "up",
    "eksml up clusters/laptop.yaml",
    "eksml up clusters/laptop.yaml --json | jq .jobs_address",
    "eksml up clusters/gpu-train.yaml --timeout 1800",
)
def up(
    file: options.ClusterFile,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="How long its nodes may take to join.  [180; on EKS 900]"
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="On EKS: leave there what a failed start created.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="On EKS: take over fields that another manager owns.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Start a cluster, and wait until all its nodes are there.

    It stays up until `eksml down`. If it is up already, this shows it.
    """
    from eksml import backends
    from eksml.cluster import Cluster

    running = backends.up(
        Cluster.load(file), detach=True, timeout_s=timeout, keep=keep, force=force
    )
    status = running.status()
    if json:
        output.print_json(status.to_dict())
        return
    typer.echo(str(status))
    output.note(
        f"\n{'Up' if running.started_here else 'It was up already'}. Next:\n"
        f"  eksml train FILE.py --cluster {running.name}\n"
        f'  eval "$(eksml env {running.name})"     then: ray status, ray job submit …\n'
        f"  eksml down {running.name}"
    )


@command("down", "eksml down laptop", "eksml down clusters/laptop.yaml")
def down(
    cluster: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Its name or YAML file.")],
) -> None:
    """End a cluster: all its nodes, and the runs on them. Runs resume on the next cluster."""
    from eksml import backends
    from eksml.cluster import Cluster

    # By name even for a file, which may have been edited since
    name = Cluster.load(cluster).name if cluster.endswith((".yaml", ".yml")) else cluster
    running = backends.of(name)
    assert running is not None, "a name is never None"
    try:
        receipt = running.receipt()
    except ClusterError as error:  # it goes down all the same
        receipt = None
        output.note(f"What it cost is not known: {error}")
    running.down()
    output.note(f"{name} is down.")
    if receipt is not None:
        typer.echo(str(receipt))


@command(
    "status",
    "eksml status",
    "eksml status laptop",
    "eksml status laptop --json | jq '.nodes[].phase'",
)
def status(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One cluster, with its nodes.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show the clusters that are up, or one cluster's nodes."""
    from eksml import backends

    if name is not None:
        one = choose(name).status()
        if json:
            output.print_json(one.to_dict())
        else:
            typer.echo(str(one))
        return
    all_up = [running.status() for running in backends.list_up()]
    if json:
        output.print_json([one.to_dict() for one in all_up])
    elif not all_up:
        output.note(f"No cluster is up. {_START}")
    else:
        rows = [(one.name, one.phase, str(len(one.nodes)), one.jobs_address) for one in all_up]
        output.print_table(("name", "state", "nodes", "jobs address"), rows)


@command("scale", "eksml scale cpu 4", "eksml scale gpu 0 --cluster laptop")
def scale(
    group: Annotated[str, typer.Argument(metavar="GROUP", help="The worker group's name.")],
    nodes: Annotated[int, typer.Argument(metavar="NODES", help="How many it shall have.")],
    cluster: ClusterOption = None,
) -> None:
    """Ask for a number of nodes in a worker group, within its range. Does not wait for them."""
    running = choose(cluster)
    running.scale(group, nodes)
    output.note(f"{running.name}: {nodes} nodes of {group} asked for; see `eksml status`.")


@command("interrupt", "eksml interrupt cpu-1", "eksml interrupt cpu-1 --notice 5")
def interrupt(
    node: Annotated[str, typer.Argument(metavar="NODE", help="As `eksml status NAME` shows it.")],
    notice: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="From notice to kill.  [the cluster's notice_s]"),
    ] = None,
    cluster: ClusterOption = None,
) -> None:
    """Reclaim a node as a spot market does: a notice, then the kill.

    For local clusters. Runs see the notice and commit a checkpoint; another node takes its place.
    """
    from eksml.backends.local import LocalRunning

    running = choose(cluster)
    if not isinstance(running, LocalRunning):
        raise ClusterError(f"{running.name} is not a local cluster; its nodes cannot be reclaimed.")
    running.interrupt(node, notice_s=notice)
    output.note(f"{running.name}: {node} has its notice; see `eksml status {running.name}`.")


@command(
    "env",
    'eval "$(eksml env laptop)"',
    "ray job submit --working-dir . -- python jobs/train_digits.py",
)
def env(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="The cluster.  [EKSML_CLUSTER, else the only one that is up]"
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Print export lines under which Ray's own commands find a cluster."""
    variables = choose(name).env()
    if json:
        output.print_json(variables)
        return
    for variable, value in variables.items():
        typer.echo(f"export {variable}={shlex.quote(value)}")


def choose(name: str | None) -> Running:
    """The running cluster that is meant.

    Raises:
        ClusterNotUp: It is not up, or none is.
        ClusterError: Several are up, and none was named.
    """
    from eksml import backends
    from eksml import env as environment

    running = backends.of(name or environment.CLUSTER())
    if running is not None:
        return running
    all_up = backends.list_up()
    if not all_up:
        raise ClusterNotUp(f"No cluster is up. {_START}")
    if len(all_up) > 1:
        names = ", ".join(one.name for one in all_up)
        raise ClusterError(f"Several clusters are up ({names}). Name one, or set EKSML_CLUSTER.")
    return all_up[0]
