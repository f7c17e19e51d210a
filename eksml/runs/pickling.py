"""Can a function travel? If not, which of its variables is to blame."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any

from eksml.errors import CallError

MAX_DEPTH = 8


def check_picklable(function: Any, what: str | None = None) -> None:
    """Refuse what cloudpickle cannot send, before anything starts.

    Args:
        function: A function, or any value.
        what: How the message calls it; the function's name otherwise.

    Raises:
        CallError: Names the variable, its type and what to do.
    """
    error = _refusal(function)
    if error is None:
        return
    name = what or getattr(function, "__qualname__", repr(function))
    path, culprit = _culprit(function, [], set())
    kind = f"{type(culprit).__module__}.{type(culprit).__qualname__}"
    if not path:
        raise CallError(f"{name} cannot travel: a {kind} cannot be pickled: {error}") from error
    place = _place(path)
    raise CallError(
        f"{name} cannot travel: {place} holds a {kind}, which cannot be pickled ({error}). "
        "Create it inside the function."
    ) from error


def _place(path: list[str]) -> str:
    text = f"its variable {path[0]!r}"
    return text + "".join(f", there {step}" for step in path[1:])


def _refusal(value: Any) -> Exception | None:
    import cloudpickle

    try:
        cloudpickle.dumps(value)
    except Exception as error:  # whatever a user's __reduce__ or __getstate__ raises
        return error
    return None


def _culprit(value: Any, path: list[str], seen: set[int]) -> tuple[list[str], Any]:
    """The innermost part that cannot be pickled, and how it is reached."""
    seen.add(id(value))
    if len(path) < MAX_DEPTH:
        for name, part in _parts(value):
            if id(part) not in seen and _refusal(part) is not None:
                return _culprit(part, [*path, name], seen)
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, types.MethodType):
        yield "self", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from _variables(value)
    elif isinstance(value, Mapping):
        yield from ((repr(key), item) for key, item in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, type):
        yield from ((name, item) for name, item in vars(value).items() if name[:2] != "__")
    else:
        yield from vars(value).items() if hasattr(value, "__dict__") else ()
        if hasattr(value, "func"):  # functools.partial
            yield from (("func", value.func), ("args", getattr(value, "args", ())))
            yield "keywords", getattr(value, "keywords", {})


def _variables(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Closure, used globals and defaults, by the names that the user gave them."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not bound yet
            continue
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for index, value in enumerate(function.__defaults__ or ()):
        yield f"default {index}", value
    yield from (function.__kwdefaults__ or {}).items()


def _names(code: types.CodeType) -> set[str]:
    nested = (item for item in code.co_consts if isinstance(item, types.CodeType))
    return set(code.co_names).union(*(_names(item) for item in nested))
