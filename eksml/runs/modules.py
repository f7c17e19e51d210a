"""Which modules a function needs that no installation brings: they have to travel with it."""

from __future__ import annotations

import ast
import dis
import importlib.util
import io
import site
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from eksml.runs.archive import Files, files_of_folder, python_files


def local_modules(value: Any) -> dict[str, Files]:
    """Top-level modules that unpickling and calling ``value`` need and that are not installed.

    Found in what its pickle refers to, in the imports inside its functions, and in the imports of
    the modules found so. Installed packages, the standard library and eksml stay where they are.

    Returns:
        Name of the module or package → its files.
    """
    found: dict[str, Files] = {}
    waiting = set(_referred(value))
    while waiting:
        name = waiting.pop()
        files = _local_files(name)
        if files is None or name in found:
            continue
        found[name] = files
        waiting |= {new for file in python_files(files) for new in _imports(file)} - found.keys()
    return found


def _referred(value: Any) -> Iterator[str]:
    """Top-level names of modules that the pickled value refers to."""
    import cloudpickle

    modules: list[str] = []
    codes: list[types.CodeType] = []

    class Recorder(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, item: Any) -> Any:
            if isinstance(item, types.ModuleType):
                modules.append(item.__name__)
            elif isinstance(item, (type, types.FunctionType)):
                modules.append(item.__module__ or "")
            if isinstance(item, types.FunctionType):
                codes.append(item.__code__)
            return super().reducer_override(item)

    Recorder(io.BytesIO()).dump(value)
    for name in [*modules, *(name for code in codes for name in _code_imports(code))]:
        yield name.partition(".")[0]


def _code_imports(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code_imports(constant)


def _imports(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # a template, or for another Python: nothing here imports it
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


def _local_files(name: str) -> Files | None:
    """The files of a top-level module; None if it is installed or cannot be found."""
    if not name or name in sys.stdlib_module_names or name in ("__main__", "eksml"):
        return None
    origin, folders = _places(name)
    if any(_is_installed(place) for place in [origin, *folders] if place):
        return None
    if folders:
        return {
            inside: file
            for folder in folders
            for inside, file in files_of_folder(folder, prefix=name).items()
        }
    return {origin.name: origin} if origin is not None and origin.suffix == ".py" else None


def _places(name: str) -> tuple[Path | None, list[Path]]:
    """Source file, and folders if it is a package."""
    module = sys.modules.get(name)
    try:
        spec = getattr(module, "__spec__", None) or importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None, []
    folders = [Path(folder).resolve() for folder in spec.submodule_search_locations or ()]
    return (Path(spec.origin).resolve() if spec.has_location and spec.origin else None), folders


def _is_installed(place: Path) -> bool:
    return any(place.is_relative_to(root) for root in _installed_roots()) or bool(
        {"site-packages", "dist-packages"} & set(place.parts)
    )


def _installed_roots() -> Iterable[Path]:
    paths = sysconfig.get_paths()
    roots = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [Path(root).resolve() for root in [*roots, site.getusersitepackages()]]
