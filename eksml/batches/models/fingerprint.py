"""What tells one function from another: a digest of its code and of everything that it holds.

A run that goes on must compute as it did before. A fingerprint is the same in every process and
does not change with comments, line numbers or the folder that a file lies in; it changes with the
code, with the variables and other functions that the code uses, with arguments and with weights.
Installed libraries count by name only, and every minor version of Python compiles to other code.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

_PLAIN = (type(None), bool, int, float, complex, str, type(...), range)
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
_NOT_MINE = {"__dict__", "__weakref__", "__module__", "__annotations__", "_abc_impl"}
"""Members of classes that say nothing about them, or differ in every process."""


def fingerprint(value: Any) -> str:
    """A digest of a function, a class, an instance, or any data, of 32 hexadecimal digits."""
    return _digest(value, frozenset(), {})


def _digest(value: Any, above: frozenset[int], known: dict[int, str]) -> str:
    """Digest one value.

    Args:
        value: Anything.
        above: Ids of the objects that hold this one, for those that hold themselves.
        known: Digests of functions and classes, by id: many paths lead to the same ones.
    """
    if id(value) in above:
        return "itself"
    if id(value) in known:
        return known[id(value)]
    inside = above | {id(value)}
    digest = hashlib.sha256(type(value).__qualname__.encode())
    for part in _ordered(value, lambda part: _digest(part, inside, known)):
        digest.update(len(part).to_bytes(8, "little") + part)
    found = digest.hexdigest()[:32]
    if isinstance(value, types.FunctionType | type):
        known[id(value)] = found
    return found


def _ordered(value: Any, digest: Callable[[Any], str]) -> Iterable[bytes]:
    """The parts of a value as bytes, in an order that is the same in every process."""
    if isinstance(value, Mapping):
        return sorted(digest(item).encode() for item in value.items())
    if isinstance(value, set | frozenset):
        return sorted(digest(item).encode() for item in value)
    parts = _parts(value)
    return (part if isinstance(part, bytes) else digest(part).encode() for part in parts)


def _parts(value: Any) -> Iterable[Any]:
    """Bytes, which are digested, and other values, which are taken apart in turn."""
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, _PLAIN):
        return [repr(value).encode()]
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, types.CodeType):
        return [value.co_code, repr(value.co_names).encode(), *value.co_consts]
    if isinstance(value, types.FunctionType | type) and not _installed(value):
        return _function(value) if isinstance(value, types.FunctionType) else _class(value)
    if isinstance(value, types.ModuleType | types.FunctionType | types.BuiltinFunctionType | type):
        module = getattr(value, "__module__", "")
        return [f"{module}.{getattr(value, '__qualname__', value.__name__)}".encode()]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget, value.fset]
    return _instance(value)


def _installed(value: Any) -> bool:
    """Whether a function or class is of Python itself or of an installed library."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if file is None:
        return module is not None and module.__name__ != "__main__"
    return str(file).startswith(_INSTALLED)


def _function(function: types.FunctionType) -> Iterator[Any]:
    yield function.__code__
    yield function.__defaults__
    yield function.__kwdefaults__
    for cell in function.__closure__ or ():
        yield cell.cell_contents
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield (name, function.__globals__[name])


def _names(code: types.CodeType) -> set[str]:
    nested = (item for item in code.co_consts if isinstance(item, types.CodeType))
    return set(code.co_names).union(*(_names(item) for item in nested))


def _class(kind: type) -> list[Any]:
    members = {name: item for name, item in vars(kind).items() if name not in _NOT_MINE}
    return [kind.__qualname__, kind.__bases__, members]


def _instance(value: Any) -> Iterable[Any]:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        return [str((value.dtype, tuple(value.shape))).encode(), flat.view(torch.uint8).numpy()]
    if numpy is not None and isinstance(value, numpy.ndarray) and value.dtype != object:
        return [str((value.dtype, value.shape)).encode(), value.tobytes()]
    if isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType):
        return [value.__name__.encode()]
    return _pickled(value)


def _pickled(value: Any) -> Iterable[Any]:
    """What pickle would store of it."""
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # it cannot be pickled, which is told when it is to travel
        return [type(value)]
    if isinstance(reduced, str):
        return [reduced]
    return [list(part) if isinstance(part, Iterator) else part for part in reduced]
