"""A job, service or schedule from a YAML file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eksml.cluster.workloads import RayCronSpec, RayJobSpec, RayServiceSpec
from eksml.cluster.yaml import load_yaml_file

if TYPE_CHECKING:
    from eksml.cluster.render import Workload


def load_workload(path: str | Path) -> Workload:
    """The workload in a YAML file: a schedule if it says ``schedule``, a service if it says
    ``serve_config``, else a job.

    Raises:
        InvalidSpec: the file cannot be read, or with every problem in it.
    """
    fields = load_yaml_file(path, "the workload's file")
    if "schedule" in fields:
        return RayCronSpec(**fields)
    return RayServiceSpec(**fields) if "serve_config" in fields else RayJobSpec(**fields)
