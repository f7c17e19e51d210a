"""A job, service or schedule from a YAML file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eksml.cluster.workloads import RayCronSpec, RayJobSpec, RayServiceSpec
from eksml.cluster.yaml import load_yaml
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    from eksml.cluster.render import Workload


def load_workload(path: str | Path) -> Workload:
    """The workload in a YAML file: a schedule if it says ``schedule``, a service if it says
    ``serve_config``, else a job.

    Raises:
        InvalidSpec: the file cannot be read, or with every problem in it.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(str(path), f"cannot be read: {error}.")
        raise InvalidSpec([problem], subject="the workload's file") from error
    fields = load_yaml(text, str(path))
    if "schedule" in fields:
        return RayCronSpec(**fields)
    return RayServiceSpec(**fields) if "serve_config" in fields else RayJobSpec(**fields)
