"""Which process gets which tests, where several share the work (``make test``)."""

from __future__ import annotations

import re

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

TOGETHER = {
    "vLLM's own server": (
        "tests/batches/test_endpoint_vllm.py",
        "tests/batches/test_llm_generate.py",
    ),
    "the endpoint": (
        "tests/serving/test_serving_again.py",
        "tests/serving/test_serving_client.py",
        "tests/serving/test_serving_endpoint.py",
        "tests/serving/test_serving_pair.py",
        "tests/serving/test_serving_seen.py",
    ),
    "the undisturbed run": (
        "tests/faults/test_checkpoints.py",
        "tests/faults/test_training.py",
        "tests/faults/test_training_s3.py",
        "tests/training/test_train.py",
    ),
}
"""Files that share what takes long to make: one process runs all of them, and makes it once."""

_GROUP = {file: name for name, files in TOGETHER.items() for file in files}
_ON_RAY = re.compile(r"\b(embedded_ray|endpoint: Endpoint)\b")


class Division(LoadScopeScheduling):
    """A process that has nothing to do gets the next file, or the next files that are together.

    The first process prefers files with tests on the Ray of the tests, the others prefer the rest:
    so the others need none of their own before the end.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _GROUP.get(file, file)

    def _assign_work_unit(self, node: WorkerController) -> None:
        is_first = node is self.nodes[0]
        liked = (scope for scope in self.workqueue if self._is_on_ray(scope) == is_first)
        self.workqueue.move_to_end(next(liked, next(iter(self.workqueue))), last=False)
        super()._assign_work_unit(node)

    def _is_on_ray(self, scope: str) -> bool:
        files = {nodeid.partition("::")[0] for nodeid in self.workqueue[scope]}
        return any(_ON_RAY.search((self.config.rootpath / file).read_text()) for file in files)


def long_files_first(items: list[pytest.Item]) -> None:
    """Sort files with a test that is marked long before the others: at the end, where one process
    waits for the other, there are short ones."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)
