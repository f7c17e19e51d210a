"""Small files for the command line to train."""

from __future__ import annotations

from pathlib import Path

import pytest

SIBLING = "def half(total):\n    return total // 2\n"

TRAIN = """
from __future__ import annotations

import time
from dataclasses import dataclass

import halves

print("this line is not JSON")


@dataclass
class Plan:
    total: int


class Sum:
    value = 0.0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


def fit(ctx):
    plan, total = Plan(ctx.config.get("total", 20)), Sum()
    ctx.restore(total=total)
    print("half is", halves.half(plan.total))
    for step, _ in ctx.steps(range(10), total=plan.total):
        total.value += step
        ctx.log(loss=1 / (step + 1))
        time.sleep(ctx.config.get("sleep_s", 0.02))
    return {"half": halves.half(plan.total), "lr": ctx.config.get("lr"), "sum": total.value}


if __name__ == "__main__":
    raise SystemExit("the main part ran")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a training file and a module beside it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "halves.py").write_text(SIBLING)
    (folder / "tiny.py").write_text(TRAIN)
    return folder


@pytest.fixture
def no_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EKSML_HOME and EKSML_STORAGE with nothing in them."""
    monkeypatch.setenv("EKSML_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EKSML_STORAGE", str(tmp_path / "runs"))
    monkeypatch.delenv("EKSML_CLUSTER", raising=False)
