"""One pass of a network over a batch: arrays to tensors, tensors to columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eksml.batches.models.isolation import WrongResult
from eksml.errors import Problem

if TYPE_CHECKING:
    import numpy as np
    import torch

DEFAULT_OUTPUT = "output"


class Forward:
    """Computes batches. Several threads may call it.

    Args:
        network: Ready on ``device``.
        input: Columns, in the order of the network's parameters.
        output: Names of what it returns, or None; see :func:`torch_module`.
        dtype: Name of torch's type for columns of floats.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(
        self,
        network: Any,
        input: tuple[str, ...],
        output: tuple[str, ...] | None,
        dtype: str,
        device: str,
    ) -> None:
        import torch

        self._network = network
        self._input = input
        self._output = output
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._device = device

    def __call__(self, batch: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, torch.Tensor]:
        """New columns.

        Raises:
            WrongResult: The network returned something else than ``output`` says.
        """
        import torch

        with torch.inference_mode():
            found = self._network(*(self._tensor(batch[name]) for name in self._input))
            # In here, so that what went wrong on a GPU is raised for this batch
            return {name: tensor.cpu() for name, tensor in self._named(found).items()}

    def _tensor(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        """A copy on the device: a network may work in place, and the input must not change."""
        import numpy as np
        import torch

        if array.dtype == object:  # lists that are not of a fixed size by their type
            array = np.stack(list(array))
        if self._device == "cpu":
            tensor = torch.from_numpy(np.array(array))
        else:
            # From page-locked memory the GPU fetches by itself, while it computes
            page_locked = torch.from_numpy(array[:0].copy()).new_empty(array.shape, pin_memory=True)
            page_locked.numpy()[...] = array
            tensor = page_locked.to(self._device, non_blocking=True)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def _named(self, found: Any) -> dict[str, torch.Tensor]:
        import torch

        if isinstance(found, Mapping):
            lacking = [name for name in self._output or () if name not in found]
            if lacking:
                self._refuse(f"a dictionary without {', '.join(lacking)}; it has {list(found)}")
            return {name: found[name] for name in self._output or found}
        tensors = (found,) if isinstance(found, torch.Tensor) else found
        names = self._output or (DEFAULT_OUTPUT,)
        if not isinstance(tensors, tuple | list) or len(tensors) != len(names):
            count = f" of {len(found)}" if isinstance(found, tuple | list) else ""
            self._refuse(f"a {type(found).__name__}{count} for the output {', '.join(names)}")
        return dict(zip(names, tensors, strict=True))

    def _refuse(self, what: str) -> None:
        remedy = "Name what it returns: output=[…], one name for each tensor."
        raise WrongResult([Problem("output", f"The network returned {what}.", remedy)], "module")
