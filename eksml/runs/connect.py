"""The Ray that a verb works on: the one that is running, else one of this process's own."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eksml.cluster import Demand, preflight
from eksml.cluster.vocabulary import NO_NICENESS
from eksml.errors import ClusterStartFailed
from eksml.runs.call import Call

if TYPE_CHECKING:
    from eksml.backends import Running
    from eksml.cluster import Cluster

_RAY_SETTINGS = {
    **NO_NICENESS,
    # Ray's 60 s are shorter than a GPU node takes to boot when a group scales from zero (ray#60376)
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1800",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    # It would log a second time what the run's logs have
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}


def connect(working_dir: Path | None = None, num_cpus: int | None = None) -> None:
    """Use the Ray that is running (``ray.init`` was called, or RAY_ADDRESS), else start one here.

    Args:
        working_dir: Becomes the workers' working directory, on every node.
        num_cpus: Logical CPUs of a Ray that is started here; at least 4, even on fewer cores.

    Raises:
        ClusterStartFailed: It did not start, or cannot be joined.
    """
    import ray

    for name, value in _RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    where = {} if address else _embedded(num_cpus)
    runtime_env: dict[str, Any] = {}
    if address:
        # Some of Ray's own actors look for their cluster, and find others on the same machine
        runtime_env["env_vars"] = {"RAY_ADDRESS": address}
    if working_dir:
        runtime_env["working_dir"] = str(working_dir)
    try:
        ray.init(runtime_env=runtime_env, logging_level=logging.WARNING, **where)
    except Exception as error:  # Ray raises plain ones
        what = f"joined at {address}" if address else "started on this machine"
        raise ClusterStartFailed(f"Ray could not be {what}: {error} Try `eksml doctor`.") from error


@contextlib.contextmanager
def connected(call: Call) -> Iterator[None]:
    """Connect as :func:`connect` does, with the call's modules and files in all workers."""
    with tempfile.TemporaryDirectory(prefix="eksml-") as folder:
        # Ray sends one folder to every node. The working folder comes first and so goes on top
        for path in reversed(call.paths):
            shutil.copytree(path, folder, dirs_exist_ok=True)
        connect(working_dir=Path(folder) if call.paths else None)
        yield


def target_of(demand: Demand, cluster: Cluster | Running | str | Path | None) -> Running | None:
    """The cluster to work on, proven large enough; None for this process's own Ray."""
    from eksml import backends

    target = backends.of(cluster)
    if target is not None:
        preflight(demand, target.offers())
        return target
    import ray

    connect()
    preflight(demand, ray.nodes())
    return None


def _embedded(num_cpus: int | None) -> dict[str, Any]:
    """A Ray of this process's own. «local»: never join one that somebody else started here."""
    return {"address": "local", "num_cpus": num_cpus or max(4, os.cpu_count() or 1)}
