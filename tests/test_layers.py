"""The package's own order: imports go downward, and nothing heavy comes before it is used."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "eksml"

LEVELS = {
    "errors": 0,
    "env": 0,
    "observe": 0,
    "storage": 1,
    "cluster": 2,
    "backends": 3,
    "tracking": 3,
    "registry": 3,
    "llm": 4,
    "runs": 4,
    "training": 5,
    "batches": 5,
    "streams": 5,
    "serving": 5,
    "pipelines": 6,
    "cli": 7,
    "testing": 7,
}
THE_ONE_UPWARD_CALL = ("eksml.cluster.spec", "backends")
"""``cluster.up()``: the noun that users hold offers the verb."""

PURE = {"eksml", "pydantic", "yaml"}
"""What pure data is made of, beside Python's own library …"""
REACHES_OUT = {
    *("os", "io", "shutil", "glob", "tempfile", "subprocess", "multiprocessing", "ctypes"),
    *("socket", "ssl", "http", "urllib", "asyncio", "threading", "concurrent", "signal"),
    *("time", "random", "secrets", "uuid", "sqlite3", "pickle"),
}
"""… but for what reaches out of the process, or differs from call to call."""
HEAVY = ("ray", "torch", "boto3", "botocore", "kubernetes", "pandas", "numpy", "mlflow", "vllm")


@functools.cache
def modules() -> list[tuple[str, ast.Module]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found.append((name.removesuffix(".__init__"), tree))
    return found


def imports(module: str, tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in it, inside functions and for types included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: write imports in full"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "eksml" and len(parts) > 1 else None


def test_every_room_has_a_level() -> None:
    rooms = {room_of(module) for module, _ in modules()} - {None}
    assert rooms <= LEVELS.keys()


def test_imports_go_downward() -> None:
    upward = set()
    for module, tree in modules():
        room = room_of(module)
        if room is None:
            continue  # the package's front hands out names of all rooms, lazily
        for target in imports(module, tree):
            other = room_of(target)
            if other in LEVELS and other != room and LEVELS[other] >= LEVELS[room]:
                upward.add((module, other))
    assert upward == {THE_ONE_UPWARD_CALL}


def test_the_cluster_is_pure_data() -> None:
    used = {
        target.split(".")[0]
        for module, tree in modules()
        if room_of(module) == "cluster"
        for target in imports(module, tree)
    }
    assert used <= PURE | sys.stdlib_module_names
    assert not used & REACHES_OUT


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_the_package_loads_nothing_but_python() -> None:
    outside = loaded_after("import eksml") - loaded_after("import importlib") - {"eksml"}
    assert {name for name in outside if name not in sys.stdlib_module_names} == set()


def test_nothing_heavy_is_loaded_before_it_is_used() -> None:
    rooms = [room for room in LEVELS if list(PACKAGE.glob(f"{room}*"))]
    names = ", ".join(f"eksml.{room}" for room in rooms)
    assert loaded_after(f"import {names}") & set(HEAVY) == set()


def test_storage_does_not_need_pydantic() -> None:
    assert "pydantic" not in loaded_after("import eksml.storage")
