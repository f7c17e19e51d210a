"""What ``import eksml`` offers: these names, no others, each documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import eksml

ROOMS = sorted(f"eksml.{room.name}" for room in pkgutil.iter_modules(eksml.__path__) if room.ispkg)


def typed_names() -> set[str]:
    """The names that a type checker sees, from the ``if TYPE_CHECKING`` part."""
    tree = ast.parse(Path(inspect.getfile(eksml)).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [item for block in blocks for item in block.body if isinstance(item, ast.ImportFrom)]
    return {alias.asname or alias.name for item in imports for alias in item.names}


def test_the_namespace_is_all_and_nothing_else() -> None:
    assert dir(eksml) == sorted(eksml.__all__)
    assert typed_names() == set(eksml.__all__) - {"__version__"}


@pytest.mark.parametrize("name", sorted(set(eksml.__all__) - {"__version__"}))
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(eksml, name))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'eksml' has no attribute 'trian'"):
        _ = eksml.trian


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_leaves_the_verbs_alone(room: str) -> None:
    importlib.import_module(room)

    assert callable(eksml.train)
    assert callable(eksml.Cluster)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_hands_on_what_it_names(room: str) -> None:
    module = importlib.import_module(room)

    missing = [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)]
    assert missing == []


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert eksml.__version__ == version("eksml")
