"""A position in the data: resuming gives the very batches that were still to come."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset

from eksml.errors import CheckpointError, InvalidSpec
from eksml.training.position import position_of, stateful_loader
from eksml.training.randomness import random_state, seed_all, set_random_state
from eksml.training.state import flatten, unflatten

DATA = TensorDataset(torch.arange(23))


class Numbers(IterableDataset):
    def __iter__(self):
        return iter(range(23))


def loaders():
    """Name to how a loader is made: each kind that users have."""
    return {
        "in order": lambda: DataLoader(DATA, batch_size=4),
        "shuffled": lambda: DataLoader(DATA, batch_size=4, shuffle=True),
        "last batch dropped": lambda: DataLoader(DATA, batch_size=4, shuffle=True, drop_last=True),
        "own generator": lambda: DataLoader(
            DATA, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(3)
        ),
        "with replacement": lambda: DataLoader(
            DATA, batch_size=4, sampler=RandomSampler(DATA, replacement=True, num_samples=17)
        ),
        "worker processes": lambda: DataLoader(DATA, batch_size=4, shuffle=True, num_workers=2),
        "iterable dataset": lambda: DataLoader(Numbers(), batch_size=4),
        "no batches": lambda: DataLoader(DATA, batch_size=None),
    }


def values(batch):
    return [item.tolist() for item in batch] if isinstance(batch, (list, tuple)) else batch.tolist()


def take(position, count):
    return [values(position.next(once=False)) for _ in range(count)]


@pytest.mark.parametrize("name", loaders())
@pytest.mark.parametrize("world", [1, 2])
def test_any_step_resumes_with_the_batches_that_were_to_come(name, world):
    seed_all(7)
    position = position_of(stateful_loader(loaders()[name](), 0, world, seed=5))
    position.start(None)
    saved, batches = [], []
    for _ in range(14):  # beyond two epochs
        state = {"position": position.state(), "random": random_state()} if batches else None
        saved.append(flatten(state))
        batches += take(position, 1)
    for step in (1, 3, 5, 6, 7, 11, 12):
        outline, tensors = saved[step]
        state = unflatten(json.loads(json.dumps(outline)), tensors)
        seed_all(99)  # another process
        again = position_of(stateful_loader(loaders()[name](), 0, world, seed=5))
        again.start(state["position"])
        set_random_state(state["random"])
        assert take(again, 14 - step) == batches[step:], f"after step {step}"


def test_ranks_share_an_epoch_without_overlap_and_shuffle_anew_in_the_next():
    epochs = []
    for rank in range(2):
        loader = stateful_loader(DataLoader(DATA, batch_size=2, shuffle=True), rank, 2, seed=1)
        position = position_of(loader)
        position.start(None)
        epochs.append([[i for b in take(position, 6) for i in b[0]] for _ in range(2)])
    first = epochs[0][0] + epochs[1][0]
    assert set(first) == set(range(23))
    assert len(first) == 24  # one row twice, so that both ranks take as many steps
    assert epochs[0][0] != epochs[0][1]


def test_any_repeatable_iterable_is_counted():
    position = position_of([1, 2, 3])
    position.start(None)
    assert [position.next(once=False) for _ in range(5)] == [1, 2, 3, 1, 2]
    again = position_of([1, 2, 3])
    again.start(position.state())
    assert [again.next(once=False) for _ in range(2)] == [3, 1]


def test_data_that_became_shorter_is_told():
    position = position_of([1, 2])
    with pytest.raises(CheckpointError, match="ended after 2 batches"):
        position.start({"kind": "counted", "epoch": 0, "count": 3})


def test_another_kind_of_data_than_the_checkpoints_is_told():
    with pytest.raises(CheckpointError, match="'stateful' position"):
        position_of([1]).start({"kind": "stateful", "epoch": 0, "batches": {}})


def test_empty_data_is_told_instead_of_spinning():
    position = position_of([])
    position.start(None)
    with pytest.raises(InvalidSpec, match="no batch in a whole epoch"):
        position.next(once=False)
