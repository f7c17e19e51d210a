"""``ctx``: what a training function is given, and all that it has to know of eksml."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from eksml.errors import CheckpointError, InvalidSpec, Problem
from eksml.training.checkpoints import Checkpoint
from eksml.training.position import stateful_loader

if TYPE_CHECKING:
    import torch

    from eksml.training.steps import Loop


class Context:
    """The training function's view of its run, on one rank.

    ::

        def fit(ctx):
            model = ctx.prepare(Net())
            opt = torch.optim.AdamW(model.parameters(), lr=ctx.config["lr"])
            batches = ctx.prepare(DataLoader(digits, batch_size=32, shuffle=True))
            ctx.restore(model=model, optimizer=opt)
            for step, (x, y) in ctx.steps(batches, total=2000):
                loss = F.cross_entropy(model(x), y)
                opt.zero_grad(); loss.backward(); opt.step()
                ctx.log(loss=loss)
            return {"loss": loss.item()}

    Every rank must make the same calls in the same order.
    """

    def __init__(
        self,
        *,
        config: Mapping[str, Any],
        rank: int,
        world_size: int,
        local_rank: int,
        seed: int,
        loop: Loop,
    ) -> None:
        self.config = config
        """The ``config`` that ``eksml.train`` was given."""
        self.rank = rank
        """This worker's number, 0 to ``world_size - 1``."""
        self.world_size = world_size
        self.local_rank = local_rank
        """This worker's number on its node."""
        self.seed = seed
        self._loop = loop

    @property
    def device(self) -> torch.device:
        """Where this rank's model and batches belong."""
        from ray.train.torch import get_device

        device: torch.device = get_device()
        return device

    @property
    def step(self) -> int:
        """Steps done so far, in all incarnations of the run together."""
        return self._loop.step

    def prepare(self, *objects: Any) -> Any:
        """Make models and DataLoaders fit for several ranks; other objects pass through.

        A model is moved to ``ctx.device`` and wrapped in DistributedDataParallel if there are
        several ranks. A DataLoader becomes torchdata's StatefulDataLoader that gives this rank its
        share (see ``stateful_loader``).

        Returns:
            The prepared object, or a tuple of them if several were given.
        """
        prepared = tuple(self._prepare(item) for item in objects)
        return prepared[0] if len(prepared) == 1 else prepared

    def _prepare(self, item: Any) -> Any:
        import torch
        from torch.utils.data import DataLoader

        if isinstance(item, torch.nn.Module):
            from ray.train.torch import prepare_model

            return prepare_model(item)
        if isinstance(item, DataLoader):
            return stateful_loader(item, self.rank, self.world_size, self.seed)
        return item

    def batches(self, name: str = "train", *, batch_size: int, **options: Any) -> Iterable[Any]:
        """This rank's share of a Ray dataset, as batches of torch tensors.

        The order is that of the dataset, which is what makes a resume exact; shuffle with
        ``local_shuffle_buffer_size`` and ``local_shuffle_seed``, or before, with a seed. A resume
        in the middle of an epoch reads the epoch's earlier batches again and passes them over.

        Args:
            name: A key of ``data`` as given to ``eksml.train``.
            batch_size: Rows in a batch, on each rank.
            options: As for ``ray.data.DataIterator.iter_torch_batches``.

        Raises:
            InvalidSpec: No data of that name was given.
        """
        import ray.train

        try:
            shard = ray.train.get_dataset_shard(name)
        except KeyError as error:
            remedy = f"Call eksml.train(..., data={{{name!r}: dataset}})."
            raise InvalidSpec(
                [Problem("name", f"{name!r} was not given as data.", remedy)], "ctx.batches"
            ) from error
        return _Batches(shard, {"batch_size": batch_size, **options})

    def restore(self, **objects: Any) -> int:
        """Register what belongs to a checkpoint, and load the newest one if there is one.

        Args:
            objects: By name, anything with ``state_dict`` and ``load_state_dict``: models,
                optimizers, schedulers, scalers, your own classes. Equal on all ranks.

        Returns:
            The step that training goes on from; 0 at the first start.

        Raises:
            CheckpointError: The checkpoint holds other names than ``objects``.
        """
        problems = [
            Problem(name, f"a {type(item).__name__} has no state_dict() and load_state_dict().")
            for name, item in objects.items()
            if not (hasattr(item, "state_dict") and hasattr(item, "load_state_dict"))
        ]
        if problems:
            raise InvalidSpec(problems, "ctx.restore")
        plain = {name: _unwrapped(item) for name, item in objects.items()}
        checkpoint = self._loop.register(plain)
        if checkpoint is None:
            return 0
        _load(checkpoint, plain)
        return checkpoint.step

    def steps(self, batches: Iterable[Any], total: int | None = None) -> Iterator[tuple[int, Any]]:
        """Iterate over batches as numbered steps, with checkpoints, spot notices and progress.

        Goes on exactly where the restored checkpoint was taken: random state and position in the
        data included. A step is over when the loop asks for the next one; a checkpoint taken then
        holds its result. Leaving the loop early with ``break`` takes no further checkpoint.

        Args:
            batches: A DataLoader from ``ctx.prepare``, ``ctx.batches(...)``, anything with
                ``state_dict`` / ``load_state_dict``, or an iterable that gives the same batches
                each time it is iterated.
            total: Steps in all, counting those before a restart; as many epochs as that takes.
                Without it, one pass over ``batches``.

        Yields:
            The step's number, from 0, and the batch, its tensors on ``ctx.device``.
        """
        return self._loop.steps(batches, total, self.device)

    def log(self, **values: Any) -> None:
        """Record numbers of this step: floats, or tensors with one element, read later.

        The first rank's count. The last show in the progress bar, all in ``run.metrics()``.
        """
        self._loop.log(values)


class _Batches:
    """A Ray dataset's shard as an iterable that can be iterated again."""

    def __init__(self, shard: Any, options: Mapping[str, Any]) -> None:
        self._shard = shard
        self._options = options

    def __iter__(self) -> Iterator[Any]:
        return iter(self._shard.iter_torch_batches(**self._options))


def _unwrapped(item: Any) -> Any:
    """A model without its DistributedDataParallel: a checkpoint fits any number of ranks."""
    from torch.nn.parallel import DistributedDataParallel

    return item.module if isinstance(item, DistributedDataParallel) else item


def _load(checkpoint: Checkpoint, objects: Mapping[str, Any]) -> None:
    missing = objects.keys() - checkpoint.state.keys()
    unused = checkpoint.state.keys() - objects.keys()
    if missing or unused:
        raise CheckpointError(
            f"{checkpoint.uri} holds {sorted(checkpoint.state)}, but ctx.restore was given "
            f"{sorted(objects)}. Restore the same names, or start under a new run name."
        )
    for name, item in objects.items():
        try:
            item.load_state_dict(checkpoint.state[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{name} does not fit {checkpoint.uri}: {error} "
                "Was the model changed? Start under a new run name."
            ) from error
