"""Open batches as those see them who scale replicas."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eksml.serving import ModelSpec
from eksml.serving.apps import deployment_options
from eksml.serving.batch_jobs import waiting
from eksml.serving.batch_jobs.waiting import Waiting
from eksml.serving.profiles import settings_of
from eksml.serving.scaling import LoadPolicy
from eksml.storage import URI


@pytest.fixture
def root(tmp_path: Path) -> URI:
    return URI.parse(tmp_path)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 0.0)


def mark(root: URI, batch: str, model: str) -> URI:
    uri = root / f"open/batch_{batch}.json"
    uri.write_json({"tenant": "ann", "model": model})
    return uri


def settles(ask: Any, wanted: Any) -> None:
    """The answer comes from a look of a moment ago."""
    deadline = time.monotonic() + 10
    while ask() != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_batch_waits_for_the_model_that_it_is_for_until_it_has_ended(root: URI) -> None:
    mine, other = Waiting(str(root), ["m", "adapter"]), Waiting(str(root), ["n"])
    assert not mine.any()
    opened = mark(root, "1", "adapter")
    settles(mine.any, True)
    for _ in range(3):
        settles(other.any, False)
    opened.delete()
    settles(mine.any, False)


def test_a_mark_that_cannot_be_read_wakes_nobody_and_hides_no_other(root: URI) -> None:
    (root / "open/batch_0.json").write_bytes(b"{")
    asked = Waiting(str(root), ["m"])
    mark(root, "1", "m")
    settles(asked.any, True)


def test_storage_that_does_not_answer_changes_nothing(
    root: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eksml.errors import StorageUnavailable

    looks: list[int] = []

    def fail(_: Any) -> None:
        looks.append(1)
        raise StorageUnavailable("gone")

    asked = Waiting(str(root), ["m"])
    mark(root, "1", "m")
    settles(asked.any, True)
    monkeypatch.setattr("eksml.serving.batch_jobs.marks.Marks.look", fail)
    settles(lambda: asked.any() and len(looks) > 2, True)


def test_it_is_looked_for_only_while_somebody_asks(
    root: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 5.0)
    now = [0.0]
    asked = Waiting(str(root), ["m"], clock=lambda: now[0])
    asked.any()
    settles(lambda: asked._thread is not None and asked._thread.is_alive(), False)
    mark(root, "1", "m")
    for _ in range(5):
        assert not asked.any()  # the last look was a moment ago
    now[0] = 5.0
    settles(asked.any, True)


def test_a_model_without_a_replica_gets_one_for_an_open_batch(root: URI) -> None:
    model = ModelSpec(name="m", source="/m", replicas=(0, 3))
    options = deployment_options(model, settings_of(model), str(root))
    policy = LoadPolicy(**options["autoscaling_config"]["policy"]["policy_kwargs"])
    idle = SimpleNamespace(
        current_time=1000.0,
        target_num_replicas=0,
        current_num_replicas=0,
        total_num_requests=0.0,
        aggregated_metrics={},
        policy_state={},
    )
    settles(lambda: policy(idle)[0], 0)
    opened = mark(root, "1", "m")
    settles(lambda: policy(idle)[0], 1)
    idle.target_num_replicas = idle.current_num_replicas = 1
    settles(lambda: policy(idle)[0], 1)  # and keeps it
    opened.delete()
    settles(lambda: policy(idle)[0], 0)


def test_storage_is_asked_only_for_models_that_may_have_no_replica(root: URI) -> None:
    for replicas, looks in (((0, 3), True), ((1, 3), False)):
        model = ModelSpec(name="m", source="/m", replicas=replicas)
        options = deployment_options(model, settings_of(model), str(root))
        kwargs = options["autoscaling_config"]["policy"]["policy_kwargs"]
        assert ("batches" in kwargs) == looks
