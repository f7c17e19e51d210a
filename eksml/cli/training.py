"""The command ``eksml train``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from eksml import env
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
    resources: Annotated[
        dict[str, float] | None,
        typer.Option(parser=values.amounts, metavar="CPU=2,GPU=1", help="Of each worker.  [CPU=1]"),
    ] = None,
    storage: options.Storage = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The run's name; that of an ended run resumes it."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE|URL",
            help="Where to train.  [EKSML_CLUSTER, else in this process, on its own Ray]",
        ),
    ] = None,
    checkpoint_every: Annotated[
        dict[str, float] | None,
        typer.Option(parser=values.cadence, metavar="100|30s", help="Steps or time.  [60s]"),
    ] = None,
    keep: Annotated[int | None, typer.Option(help="Newest checkpoints to keep.  [3]")] = None,
    max_failures: Annotated[
        int, typer.Option(help="Failures without a new checkpoint to survive; -1: any number.")
    ] = 3,
    seed: Annotated[int, typer.Option(help="Of torch, numpy and Python.")] = 0,
    deadline: Annotated[
        float | None,
        typer.Option(parser=values.duration_s, metavar="2h", help="Stop at a checkpoint then."),
    ] = None,
    budget_node_hours: Annotated[
        float | None, typer.Option(metavar="HOURS", help="Stop at a checkpoint once spent.")
    ] = None,
    working_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Take it along to the cluster.")
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return at once; the run goes on on its cluster.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Train a function with exact resume, here or on a cluster.

    A run that was killed, cancelled or failed goes on from its last checkpoint when it is started
    again with the same --name.
    """
    where = cluster or env.CLUSTER()
    if no_wait and where is None:
        raise typer.BadParameter(
            "needs --cluster: a run in this process ends with it.", param_hint="--no-wait"
        )
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
