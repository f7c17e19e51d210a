"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eksml import env
from eksml.cli import values

Json = Annotated[
    bool, typer.Option("--json", help="Print JSON for machines, and nothing else on stdout.")
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="PLACE",
        help="Where runs are kept: a folder or s3://bucket/prefix.  [EKSML_STORAGE, else "
        "~/.eksml/runs]",
    ),
]
RunName = Annotated[
    str, typer.Argument(metavar="NAME", help="The run's name; `eksml runs` lists them.")
]
NewRunName = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="The run's; that of an ended run resumes it."),
]
Resources = Annotated[
    dict[str, float] | None,
    typer.Option(
        "--resources", parser=values.amounts, metavar="CPU=2,GPU=1", help="Of each worker."
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME|FILE|URL",
        help="Where to run.  [EKSML_CLUSTER, else in this process, on its own Ray]",
    ),
]
WorkingDir = Annotated[
    Path | None,
    typer.Option("--working-dir", metavar="FOLDER", help="Take it along to the cluster."),
]
Deadline = Annotated[
    float | None,
    typer.Option("--deadline", parser=values.duration_s, metavar="2h", help="Stop then."),
]
NodeHours = Annotated[
    float | None,
    typer.Option("--budget-node-hours", metavar="HOURS", help="Stop once they are spent."),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return at once; the run goes on on its cluster.")
]
ClusterFile = Annotated[str, typer.Argument(metavar="FILE", help="The cluster's YAML file.")]
EksCluster = Annotated[
    str | None,
    typer.Option(
        "--cluster-name",
        metavar="EKS",
        help="Ask AWS about the EKS cluster of that name, too.",
    ),
]


def place(cluster: str | None, *, wait: bool) -> str | None:
    """Where a run shall be: ``--cluster``, or EKSML_CLUSTER; None for this process.

    Raises:
        typer.BadParameter: Nobody waits for a run that would end with this process.
    """
    where = cluster or env.CLUSTER()
    if where is None and not wait:
        raise typer.BadParameter(
            "needs --cluster: a run in this process ends with it.", param_hint="--no-wait"
        )
    return where
