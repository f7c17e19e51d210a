"""A run that makes progress is started again; one that does not is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import ActorDiedError, ObjectLostError, RayTaskError
from torch.distributed import DistNetworkError

from eksml.errors import CheckpointError
from eksml.training.restarts import Budget
from eksml.training.worker import is_collateral


def test_killed_workers_are_restarted_up_to_the_limit_without_progress():
    budget = Budget(max_failures=2, progress=0)
    assert budget.spend(set(), 0) is None
    assert budget.spend({"collateral"}, 0) is None
    assert "max_failures=2" in budget.spend(set(), 0)


def test_a_new_checkpoint_gives_the_whole_budget_back():
    budget = Budget(max_failures=1, progress=0)
    for step in range(10, 1000, 10):
        assert budget.spend(set(), step) is None


def test_a_users_exception_is_not_tried_again_without_progress():
    budget = Budget(max_failures=-1, progress=50)
    assert "training function failed" in budget.spend({"user", "collateral"}, 50)


def test_a_users_exception_after_progress_is_tried_once_more():
    budget = Budget(max_failures=3, progress=0)
    assert budget.spend({"user"}, 10) is None
    assert budget.spend({"user"}, 10) is not None


def test_zero_means_none_at_all():
    assert Budget(max_failures=0, progress=0).spend(set(), 10) is not None


@given(st.lists(st.integers(0, 5)))
def test_announced_reclaims_are_never_counted(steps):
    budget = Budget(max_failures=0, progress=0)
    assert all(budget.spend({"preempted"}, step) is None for step in steps)


@given(st.lists(st.integers(0, 5), min_size=1))
def test_no_limit_survives_any_number_of_kills(steps):
    budget = Budget(max_failures=-1, progress=0)
    assert all(budget.spend(set(), step) is None for step in steps)


def caused_by(cause: Exception) -> CheckpointError:
    error = CheckpointError("A rank did not send checkpoint/120/end in 60 s.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (caused_by(DistNetworkError("Connection reset by peer")), True),
        (caused_by(OSError("No space left on device")), False),
        (ActorDiedError(), True),
        (ObjectLostError("00" * 28, None, ""), True),
        (RuntimeError("Connection closed by peer [127.0.0.1]:50603."), True),
        (RayTaskError("load", "Traceback: ValueError", ValueError("no column")), False),
        (RuntimeError("size mismatch"), False),
        (ValueError("no column"), False),
    ],
)
def test_what_ray_or_another_rank_lost_is_no_fault_of_the_function(error, expected):
    assert is_collateral(error) is expected
