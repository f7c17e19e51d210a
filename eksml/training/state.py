"""State as JSON and tensors, never as pickle: what a checkpoint consists of.

A state is what ``state_dict()`` gives: dictionaries, lists and tuples of numbers, texts, bytes,
numpy arrays and torch tensors. :func:`flatten` takes it apart into an *outline*, which is JSON,
and a list of named tensors; :func:`unflatten` puts it together again, equal to the last bit.
Reading one runs no code, unlike ``torch.load`` and the ``.metadata`` of
``torch.distributed.checkpoint``, whose pickle runs code when it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eksml.errors import Damaged, UnsupportedState

if TYPE_CHECKING:
    import torch

Outline = Any
"""JSON: scalars stand for themselves, everything else is an object with one key, its kind."""


def flatten(state: Any, name: str = "") -> tuple[Outline, dict[str, torch.Tensor]]:
    """Take ``state`` apart. The tensors are the state's own, not copies.

    Args:
        state: Nested dictionaries, lists, tuples, numbers, texts, bytes, arrays and tensors.
        name: Prefix of the tensors' names, a dotted path.

    Raises:
        UnsupportedState: A value that would need pickle; the message names its path.
    """
    tensors: dict[str, torch.Tensor] = {}
    return _outline(state, name, tensors), tensors


def unflatten(outline: Outline, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The state that :func:`flatten` took apart; shares memory with ``tensors``.

    Raises:
        Damaged: ``outline`` was not made by :func:`flatten`, or a tensor is missing.
    """
    try:
        return _value(outline, tensors)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Damaged(
            f"The outline of the state is not one that eksml wrote: {error!r}."
        ) from error


def _outline(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Outline:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        pairs = [
            [_key(key, path), _outline(item, _join(path, key), tensors)]
            for key, item in value.items()
        ]
        return {"dict": pairs}
    if type(value) in (list, tuple):
        items = [_outline(item, _join(path, index), tensors) for index, item in enumerate(value)]
        return {type(value).__name__: items}
    return _leaf(value, path, tensors)


def _leaf(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Outline:
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided:
            raise UnsupportedState(
                f"{path} is a {type(value).__name__} with layout {value.layout}. "
                "Sharded and sparse tensors cannot be checkpointed yet; give a full, dense tensor."
            )
        return {"tensor": _put(path, value.detach(), tensors)}
    if isinstance(value, bytes):
        data = torch.frombuffer(bytearray(value), dtype=torch.uint8) if value else torch.empty(0)
        return {"bytes": _put(path, data.to(torch.uint8), tensors)}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"array": _put(path, torch.from_numpy(np.ascontiguousarray(value)), tensors)}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {"scalar": _put(path, torch.from_numpy(np.asarray(value).copy()), tensors)}
    raise UnsupportedState(
        f"{path or 'the state'} is a {type(value).__module__}.{type(value).__qualname__}, which "
        "cannot be stored without pickle. Give its state_dict(), or numbers, texts and tensors."
    )


def _put(path: str, tensor: torch.Tensor, tensors: dict[str, torch.Tensor]) -> str:
    name = path or "value"
    while name in tensors:  # {"a.b": …} beside {"a": {"b": …}}
        name += "'"
    tensors[name] = tensor
    return name


def _key(key: Any, path: str) -> str | int:
    if type(key) in (str, int):
        return key  # type: ignore[no-any-return]
    raise UnsupportedState(
        f"{path or 'the state'} has the key {key!r}; keys are texts or integers."
    )


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _value(outline: Outline, tensors: Mapping[str, torch.Tensor]) -> Any:
    if outline is None or isinstance(outline, (bool, int, float, str)):
        return outline
    [(kind, content)] = outline.items()
    if kind == "dict":
        return {key: _value(item, tensors) for key, item in content}
    if kind == "list":
        return [_value(item, tensors) for item in content]
    if kind == "tuple":
        return tuple(_value(item, tensors) for item in content)
    tensor = tensors[content]
    if kind == "tensor":
        return tensor
    if kind == "bytes":
        return tensor.numpy().tobytes()
    if kind == "array":
        return tensor.numpy()
    if kind == "scalar":
        return tensor.numpy()[()]
    raise ValueError(f"unknown kind {kind!r}")
