"""No manifest leaves unchecked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.rules import check
from eksml.errors import InvalidSpec

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster


def checked(spec: Cluster, manifest: dict[str, Any]) -> dict[str, Any]:
    """``manifest`` itself, if the operator that ``spec`` names will take it.

    Raises:
        InvalidSpec: with every problem, by the manifest's paths.
    """
    if problems := check(manifest, gates=spec.operator.gates):
        raise InvalidSpec(problems, subject=f"the {manifest['kind']} {spec.name!r}")
    return manifest
