"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

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
ClusterFile = Annotated[str, typer.Argument(metavar="FILE", help="The cluster's YAML file.")]
EksCluster = Annotated[
    str | None,
    typer.Option(
        "--cluster-name",
        metavar="EKS",
        help="Ask AWS about the EKS cluster of that name, too.",
    ),
]
