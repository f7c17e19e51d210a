"""Checks of this machine: memory, shared memory, and clusters that somebody left."""

from __future__ import annotations

import shutil
from pathlib import Path

from eksml.cli.checks.finding import Check, Finding

GIB = 2**30
_CGROUP = Path("/sys/fs/cgroup")
_SHM = Path("/dev/shm")


def memory() -> Finding:
    """Memory that is free, within the container's limit. A node of a cluster takes about 0.5 GiB
    before it does anything, a training worker with torch another 0.5."""
    free, total = _memory()
    detail = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if free < GIB:
        return Finding("fail", detail, "A local cluster needs 2 GiB; end other programs.")
    if free < 4 * GIB:
        return Finding("warn", detail, "Enough for one small cluster; end other programs.")
    return Finding("ok", detail)


def shared_memory() -> Finding:
    """Where Ray keeps objects; containers are given 64 MiB unless they ask for more."""
    if not _SHM.is_dir():
        return Finding("ok", "not used on this system")
    free = shutil.disk_usage(_SHM).free
    detail = f"{free / GIB:.1f} GiB free"
    if free < GIB:
        return Finding(
            "warn",
            f"{detail}; Ray will keep objects on disk, which is slow",
            "docker run --shm-size=4g; in a pod, mount an emptyDir with medium: Memory there.",
        )
    return Finding("ok", detail)


def clusters() -> Finding:
    """Local clusters that are up, and what is left of those that crashed."""
    from eksml.backends.state import all_folders

    states = [state for folder in all_folders() if (state := folder.read()) is not None]
    live = ", ".join(f"{one.name} ({len(one.nodes)} nodes)" for one in states if one.kept())
    dead = ", ".join(one.name for one in states if not one.kept())
    if dead:
        return Finding("warn", f"left over: {dead}", "`eksml status` removes what is left.")
    return Finding("ok", f"up: {live}" if live else "none is up, nothing is left over")


MACHINE = (
    Check("memory", memory),
    Check("/dev/shm", shared_memory),
    Check("clusters", clusters, unanswered="warn"),
)


def _memory() -> tuple[int, int]:
    """Free and total bytes: the machine's, or the container's where that is less."""
    import psutil

    here = psutil.virtual_memory()
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no cgroups v2, or no limit
        return here.available, here.total
    used -= int(stat.get("inactive_file", 0))  # the page cache gives way
    return min(here.available, limit - used), min(here.total, limit)
