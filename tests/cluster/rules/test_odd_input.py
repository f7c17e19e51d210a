"""Whatever a manifest holds, it is answered with problems, never with an exception."""

from __future__ import annotations

import copy
from typing import Any

from crd import needs_crds, violations
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import group, ray_cluster, ray_cron_job, ray_job, ray_service, template

from eksml.cluster.rules import GATES, Violation, check, check_pod, strip_none
from eksml.cluster.rules.quantity import amount
from eksml.cluster.rules.schedule import duration_s, schedule_error

EXAMPLES = 100
"""Examples of each law."""

texts = st.text(max_size=12) | st.sampled_from(["", "2.60.0", "-", "a" * 70, "1e99", "a: [", "\0"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
json = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)

GOOD = (
    ray_cluster(
        group(labels={"a": "b"}, priority=1),
        gcsFaultToleranceOptions={"backend": "redis", "redisAddress": "redis:6379"},
        networkPolicy={"workerGroups": [{"groupName": "workers"}]},
    ),
    ray_job(
        deletionStrategy={
            "deletionRules": [{"policy": "DeleteSelf", "condition": {"jobStatus": "FAILED"}}]
        },
        submitterPodTemplate=template(),
        runtimeEnvYAML="pip: []",
    ),
    ray_service(),
    ray_cron_job(),
)
for manifest in GOOD:
    manifest["metadata"]["annotations"] = {"ray.io/ft-enabled": ""}


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to everything in ``value``."""
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    found = [way] if way else []
    for key, child in inner:
        found += places(child, (*way, key))
    return found


def replaced(manifest: Any, way: tuple[Any, ...], value: Any) -> Any:
    copied = copy.deepcopy(manifest)
    at = copied
    for step in way[:-1]:
        at = at[step]
    at[way[-1]] = value
    return copied


WAYS = [(index, way) for index, manifest in enumerate(GOOD) for way in places(manifest)]


@given(json)
@settings(max_examples=EXAMPLES, deadline=None)
def test_anything_at_all_is_answered(value):
    for kind in ("RayCluster", "RayJob", "RayService", "RayCronJob", "Pod", value):
        check({"kind": kind, "metadata": value, "spec": value})  # no exception
    assert check({"kind": "RayCluster", "spec": value})
    assert all(problem.message for problem in check_pod(value, "t"))


@given(st.sampled_from(WAYS), json)
@settings(max_examples=3 * EXAMPLES, deadline=None)
def test_a_manifest_with_anything_in_one_place_is_answered(place, value):
    index, way = place
    manifest = replaced(GOOD[index], way, value)
    problems = check(manifest, gates=GATES)
    assert all(isinstance(problem, Violation) and problem.path for problem in problems)
    assert [str(problem) for problem in check(manifest, gates=GATES)] == list(map(str, problems))


@needs_crds
@given(st.sampled_from(WAYS), json)
@settings(max_examples=3 * EXAMPLES, deadline=None)
def test_what_the_api_server_refuses_is_refused_beforehand(place, value):
    index, way = place
    manifest = replaced(GOOD[index], way, value)
    if manifest.get("kind") == GOOD[index]["kind"] and (refused := violations(manifest)):
        assert check(manifest, gates=GATES), refused


@given(json)
@settings(max_examples=EXAMPLES, deadline=None)
def test_what_is_stripped_holds_no_null_and_stripping_again_changes_nothing(value):
    stripped = strip_none(value)
    problems = check({"kind": "RayCluster", "spec": stripped or {}})
    assert "rule 17: nulls" not in {problem.rule for problem in problems}
    assert repr(strip_none(stripped)) == repr(stripped)


@given(texts)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_text_is_a_schedule_a_duration_and_an_amount_or_not(text):
    assert schedule_error(text) != "" or text.strip()
    assert schedule_error(f"{text} * * * *") != "" or text.strip()
    assert duration_s(text) is None or text
    assert amount(text) is None or text
