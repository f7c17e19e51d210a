"""The Ray of this process."""

from __future__ import annotations

import os

import pytest


@pytest.mark.usefixtures("embedded_ray")
def test_its_workers_are_no_less_important_than_what_else_runs_here() -> None:
    import ray

    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert ray.get(ray.remote(lambda: os.getpriority(os.PRIO_PROCESS, 0)).remote()) == own
