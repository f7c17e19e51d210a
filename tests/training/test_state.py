"""State as JSON and tensors: equal to the last bit, and never pickle."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eksml.errors import Damaged, UnsupportedState
from eksml.training.state import flatten, unflatten


def bits(value):
    """Something that is equal exactly if two states are equal to the last bit."""
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [bits(item) for item in value]
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, (np.ndarray, np.generic)):
        return type(value).__name__, str(value.dtype), value.tobytes()
    return type(value).__name__, repr(value)


TENSORS = st.builds(
    lambda values, kind: torch.tensor(values, dtype=kind),
    st.lists(st.integers(-100, 100), max_size=5),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.int8]),
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=10)
    | st.binary(max_size=10)
    | TENSORS
    | st.builds(np.float32, st.floats(width=32))
)
STATES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(STATES)
def test_what_is_taken_apart_comes_together_equal_to_the_last_bit(state):
    outline, tensors = flatten(state)
    restored = unflatten(json.loads(json.dumps(outline)), tensors)
    assert bits(restored) == bits(state)


def test_an_optimizers_state_and_every_random_state_survive():
    net = torch.nn.Linear(3, 2)
    opt = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    opt.step()
    state = {
        "opt": opt.state_dict(),
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
    }
    outline, tensors = flatten(state)
    restored = unflatten(json.loads(json.dumps(outline)), tensors)
    assert bits(restored) == bits(state)
    random.setstate(restored["python"])
    np.random.set_state(restored["numpy"])


def test_two_paths_that_read_alike_keep_their_own_tensors():
    state = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}}
    restored = unflatten(*flatten(state))
    assert restored["a.b"].item() == 0
    assert restored["a"]["b"].item() == 1


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"a": [0, object()]}, "a.1"),
        ({"when": {"x": torch.device("cpu")}}, "when.x"),
        ({"f": lambda: 0}, "f"),
        ({"s": torch.eye(2).to_sparse()}, "s"),
        ({"o": np.array([object()])}, "o"),
        ({"k": {(1, 2): 3}}, "k"),
    ],
)
def test_what_would_need_pickle_is_refused_by_its_path(state, where):
    with pytest.raises(UnsupportedState, match=f"^{where} "):
        flatten(state)


@pytest.mark.parametrize("outline", [{"tensor": "gone"}, {"code": "x"}, {"a": 1, "b": 2}, [1, {}]])
def test_an_outline_that_eksml_did_not_write_is_damaged(outline):
    with pytest.raises(Damaged, match="not one that eksml wrote"):
        unflatten({"list": [outline]}, {})
