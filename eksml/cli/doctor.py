"""The command ``eksml doctor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from eksml.cli import options, output
from eksml.cli.app import command

if TYPE_CHECKING:
    from eksml.cli.checks import Answer


@command(
    "doctor",
    "eksml doctor",
    "eksml doctor --storage s3://bucket/runs --json",
    "eksml doctor --cluster --cluster-name my-eks",
)
def doctor(
    storage: options.Storage = None,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Look at the Kubernetes of the kubeconfig instead."),
    ] = False,
    cluster_name: options.EksCluster = None,
    json: options.Json = False,
) -> None:
    """Look whether eksml can work here, and say what to do.

    Each line is ok, warn or fail. Exit code 1 if anything fails. With --cluster: operator, CRDs,
    device plugins, drivers, Karpenter, Kueue, identity and monitoring of a Kubernetes.
    """
    answers = _of_cluster(cluster_name) if cluster or cluster_name else _of_machine(storage)
    failed = any(answer.finding.level == "fail" for answer in answers)
    if json:
        checks = [{"name": answer.name, **asdict(answer.finding)} for answer in answers]
        output.print_json({"ok": not failed, "checks": checks})
    else:
        _print(answers)
    if failed:
        raise typer.Exit(1)


def _of_machine(storage: str | None) -> list[Answer]:
    from eksml.cli.checks import all_checks, look_at_all

    return look_at_all(all_checks(storage))


def _of_cluster(name: str | None) -> list[Answer]:
    from eksml.cli.checks import cluster_checks, look_at_all
    from eksml.cli.checks.cluster import LIMIT_S

    return look_at_all(cluster_checks(name), LIMIT_S)


def _print(answers: list[Answer]) -> None:
    """A line each, and what to do under it."""
    from rich.text import Text

    out = output.console()
    width = max(len(answer.name) for answer in answers)
    for answer in answers:
        finding = answer.finding
        level = Text(finding.level.ljust(4), style=output.STYLES[finding.level])
        line = Text.assemble(level, f"  {answer.name.ljust(width)}  {finding.detail}")
        out.print(line, soft_wrap=True)
        if finding.remedy:
            out.print(Text(f"{'':{width + 6}}  → {finding.remedy}", style="dim"), soft_wrap=True)
