"""The function that a command names: ``FILE.py[:function]`` or ``module:function``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from eksml.errors import CallError

DEFAULT = "fit"


def load_function(target: str) -> Callable[..., Any]:
    """Load a user's function, so that it may travel.

    A file is run as ``python FILE`` would run it, with its folder first on the path, but not as
    ``__main__``; its functions and classes travel by value. A module is imported from the present
    folder or the installation, and travels as any import does.

    Raises:
        typer.BadParameter: There is no such file, module or function.
        CallError: The file or module fails as it is loaded; the user's traceback first.
    """
    target = target if ":" in target else f"{target}:{DEFAULT}"
    function = load_object(target)
    if not callable(function):
        raise typer.BadParameter(f"{target} is a {type(function).__name__} and no function.")
    loaded: Callable[..., Any] = function
    return loaded


def load_object(target: str) -> Any:
    """Load whatever ``FILE.py:name`` or ``module:name`` names, as :func:`load_function` does."""
    place, _, name = target.rpartition(":")
    module = _load_file(Path(place)) if place.endswith(".py") else _import(place)
    if not hasattr(module, name):
        own = [key for key, value in vars(module).items() if _is_own_function(value, module)]
        raise typer.BadParameter(
            f"{place} has no function {name!r}. It has: {', '.join(own) or 'none'}. "
            f"Write {place}:function."
        )
    return getattr(module, name)


def _load_file(file: Path) -> ModuleType:
    file = file.expanduser().resolve()
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise typer.BadParameter(f"There is no file {file}.")
    # As for `python FILE`; Ray hands the folder on to its workers where it is that of argv[0]
    sys.argv = [str(file)]
    sys.path.insert(0, str(file.parent))
    module = importlib.util.module_from_spec(spec)
    shadowed = sys.modules.get(file.stem)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise CallError(f"{_traceback(error)}\n\n{file} cannot be loaded.") from error
    finally:
        # What cloudpickle, and Ray's copy of it, do not find among the modules travels by value
        del sys.modules[file.stem]
        if shadowed is not None:
            sys.modules[file.stem] = shadowed
    return module


def _import(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = getattr(error, "name", None)
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{missing}."):
            raise typer.BadParameter(
                f"There is no module {missing!r} in {Path.cwd()} or installed. "
                "Write FILE.py[:function] or module:function."
            ) from error
        raise CallError(f"{_traceback(error)}\n\nThe module {name} cannot be loaded.") from error


def _traceback(error: BaseException) -> str:
    """From the user's own code on."""
    from eksml.runs.record import user_frames

    frames = None if isinstance(error, SyntaxError) else user_frames(error.__traceback__)
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()


def _is_own_function(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__
