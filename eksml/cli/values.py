"""What people write on a command line, as values. Each raises BadParameter, a usage error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    import yaml

T = TypeVar("T")

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_FLOAT = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+")


def duration_s(text: str) -> float:
    """Seconds: ``90s``, ``30m``, ``2h``, ``1.5d``."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a span of time. Write 90s, 30m, 2h or 1d.")
    return float(match[1]) * _UNITS_S[match[2]]


def cadence(text: str) -> dict[str, float]:
    """Fields of ``Checkpointing``: ``100`` is steps, ``30s`` is time."""
    if text.strip().isdecimal():
        return {"every_steps": int(text)}
    if _DURATION.fullmatch(text.strip()):
        return {"every_s": duration_s(text)}
    raise typer.BadParameter(f"{text!r} is neither steps nor time. Write 100, 30s or 5m.")


def amounts(text: str) -> dict[str, float]:
    """Resources by name: ``CPU=2,GPU=1``."""
    return pairs(text.split(","), _amount, "NAME=AMOUNT,…, as in CPU=2,GPU=1")


def span(text: str) -> tuple[int, int]:
    """A least and a most: ``2,8``; or one number for both."""
    least, comma, most = text.partition(",")
    try:
        return int(least), int(most if comma else least)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor LEAST,MOST.") from None


def pairs(items: Iterable[str], parse: Callable[[str], T], form: str) -> dict[str, T]:
    """``key=value`` items as a dictionary; a key that comes twice is refused."""
    found: dict[str, T] = {}
    for item in items:
        key, equals, text = item.partition("=")
        key = key.strip()
        if not equals or not key:
            raise typer.BadParameter(f"{item!r} is not of the form {form}.")
        if key in found:
            raise typer.BadParameter(f"{key!r} is given twice.")
        found[key] = parse(text)
    return found


def config(items: Iterable[str], file: Path | None) -> dict[str, Any]:
    """The configuration from a YAML file, and over it ``key=value`` items, typed as YAML."""
    given = pairs(items, scalar, "KEY=VALUE, as in lr=1e-3")
    return {**(_config_file(file) if file else {}), **given}


def scalar(text: str) -> Any:
    """A value as YAML types it: ``3``, ``1e-3``, ``true``, ``[64, 32]``, or text."""
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except (yaml.YAMLError, ValueError) as error:
        raise typer.BadParameter(f"{text!r} is not a YAML value; quote it. {error}") from error


def _config_file(file: Path) -> dict[str, Any]:
    import yaml

    from eksml.cluster.yaml import load_yaml

    text = file.read_text(encoding="utf-8")
    load_yaml(text, str(file))  # one mapping, no key twice
    loaded: dict[str, Any] = yaml.load(text, Loader=_loader())
    return loaded


def _loader() -> type[yaml.SafeLoader]:
    """YAML 1.2's numbers. PyYAML follows YAML 1.1, where ``1e-3`` is a text."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    return Loader


def _amount(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an amount; write a number.") from None
