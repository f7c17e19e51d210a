"""A copy of tensors in one reused buffer that is, byte for byte, a safetensors file.

Copying into pages that are already there runs several times faster than into fresh ones, which is
what keeps a training loop's stall short; and a buffer that has the file's own layout is written
without another copy. Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.errors import NonFiniteState, UnsupportedState

if TYPE_CHECKING:
    import torch

_CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}


@dataclass(frozen=True)
class Layout:
    """Where each tensor lies in the buffer."""

    header: bytes
    """The safetensors header: its length as 8 bytes, then JSON."""
    slots: Mapping[str, tuple[int, int]]
    """Name to first and end byte in the buffer."""
    size: int
    """Bytes of the buffer."""


def layout_of(tensors: Mapping[str, torch.Tensor]) -> Layout:
    """Lay tensors out without gaps, widest types first, so that each is aligned to its type.

    Raises:
        UnsupportedState: A tensor's type is not one that safetensors has.
    """
    slots: dict[str, tuple[int, int]] = {}
    entries: dict[str, object] = {}
    offset = 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        tensor = tensors[name]
        kind = str(tensor.dtype).removeprefix("torch.")
        if kind not in _CODES:
            raise UnsupportedState(f"{name} has the type {tensor.dtype}, which safetensors lacks.")
        end = offset + tensor.numel() * tensor.element_size()
        slots[name] = (offset, end)
        entries[name] = {
            "dtype": _CODES[kind],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return Layout(len(text).to_bytes(8, "little") + text, slots, offset)


class Snapshot:
    """One buffer, allocated once and used for every checkpoint. Not for two threads at once."""

    def __init__(self) -> None:
        self._buffer: torch.Tensor | None = None
        self._tensors: dict[str, torch.Tensor] = {}
        self._header = b""
        self._size = 0

    def reserve(self, size: int) -> None:
        """Allocate and touch the pages now, so that the first copy is as fast as the later ones."""
        import torch

        if self._buffer is None or self._buffer.numel() < size:
            pinned = torch.cuda.is_available()
            self._buffer = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned)

    def take(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy ``tensors`` as they are now; returns when they may be changed again."""
        import torch

        layout = layout_of(tensors)
        self.reserve(layout.size)
        assert self._buffer is not None
        self._header, self._size, self._tensors = layout.header, layout.size, {}
        waits = False
        for name, tensor in tensors.items():
            begin, end = layout.slots[name]
            place = self._buffer[begin:end].view(tensor.dtype).view(tensor.shape)
            place.copy_(tensor, non_blocking=True)
            waits = waits or tensor.is_cuda
            self._tensors[name] = place
        if waits:
            torch.cuda.synchronize()

    def check_finite(self) -> None:
        """Refuse NaN and infinity.

        Raises:
            NonFiniteState: Naming the first tensor that has one.
        """
        import torch

        for name, tensor in self._tensors.items():
            if not tensor.is_floating_point() or not tensor.numel():
                continue
            if tensor.element_size() == 1:  # aminmax lacks the 8-bit floats
                tensor = tensor.to(torch.float32)
            low, high = torch.aminmax(tensor)  # one pass; NaN and infinity show in its ends
            if not (math.isfinite(low.item()) and math.isfinite(high.item())):
                raise NonFiniteState(
                    f"{name} holds NaN or infinity, so nothing was checkpointed. Lower the "
                    "learning rate, clip gradients, or look at the data of the last steps."
                )

    def views(self) -> list[memoryview]:
        """The bytes of a safetensors file, without a copy; valid until the next ``take``."""
        assert self._buffer is not None
        body: Any = self._buffer.numpy()
        return [memoryview(self._header), memoryview(body)[: self._size]]
