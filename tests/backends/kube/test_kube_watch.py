"""Watches: live copies that survive resets, ends of streams, and 410 Gone."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from kube_server import KubeServer

from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.objects import Ref
from eksml.backends.kube.watch import Live, Selection, wait_gone
from eksml.errors import ClusterError

CONFIGS = Selection("v1", "ConfigMap", "default", labels="app=demo")


def put(kube: KubeServer, name: str, value: str = "", app: str = "demo") -> None:
    metadata = {"name": name, "namespace": "default", "labels": {"app": app}}
    thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": value}}
    kube.store.put(thing)


def values(live: Live) -> dict[str, str]:
    return {thing["metadata"]["name"]: thing["data"]["v"] for thing in live.objects("ConfigMap")}


def until(live: Live, seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not seen():
        assert time.monotonic() < deadline, live.objects("ConfigMap")
        live.wait(0.2)


def test_it_sees_what_is_there_and_what_comes_changes_and_goes(
    kube: KubeServer, client: KubeClient
) -> None:
    put(kube, "a", "1")
    put(kube, "other", app="else")
    with Live(client, [CONFIGS]) as live:
        until(live, lambda: values(live) == {"a": "1"})
        put(kube, "b")
        put(kube, "a", "2")
        until(live, lambda: values(live) == {"a": "2", "b": ""})
        kube.store.delete(("v1", "ConfigMap", "default", "a"))
        until(live, lambda: values(live) == {"b": ""})


def test_it_waits_on_one_request_and_does_not_poll(kube: KubeServer, client: KubeClient) -> None:
    with Live(client, [CONFIGS]) as live:
        until(live, lambda: kube.num_watches() == 1)
        asked = len(kube.faults.requests)
        put(kube, "a", "1")
        until(live, lambda: values(live) == {"a": "1"})
        assert not live.wait(0.3)
        assert len(kube.faults.requests) == asked


def test_it_survives_resets_and_misses_nothing(kube: KubeServer, client: KubeClient) -> None:
    with Live(client, [CONFIGS]) as live:
        for number in range(3):
            until(live, lambda: kube.num_watches() == 1)
            kube.cut_watches()
            put(kube, f"during-{number}", "1")
            until(live, lambda name=f"during-{number}": name in values(live))
    lists = [path for _, path in kube.faults.requests if path.endswith("labelSelector=app%3Ddemo")]
    assert len(lists) == 1, "it went on where it was"


def test_a_server_that_fails_for_a_while_is_asked_again(
    kube: KubeServer, client: KubeClient
) -> None:
    with Live(client, [CONFIGS]) as live:
        until(live, lambda: kube.num_watches() == 1)
        kube.faults.plan(503, path="watch=true", times=2)
        kube.faults.plan("reset", path="watch=true")
        kube.cut_watches()
        put(kube, "a", "1")
        until(live, lambda: values(live) == {"a": "1"})


def test_410_starts_with_a_new_list(kube: KubeServer, client: KubeClient) -> None:
    put(kube, "a", "1")
    put(kube, "b", "1")
    with Live(client, [CONFIGS]) as live:
        until(live, lambda: kube.num_watches() == 1 and len(values(live)) == 2)
        kube.faults.plan(503, path="watch=true")
        kube.cut_watches()
        kube.store.delete(("v1", "ConfigMap", "default", "a"))
        put(kube, "b", "2")
        kube.store.compact()  # the deletion of a cannot be told any more
        until(live, lambda: values(live) == {"b": "2"})


def test_410_as_a_status_starts_with_a_new_list(kube: KubeServer, client: KubeClient) -> None:
    with Live(client, [CONFIGS]) as live:
        until(live, lambda: kube.num_watches() == 1)
        kube.faults.plan(410, path="watch=true")
        put(kube, "a", "1")
        kube.cut_watches()
        until(live, lambda: values(live) == {"a": "1"})


def test_bookmarks_keep_a_quiet_watch_from_expiring(kube: KubeServer, client: KubeClient) -> None:
    kube.bookmark_s = 0.05
    with Live(client, [CONFIGS]) as live:
        until(live, lambda: kube.num_watches() == 1)
        for number in range(5):
            put(kube, "noise", str(number), app="else")
        time.sleep(0.3)
        with kube.store.changed:
            kube.store.oldest = kube.store.version  # all that it never saw is forgotten
        kube.cut_watches()
        put(kube, "a", "1")
        until(live, lambda: values(live) == {"a": "1"})
    lists = [path for _, path in kube.faults.requests if path.endswith("labelSelector=app%3Ddemo")]
    assert len(lists) == 1


def test_kinds_that_may_be_missing_are_just_empty(kube: KubeServer, client: KubeClient) -> None:
    missing = Selection("kueue.x-k8s.io/v1beta2", "Workload", "default", optional=True)
    kube.forbidden.append(("GET", "/events"))
    hidden = Selection("v1", "Event", "default", optional=True)
    put(kube, "a", "1")
    with Live(client, [CONFIGS, missing, hidden]) as live:
        until(live, lambda: live.complete and values(live) == {"a": "1"})
        assert live.objects("Workload") == live.objects("Event") == []


def test_what_may_not_be_watched_is_told(kube: KubeServer, client: KubeClient) -> None:
    kube.forbidden.append(("GET", "/configmaps"))
    with Live(client, [CONFIGS]) as live, pytest.raises(ClusterError, match="forbidden"):
        until(live, lambda: False)


def test_it_waits_until_an_object_is_gone(kube: KubeServer, client: KubeClient) -> None:
    put(kube, "a")
    ref = Ref("v1", "ConfigMap", "a", "default")
    assert not wait_gone(client, ref, 0.2)
    client.delete(ref)
    assert wait_gone(client, ref, 5)
