"""A snapshot is a safetensors file: read by the format's own library, equal to the last bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from eksml.errors import NonFiniteState, UnsupportedState
from eksml.training.snapshot import Snapshot

KINDS = [
    torch.float64,
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]
SHAPES = st.lists(st.integers(0, 4), max_size=3)


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.tuples(SHAPES, st.sampled_from(KINDS))))
def test_the_formats_own_library_reads_what_was_there(spec):
    tensors = {
        name: torch.randint(0, 2, shape).to(kind)
        for name, (shape, kind) in spec.items()
        if name != "__metadata__"
    }
    snapshot = Snapshot()
    snapshot.take(tensors)
    read = load(b"".join(snapshot.views()))
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_a_snapshot_keeps_the_values_of_its_moment():
    snapshot, tensor = Snapshot(), torch.zeros(1000)
    snapshot.take({"x": tensor})
    tensor.fill_(1)
    assert load(b"".join(snapshot.views()))["x"].sum() == 0


def test_one_buffer_serves_all_snapshots_and_grows_if_it_must():
    snapshot = Snapshot()
    snapshot.take({"x": torch.ones(1000)})
    first = snapshot.views()[1].obj.ctypes.data
    snapshot.take({"x": torch.ones(900)})
    assert snapshot.views()[1].nbytes == 3600
    assert snapshot.views()[1].obj.ctypes.data == first
    snapshot.take({"x": torch.ones(2000)})
    assert snapshot.views()[1].nbytes == 8000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_one_value_that_is_not_finite_is_found_and_named(value, kind):
    good, bad = torch.ones(100, dtype=kind), torch.ones(100, dtype=kind)
    bad[57] = value
    snapshot = Snapshot()
    snapshot.take({"good": good, "layer.bad": bad, "count": torch.ones(3, dtype=torch.int64)})
    with pytest.raises(NonFiniteState, match=r"layer\.bad"):
        snapshot.check_finite()


def test_a_type_that_safetensors_lacks_is_refused():
    with pytest.raises(UnsupportedState, match="complex64"):
        Snapshot().take({"z": torch.zeros(2, dtype=torch.complex64)})
