"""Batches with a position: where an iteration stands, as a state that resumes exactly there.

``position.next()`` gives the next batch and starts the next epoch when one is over;
``position.state()`` is what a run needs to give the batch *after* the last one again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from eksml.errors import CheckpointError, InvalidSpec, Problem

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader


class Position(Protocol):
    """The whole surface that the step loop needs of its data."""

    def start(self, state: Mapping[str, Any] | None) -> None:
        """Begin at ``state``, or at the beginning. Called once, before the first ``next``."""

    def next(self, once: bool) -> Any:
        """The next batch; raises StopIteration after the first epoch if ``once``."""

    def state(self) -> dict[str, Any]:
        """The position after the last batch that ``next`` gave."""


def position_of(batches: Iterable[Any]) -> Position:
    """The way to keep a position in ``batches``.

    A torch DataLoader or anything with ``state_dict`` / ``load_state_dict`` keeps its own; any
    other iterable is counted, which is exact if each iteration gives the same batches, and is
    repeated up to the position on resume.
    """
    if hasattr(batches, "state_dict") and hasattr(batches, "load_state_dict"):
        return _Stateful(batches)
    return _Counted(batches)


class _Epochs:
    """Iterates again and again; subclasses say how an epoch is begun."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.epoch = 0
        self._iterator: Iterator[Any] | None = None
        self._given = False

    def next(self, once: bool) -> Any:
        while True:
            assert self._iterator is not None, "start() comes first"
            try:
                batch = next(self._iterator)
            except StopIteration:
                if once:
                    raise
                if not self._given:
                    raise InvalidSpec(
                        [Problem("batches", "gave no batch in a whole epoch.", "Is it empty?")],
                        "the data",
                    ) from None
                self.epoch += 1
                self._given = False
                self._iterator = self._begin()
                continue
            self._given = True
            return batch

    def _begin(self) -> Iterator[Any]:
        set_epoch(self.batches, self.epoch)
        return iter(self.batches)


class _Stateful(_Epochs):
    """Batches that know their own position, such as torchdata's StatefulDataLoader."""

    def start(self, state: Mapping[str, Any] | None) -> None:
        if state is not None:
            self.epoch = _own(state, "stateful")["epoch"]
            self._given = True
            set_epoch(self.batches, self.epoch)
            self.batches.load_state_dict(state["batches"])
            self._iterator = iter(self.batches)
            # After the iterator: beginning one draws from them
            for generator, own in zip(self._generators(), state["generators"], strict=True):
                generator.set_state(own)
            return
        self._iterator = self._begin()

    def state(self) -> dict[str, Any]:
        return {
            "kind": "stateful",
            "epoch": self.epoch,
            "batches": self.batches.state_dict(),
            "generators": [generator.get_state() for generator in self._generators()],
        }

    def _generators(self) -> list[torch.Generator]:
        """Generators of the loader's own, whose state torchdata leaves out."""
        holders = (self.batches, getattr(self.batches, "sampler", None))
        found = [getattr(holder, "generator", None) for holder in holders]
        return [generator for generator in found if generator is not None]


class _Counted(_Epochs):
    """Batches that are counted, and passed over on resume."""

    def __init__(self, batches: Any) -> None:
        super().__init__(batches)
        self._count = 0

    def start(self, state: Mapping[str, Any] | None) -> None:
        state = _own(state, "counted") if state is not None else {"epoch": 0, "count": 0}
        self.epoch = state["epoch"]
        self._iterator = self._begin()
        for done in range(state["count"]):
            try:
                self.next(once=True)
            except StopIteration:
                raise CheckpointError(
                    f"The data ended after {done} batches; the checkpoint was taken after "
                    f"{state['count']}. Resume with the same data, or under a new name."
                ) from None

    def next(self, once: bool) -> Any:
        batch = super().next(once)
        self._count += 1
        return batch

    def _begin(self) -> Iterator[Any]:
        self._count = 0
        return super()._begin()

    def state(self) -> dict[str, Any]:
        return {"kind": "counted", "epoch": self.epoch, "count": self._count}


def _own(state: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    if state.get("kind") != kind:
        raise CheckpointError(
            f"The checkpoint holds a {state.get('kind')!r} position, but the data now given has a "
            f"{kind!r} one. Resume with the same kind of data, or under a new name."
        )
    return state


def set_epoch(batches: Any, epoch: int) -> None:
    """Tell the samplers of a DataLoader which epoch it is, so that each shuffles anew."""
    holders: tuple[Any, Any] = (batches, getattr(batches, "sampler", None))
    for holder in holders:
        if hasattr(holder, "set_epoch"):
            holder.set_epoch(epoch)


def stateful_loader(loader: DataLoader[Any], rank: int, world: int, seed: int) -> Any:
    """The same loader as torchdata's StatefulDataLoader, giving this rank its share.

    With several ranks a random or sequential sampler becomes a distributed one (shuffled if it
    was random); any other sampler is taken as already being this rank's own. Iterable datasets
    shard themselves.

    Exact on resume, with one exception: random numbers that a dataset draws inside *worker
    processes* (``num_workers > 0``), unless the dataset has ``state_dict`` itself.
    """
    from torch.utils.data import IterableDataset
    from torchdata.stateful_dataloader import StatefulDataLoader

    # torchdata 0.11 calls a function that torch 2.13 deprecates; nothing its users can do about
    warnings.filterwarnings("ignore", message="'set_vital' is deprecated")

    if isinstance(loader, StatefulDataLoader) and world == 1:
        return loader
    kept: dict[str, Any] = {
        "num_workers": loader.num_workers,
        "collate_fn": loader.collate_fn,
        "pin_memory": loader.pin_memory,
        "timeout": loader.timeout,
        "worker_init_fn": loader.worker_init_fn,
        "multiprocessing_context": loader.multiprocessing_context,
        "generator": loader.generator,
        "prefetch_factor": loader.prefetch_factor,
        "persistent_workers": loader.persistent_workers,
    }
    if isinstance(loader.dataset, IterableDataset):
        kept |= {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
        return StatefulDataLoader(loader.dataset, **kept)
    if loader.batch_size is None and loader.batch_sampler is not None:
        return StatefulDataLoader(loader.dataset, batch_sampler=loader.batch_sampler, **kept)
    return StatefulDataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=_sampler(loader, rank, world, seed),
        drop_last=loader.drop_last,
        **kept,
    )


def _sampler(loader: DataLoader[Any], rank: int, world: int, seed: int) -> Any:
    """The loader's sampler as one that gives this rank's share and keeps its position."""
    from torch.utils.data import RandomSampler, SequentialSampler
    from torchdata.stateful_dataloader.sampler import RandomSampler as StatefulRandomSampler
    from torchdata.stateful_dataloader.sampler import StatefulDistributedSampler

    sampler = loader.sampler
    random = isinstance(sampler, (RandomSampler, StatefulRandomSampler))
    if world > 1 and (random or isinstance(sampler, SequentialSampler)):
        return StatefulDistributedSampler(
            loader.dataset,
            num_replicas=world,
            rank=rank,
            shuffle=random,
            seed=seed,
            drop_last=loader.drop_last,
        )
    if isinstance(sampler, RandomSampler):
        return StatefulRandomSampler(
            sampler.data_source, sampler.replacement, sampler.num_samples, sampler.generator
        )
    return sampler
