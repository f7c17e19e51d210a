"""The tables of fields against their authorities: the CRDs, the client's models, Ray Serve."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from crd import KINDS, needs_crds, schema

from eksml.cluster.rules.shape import kinds

SCALARS = {"string": "str", "integer": "int", "boolean": "bool", "number": "num", "object": "map"}
SERVE_CLASSES = {
    "ServeConfig": "ServeDeploySchema",
    "ServeHTTP": "HTTPOptionsSchema",
    "ServeGRPC": "gRPCOptionsSchema",
    "ServeLogging": "LoggingConfig",
    "ServeTracing": "TracingConfig",
    "ServeApplication": "ServeApplicationSchema",
    "ServeDeployment": "DeploymentSchema",
    "ServeActor": "RayActorOptionsSchema",
}


@needs_crds
@pytest.mark.parametrize("kind", KINDS)
def test_the_tables_know_the_fields_of_the_crds_and_no_others(kind):
    spec = kinds()[kind].fields["spec"]
    assert list(differences(spec, schema(kind)["properties"]["spec"], "spec")) == []


def differences(ours: str, theirs: Mapping[str, Any], path: str) -> Iterator[str]:
    """Where a type of the tables differs from the CRD's schema, from there downwards."""
    if ours in ("map", "any"):
        return
    if ours.startswith("["):
        yield from differences(ours[1:-1], theirs["items"], f"{path}.*")
    elif ours.startswith("{"):
        yield from differences(ours[1:-1], theirs["additionalProperties"], f"{path}.*")
    elif (kind := kinds().get(ours)) is None:
        if (said := crd_type(theirs)) != (mine := table_type(ours)):
            yield f"{path}: {mine}, not {said}"
    else:
        properties = theirs["properties"]
        yield from (f"{path}.{name}: unknown to us" for name in properties.keys() - kind.fields)
        yield from (f"{path}.{name}: unknown to it" for name in kind.fields.keys() - properties)
        required = {n for n in theirs.get("required", ()) if "default" not in properties[n]}
        if ours != "ClusterUpgradeOptions":  # a rule asks for these and says what to write
            yield from (f"{path}.{name}: required" for name in required - kind.required)
        for name in properties.keys() & kind.fields.keys():
            yield from differences(kind.fields[name], properties[name], f"{path}.{name}")


def table_type(ours: str) -> str:
    return "str" if "|" in ours else ours.partition(">=")[0].replace("int32", "int")


def crd_type(theirs: Mapping[str, Any]) -> str:
    if theirs.get("x-kubernetes-int-or-string"):
        return "quantity" if "pattern" in theirs else "port"
    return SCALARS[theirs["type"]]


@needs_crds
def test_the_words_that_a_field_may_hold_are_the_crds():
    found = list(enumerations("RayClusterSpec", schema("RayCluster")["properties"]["spec"]))
    assert {path for path, _, _ in found} >= {"authOptions.mode", "autoscalerOptions.version"}
    assert [path for path, ours, theirs in found if ours != theirs] == []


def enumerations(
    ours: str, theirs: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, set[str], set[str]]]:
    for name, field in theirs["properties"].items():
        kind = kinds()[ours].fields[name].strip("[]")
        inner, here = field.get("items", field), f"{path}{name}"
        if "enum" in field:
            yield here, set(kind.split("|")), set(field["enum"])
        elif kind in kinds() and "properties" in inner:
            yield from enumerations(kind, inner, f"{here}.")


def test_pods_have_the_fields_that_the_official_client_knows():
    from kubernetes.client import models

    checked = 0
    for name, kind in kinds().items():
        model = getattr(models, f"V1{name}", None) or getattr(models, f"CoreV1{name}", None)
        if model is None or name in ("NetworkPolicy",):  # KubeRay's own kind of the same name
            continue
        types = {model.attribute_map[field]: kind for field, kind in model.openapi_types.items()}
        assert kind.fields.keys() - types.keys() == set(), name
        for field, ours in kind.fields.items():
            theirs = re.sub(r"(CoreV1|V1)(?=[A-Z])", "", types[field])
            assert same(ours, theirs), f"{name}.{field}: {ours}, not {theirs}"
            checked += 1
    assert checked > 300


def same(ours: str, theirs: str) -> bool:
    words = {"port": "object", "quantity": "str", "num": "float"}
    if ours == "map" or theirs.startswith(f"{ours.strip('[]')}Anti"):
        return True
    if ours.startswith("["):
        return theirs.startswith("List[") and same(ours[1:-1], theirs[5:-1])
    if ours.startswith("{"):
        return theirs.startswith("Dict[") and same(ours[1:-1], theirs[10:-1])
    plain = table_type(ours)
    return words.get(plain, plain) == theirs or theirs == f"PodAnti{plain.removeprefix('Pod')}"


@pytest.mark.parametrize("kind", SERVE_CLASSES)
def test_serve_reads_the_fields_of_its_configuration_and_no_others(kind):
    assert set(kinds()[kind].fields) == serve_fields()[SERVE_CLASSES[kind]]


def serve_fields() -> dict[str, set[str]]:
    """The fields of Ray Serve's models, read from its source: importing it takes seconds."""
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    source = (Path(ray.origin).parent / "serve" / "schema.py").read_text(encoding="utf-8")
    return {
        node.name: {
            item.target.id
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }
