"""Commands on the nodes of a cluster on Kubernetes: exec, cluster-logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from eksml.cli.app import command
from eksml.cli.clusters import ClusterOption, choose
from eksml.errors import ClusterError

if TYPE_CHECKING:
    from eksml.backends.kube import KubeRunning

NodeOption = Annotated[
    str,
    typer.Option("--node", metavar="NODE", help="As `eksml status NAME` shows it."),
]


@command(
    "exec",
    "eksml exec",
    "eksml exec -- ray status",
    "eksml exec --cluster train --node train-gpu-worker-x7k2p -- nvidia-smi",
)
def execute(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND...]", help="What to run.  [a shell]"),
    ] = None,
    cluster: ClusterOption = None,
    node: NodeOption = "head",
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long a command may take.")
    ] = 600,
) -> None:
    """Run a command on a node, or open a shell there. The exit code is the command's.

    For clusters on Kubernetes. The command's output comes when it has ended.
    """
    running = _on_kubernetes(cluster)
    if not words:
        raise typer.Exit(running.shell(node=node))
    done = running.exec(words, node=node, timeout_s=timeout)
    typer.echo(done.stdout, nl=False)
    typer.echo(done.stderr, nl=False, err=True)
    raise typer.Exit(done.exit_code)


@command(
    "cluster-logs",
    "eksml cluster-logs",
    "eksml cluster-logs train-gpu-worker-x7k2p --cluster train -f",
)
def cluster_logs(
    node: Annotated[
        str, typer.Argument(metavar="[NODE]", help="As `eksml status NAME` shows it.")
    ] = "head",
    cluster: ClusterOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the node ends.")
    ] = False,
    previous: Annotated[
        bool, typer.Option("--previous", help="Of the container before the last restart.")
    ] = False,
    lines: Annotated[int, typer.Option(min=1, metavar="LINES", help="So many at most.")] = 200,
) -> None:
    """Print what Ray printed on a node. For clusters on Kubernetes; `eksml logs` is for runs."""
    running = _on_kubernetes(cluster)
    for line in running.logs(node, lines=lines, follow=follow, previous=previous):
        typer.echo(line)


def _on_kubernetes(name: str | None) -> KubeRunning:
    from eksml.backends.kube import KubeRunning

    running = choose(name)
    if not isinstance(running, KubeRunning):
        raise ClusterError(f"{running.name} is not on Kubernetes; its nodes are processes here.")
    return running
