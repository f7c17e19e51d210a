"""The command ``eksml train``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from eksml.cli import options, output, values
from eksml.cli.app import command
from eksml.cli.starting import print_end, start, stdout_kept_free
from eksml.cli.summary import summary

EXAMPLES = (
    "eksml train jobs/train_digits.py",
    "eksml train train.py:fit --config lr=1e-3 --config layers='[64, 32]' --name digits",
    "eksml train train.py --cluster laptop --workers 2 --resources CPU=2 --no-wait",
    "eksml train my_package.digits:fit --config-file digits.yaml --checkpoint-every 5m",
)


@command("train", *EXAMPLES)
def train(
    function: Annotated[
        str,
        typer.Argument(
            metavar="FUNCTION",
            help="FILE.py[:function] or module:function; the function is `fit` unless named.",
        ),
    ],
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A value of ctx.config, as YAML. Repeatable."),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            metavar="YAML", exists=True, dir_okay=False, help="ctx.config; --config goes on top."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="Data for ctx.batches(NAME). Repeatable."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that train together.")] = 1,
    resources: options.Resources = None,
    storage: options.Storage = None,
    name: options.NewRunName = None,
    cluster: options.Cluster = None,
    checkpoint_every: Annotated[
        dict[str, float] | None,
        typer.Option(parser=values.cadence, metavar="100|30s", help="Steps or time.  [60s]"),
    ] = None,
    keep: Annotated[int | None, typer.Option(help="Newest checkpoints to keep.  [3]")] = None,
    max_failures: Annotated[
        int, typer.Option(help="Failures without a new checkpoint to survive; -1: any number.")
    ] = 3,
    seed: Annotated[int, typer.Option(help="Of torch, numpy and Python.")] = 0,
    deadline: options.Deadline = None,
    budget_node_hours: options.NodeHours = None,
    working_dir: options.WorkingDir = None,
    no_wait: options.NoWait = False,
    json: options.Json = False,
) -> None:
    """Train a function with exact resume, here or on a cluster.

    A run that was killed, cancelled or failed goes on from its last checkpoint when it is started
    again with the same --name.
    """
    where = options.place(cluster, wait=not no_wait)
    checkpoint: dict[str, Any] = dict(checkpoint_every or {})
    if keep is not None:
        checkpoint["keep"] = keep
    with stdout_kept_free(json):
        from eksml.cli.script import load_function
        from eksml.training import train as verb

        run = start(
            "train",
            partial(verb, load_function(function)),
            config=values.config(config or (), config_file),
            data=values.pairs(data or (), str, "NAME=PATH") or None,
            workers=workers,
            resources=resources,
            storage=storage,
            name=name,
            cluster=where,
            checkpoint=checkpoint or None,
            max_failures=max_failures,
            seed=seed,
            deadline_s=deadline,
            budget_node_hours=budget_node_hours,
            working_dir=working_dir,
            wait=not no_wait,
        )
    if json:
        output.print_json(summary(run) | {"result": None if no_wait else run.result()})
    else:
        print_end(run, storage)
