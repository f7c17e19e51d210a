"""The command ``eksml batch``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eksml.cli import options, output, values
from eksml.cli.app import command
from eksml.cli.starting import print_end, start, stdout_kept_free
from eksml.cli.summary import summary

if TYPE_CHECKING:
    from eksml.batches.schedule import Schedule
    from eksml.runs import Run

EXAMPLES = (
    "eksml batch Qwen/Qwen3-8B reviews.parquet out/ --prompt 'Summarise: {text}'",
    "eksml batch classify.py:Classify images/ s3://bucket/labels --name labels",
    "eksml batch model.py:model s3://bucket/rows s3://bucket/out --cluster tune --workers 2,8",
    "eksml batch classify.py:Classify images/ s3://bucket/labels --name labels --retry-errors",
    "eksml batch model.py:model s3://b/rows s3://b/out --name nightly --since watermark",
    "eksml batch model.py:model s3://b/rows s3://b/out --name nightly --since watermark "
    "--schedule '0 3 * * *' --cluster eks.yaml --storage s3://b/runs",
)


@command("batch", *EXAMPLES)
def batch(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="FILE.py:name or module:name of a class, a function or a model object; or, with "
            "--prompt, a language model: its folder, s3:// URI or name on the hub.",
        ),
    ],
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="Files, folders or patterns, local or s3://."),
    ],
    output_folder: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="Folder for the results, local or s3://.")
    ],
    prompt: Annotated[
        str | None,
        typer.Option(metavar="TEMPLATE", help="MODEL is a language model; columns in {braces}."),
    ] = None,
    sampling: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A sampling parameter, as YAML. Repeatable."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A vLLM engine argument, as YAML. Repeatable."),
    ] = None,
    workers: Annotated[
        Any,  # typer would take a tuple for two words
        typer.Option(parser=values.span, metavar="N|LEAST,MOST", help="Processes with the model."),
    ] = None,
    resources: options.Resources = None,
    format: Annotated[str, typer.Option(metavar="parquet|jsonl", help="Of the output.")] = (
        "parquet"
    ),
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Keep only these. Repeatable.")
    ] = None,
    partition_by: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Folders by its values. Repeatable.")
    ] = None,
    rows_per_file: Annotated[int | None, typer.Option(help="Rows of an output file.")] = None,
    max_error_share: Annotated[
        float, typer.Option(metavar="SHARE", help="Failed rows above which the run stops.")
    ] = 0.1,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Try the failed rows of the run --name again.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="watermark",
            help="Only files that are new or changed since the last success of the series --name.",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="'0 3 * * *'",
            help="Not now, but by the clock on EKS; with --since, and --cluster FILE.",
        ),
    ] = None,
    storage: options.Storage = None,
    name: options.NewRunName = None,
    cluster: options.Cluster = None,
    working_dir: options.WorkingDir = None,
    deadline: options.Deadline = None,
    budget_node_hours: options.NodeHours = None,
    no_wait: options.NoWait = False,
    json: options.Json = False,
) -> None:
    """Compute a model over data, every row once, here or on a cluster.

    A run that was killed, cancelled or failed computes what is left when it is started again with
    the same --name.
    """
    where = options.place(cluster, wait=not no_wait)
    for option, wanted in {"--retry-errors": retry_errors, "--since": since}.items():
        if wanted and name is None:
            raise typer.BadParameter("needs --name: of which run?", param_hint=option)
    with stdout_kept_free(json):
        from eksml.batches import batch as verb

        call: Callable[..., Any] = partial(
            verb,
            _model(model, prompt, sampling or (), engine or ()),
            data if len(data) > 1 else data[0],
            output_folder,
        )
        said: dict[str, Any] = {
            "name": name,
            "storage": storage,
            "cluster": where,
            "workers": workers,
            "resources": resources,
            "format": format,
            "keep": keep,
            "partition_by": tuple(partition_by or ()),
            "rows_per_file": rows_per_file,
            "max_error_share": max_error_share,
            "retry_errors": retry_errors,
            "since": since,
            "schedule": schedule,
            "working_dir": working_dir,
            "deadline_s": deadline,
            "budget_node_hours": budget_node_hours,
            "wait": not no_wait,
        }
        if schedule is None:
            run = _start(call, said)
        else:
            made = call(**said)
    if schedule is not None:
        _print_schedule(made, json)
    elif json:
        output.print_json(summary(run) | {"result": None if no_wait else run.result()})
    else:
        print_end(run, storage)


def _start(call: Callable[..., Run], said: dict[str, Any]) -> Run:
    """Start the run; Ctrl-C says how to go on."""
    try:
        return start("batch", call, **said)
    except KeyboardInterrupt:
        if said["since"] is None:
            raise
        raise KeyboardInterrupt(  # the name is no run's, so `start` knows too little
            "What is done stays done. Here the same command goes on; on a cluster the run does: "
            "see `eksml runs`."
        ) from None


def _print_schedule(made: Schedule, json: bool) -> None:
    namespace = made.manifest["metadata"]["namespace"]
    if json:
        output.print_json(made.manifest)
    else:
        output.print_facts({"schedule": made.name, "when": made.manifest["spec"]["schedule"]})
        output.note(
            f"Next: `eksml runs` · `kubectl get raycronjob -n {namespace}` · "
            f"`kubectl delete raycronjob {made.name} -n {namespace}`"
        )


def _model(text: str, prompt: str | None, sampling: Any, engine: Any) -> Any:
    """What MODEL names."""
    settings = {"--sampling": sampling, "--engine": engine}
    if prompt is not None:
        from eksml.batches import llm

        given = {name: values.config(items, None) for name, items in settings.items()}
        return llm(text, prompt=prompt, sampling=given["--sampling"], engine=given["--engine"])
    for option, items in settings.items():
        if items:
            raise typer.BadParameter("is for a language model; give --prompt.", param_hint=option)
    if ":" not in text or text.startswith("s3:"):
        raise typer.BadParameter(
            f"{text!r} is neither FILE.py:name nor module:name. For a language model add --prompt.",
            param_hint="MODEL",
        )
    from eksml.cli.script import load_object

    return load_object(text)
