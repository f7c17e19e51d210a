"""Laws that hold for every specification that the model accepts."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rendering import rendered
from strategies import eks_clusters

from eksml import Cluster
from eksml.cluster.render import Workload, objects
from eksml.cluster.rules import check
from eksml.cluster.workloads import RayCronSpec, RayJobSpec, RayServiceSpec
from eksml.errors import InvalidSpec

EXAMPLES = 40
few = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # Minutes would pass over making a whole cluster smaller
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)

jobs = st.builds(
    RayJobSpec,
    entrypoint=st.just("python train.py"),
    mode=st.sampled_from(["sidecar", "k8s", "http"]),
    retries=st.integers(0, 3),
    deadline_s=st.none() | st.integers(1, 9999),
    delete_cluster_s=st.none() | st.integers(0, 9999),
    delete_job_s=st.none() | st.integers(9999, 99999),
    suspend=st.booleans(),
)
services = st.builds(
    RayServiceSpec,
    serve_config=st.just({"applications": [{"name": "app", "import_path": "app:app"}]}),
    upgrade=st.sampled_from(["incremental", "new-cluster", "none"]),
)
crons = st.builds(RayCronSpec, schedule=st.just("0 2 * * *"), job=jobs)


def nulls(value: Any) -> bool:
    """Whether there is a null anywhere inside."""
    if isinstance(value, dict):
        return any(nulls(inner) for inner in value.values())
    if isinstance(value, list):
        return any(nulls(inner) for inner in value)
    return value is None


@given(spec=eks_clusters())
@few
def test_an_accepted_cluster_renders_to_what_the_api_server_and_the_operator_take(
    spec: Cluster,
) -> None:
    manifest = rendered(spec)
    assert check(manifest, gates=spec.operator.gates) == []
    assert not nulls(manifest)
    assert manifest == spec.manifest()


@given(spec=eks_clusters(), workload=jobs | services | crons)
@few
def test_a_workload_renders_validly_or_is_refused_with_reasons(
    spec: Cluster, workload: Workload
) -> None:
    manifest, problems = None, ()
    try:
        manifest = rendered(spec, workload)
    except InvalidSpec as refused:
        problems = refused.problems
    assert bool(manifest) is not bool(problems)
    assert check(manifest or {}, gates=spec.operator.gates) == []
    assert all(problem.path and problem.message for problem in problems)


@given(spec=eks_clusters())
@few
def test_whatever_is_referred_to_by_name_is_made_or_was_named(spec: Cluster) -> None:
    *around, ray = objects(spec)
    made = {(one["kind"], one["metadata"]["name"]) for one in around}
    assert len(made) == len(around)
    groups = [ray["spec"]["headGroupSpec"], *ray["spec"]["workerGroupSpecs"]]
    named = {
        mount.claim
        for mount in (*spec.mounts, *spec.head.mounts, *(m for g in spec.groups for m in g.mounts))
        if hasattr(mount, "claim")
    }
    for group in groups:
        pod = group["template"]["spec"]
        assert ("ServiceAccount", pod["serviceAccountName"]) in made
        for volume in pod.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            assert claim is None or claim in named or ("PersistentVolumeClaim", claim) in made
        pool = pod.get("nodeSelector", {}).get("karpenter.sh/nodepool")
        assert pool in (None, "training") or ("NodePool", pool) in made
