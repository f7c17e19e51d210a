"""One fingerprint for one behaviour, in every process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eksml.batches.models.fingerprint import fingerprint

SCRIPT = """
import re, sys, numpy, torch
sys.path.insert(0, {root!r})
from eksml.batches.models.fingerprint import fingerprint

{comment}
LIMIT = {limit}
KINDS = {{"cat", "dog", "horse", "cow"}}

def grade(x):
    return x > LIMIT and str(x) in KINDS

class Model:
    words = re.compile("[a-z]+")

    def __init__(self, k=1):
        self.k, self.seen, self.me = k, {{"a", "b", "c", "d"}}, self
        self.weights = numpy.arange(6.0).reshape(2, 3)

    def __call__(self, batch):
        return {{"y": [grade(x) for x in batch["x"] if x not in ("u", "v")]}}

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.ReLU())
print(fingerprint((Model, Model(), Model(3).__call__, lambda b: grade(b), grade, net)))
"""


def printed(folder: Path, comment: str = "", limit: float = 0.5) -> str:
    folder.mkdir()
    root = str(Path(__file__).resolve().parents[2])
    script = folder / "script.py"
    script.write_text(SCRIPT.format(root=root, comment=comment, limit=limit))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert re.fullmatch("[0-9a-f]{32}\n", done.stdout)
    return done.stdout


@pytest.mark.long
def test_a_fingerprint_is_the_same_in_every_process_and_changes_with_what_code_uses(
    tmp_path: Path,
) -> None:
    first = printed(tmp_path / "one")
    assert printed(tmp_path / "another", comment="# a comment\n\n") == first
    assert printed(tmp_path / "changed", limit=0.6) != first


def made(factor: int, shift: int = 0):
    def scaled(x: int, *, by: int = factor) -> int:
        return x * by + shift

    return scaled


def test_code_defaults_and_closures_count() -> None:
    same, default, closure = made(2), made(3), made(2, 1)
    assert fingerprint(made(2)) == fingerprint(same)
    assert len({fingerprint(item) for item in (same, default, closure)}) == 3


def test_weights_and_arrays_count_to_the_last_bit() -> None:
    net = torch.nn.Linear(2, 2)
    before = fingerprint(net)
    assert fingerprint(net) == before
    with torch.no_grad():
        net.weight[0, 0] = torch.nextafter(net.weight[0, 0], torch.tensor(9.0))
    assert fingerprint(net) != before
    assert fingerprint(np.zeros(3)) != fingerprint(np.zeros(3, dtype=np.float32))
    assert fingerprint(np.array([1, 2])) != fingerprint(np.array([2, 1]))


def test_what_holds_itself_has_a_fingerprint() -> None:
    ring: list[object] = [1]
    ring.append(ring)
    assert fingerprint(ring) == fingerprint(ring)


def test_dictionaries_and_sets_count_without_their_order() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
