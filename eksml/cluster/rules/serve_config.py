"""Rule 14, the part that the operator passes on unread: ``serveConfigV2``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.rules.shape import misshapen
from eksml.cluster.rules.yaml_text import read_mapping
from eksml.errors import Problem

_FIELD = "serveConfigV2"
_SCHEMES = ("http", "https", "s3", "gs", "azure", "abfss", "file", "gcs", "local")


@rule(14, "service: serveConfigV2")
def serve_config(service: Field) -> Iterator[Problem]:
    """Rule 14: the text is a Serve configuration; Serve itself would pass over a typo in it."""
    field = service["spec"][_FIELD]
    if not field.text.strip():
        yield field.problem("is missing.", "Write the applications as YAML text.")
        return
    found, problems = read_mapping(field, "applications: [{name: chat, import_path: chat:app}]")
    yield from problems
    if found is not None:
        yield from misshapen(found, "ServeConfig", field.path)
        yield from _applications(Field(found, field.path)["applications"])


def _applications(applications: Field) -> Iterator[Problem]:
    apps = applications.items()
    if not apps and isinstance(applications.value, list):
        yield applications.problem("holds no application.", "Write at least one.")
    # What is not written is the application «default» at «/».
    names = [app["name"].text if app["name"].given else "default" for app in apps]
    routes = [app["route_prefix"].text if "route_prefix" in _of(app) else "/" for app in apps]
    taken = Counter(names), Counter(route for route in routes if route)
    for app, name, route in zip(apps, names, routes, strict=True):
        if not name or taken[0][name] > 1:
            yield app["name"].problem(f"{name!r:.80} is not a name of its own.", "Rename it.")
        if route and taken[1][route] > 1:
            yield app["route_prefix"].problem(
                f"{route!r:.80} leads to more than one application.", "Give each its own."
            )
        yield from _application(app, route)


def _application(app: Field, route: str) -> Iterator[Problem]:
    if route and (not route.startswith("/") or "{" in route or (route != "/" and route[-1] == "/")):
        yield app["route_prefix"].problem(
            f"{route!r:.80} is not a route.", "Begin with '/', don't end with it, use no braces."
        )
    path = app["import_path"]
    if path.text and not _is_import_path(path.text):
        yield path.problem(f"{path.shown} names nothing to import.", "Write module:application.")
    for address in (app["host"], app["port"]):
        if address.given:
            yield address.problem("is not the application's.", "Move it to http_options.")
    yield from _runtime_env(app["runtime_env"])
    deployments = app["deployments"].items()
    taken = Counter(deployment["name"].text for deployment in deployments)
    for deployment in deployments:
        name = deployment["name"]
        if taken[name.text] > 1:
            yield name.problem(f"{name.shown} is configured more than once.", "Keep one.")
        yield from _deployment(deployment)


def _deployment(deployment: Field) -> Iterator[Problem]:
    yield from _runtime_env(deployment["ray_actor_options"]["runtime_env"])
    number, scaling = deployment["num_replicas"], deployment["autoscaling_config"]
    if number.whole is None and number.given and number.value != "auto":
        yield number.problem(f"{number.shown} is neither a whole number nor 'auto'.")
    elif number.whole is not None and number.whole < 1:
        yield number.problem(f"{number.shown} is less than 1.")
    elif number.whole is not None and scaling.given:
        yield number.problem("stands beside autoscaling_config.", "Keep one of the two.")
    names = ("min_replicas", "initial_replicas", "max_replicas")
    written = [scaling[name] for name in names if scaling[name].whole is not None]
    for low, high in pairwise(written):
        if (low.whole or 0) > (high.whole or 0):
            name = low.path.rpartition(".")[2]
            yield high.problem(f"{high.shown} is less than {name}, which is {low.shown}.")
    bundles = deployment["placement_group_bundles"]
    if bundles.given and deployment["max_replicas_per_node"].given:
        yield bundles.problem("stands beside max_replicas_per_node.", "Keep one of the two.")


def _runtime_env(env: Field) -> Iterator[Problem]:
    for place in (env["working_dir"], *env["py_modules"].items()):
        scheme, colon, _ = place.text.partition("://")
        if place.given and not (colon and scheme in _SCHEMES):
            yield place.problem(
                f"{place.shown} is not a remote URI.",
                "Upload the folder as a zip and write such as s3://bucket/code.zip.",
            )


def _is_import_path(path: str) -> bool:
    mark = ":" if ":" in path else "."
    module, _, name = path.rpartition(mark)
    return path.count(":") <= 1 and bool(module) and bool(name)


def _of(field: Field) -> dict[str, object]:
    return field.value if isinstance(field.value, dict) else {}


RULES = (serve_config,)
