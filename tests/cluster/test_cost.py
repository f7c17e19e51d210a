"""Money per hour, quotas and permissions."""

from __future__ import annotations

from typing import Any

import pytest

from eksml import Cluster, cpu, gpu, neuron
from eksml.cluster import Head
from eksml.cluster.catalogue import instance
from eksml.cluster.cost import Cost, cost
from eksml.cluster.fit import Fit, fit
from eksml.cluster.iam import permissions
from eksml.cluster.mounts import S3Mount
from eksml.cluster.options import Identity, Karpenter
from eksml.cluster.price import hourly_usd
from eksml.cluster.quota import quotas

HEAD = Head(instance="m7i.2xlarge")
NEURON = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ray-neuron:2.60.0-py311"
ONE_ZONE = ("us-east-1a",)


def cluster(*groups: Any, **fields: Any) -> Cluster:
    return Cluster(name="mine", backend="eks", groups=groups, **{"head": HEAD} | fields)


def fit_of(*groups: Any, **fields: Any) -> Fit:
    spec = cluster(*groups, **fields)
    return fit(spec, spec.manifest())


def cost_of(*groups: Any) -> Cost:
    return cost(fit_of(*groups), "us-east-1")


def test_an_hour_is_the_head_and_every_machine_at_its_market() -> None:
    made = cost_of(
        gpu("p5.48xlarge", name="train", nodes=4),
        gpu("g6e.12xlarge", name="infer", nodes=(0, 16), market="spot"),
    )
    head, p5 = hourly_usd("m7i.2xlarge").usd, hourly_usd("p5.48xlarge").usd
    spot, listed = hourly_usd("g6e.12xlarge", "spot").usd, hourly_usd("g6e.12xlarge").usd
    assert made.usd.min == made.usd.start == pytest.approx(head + 4 * p5)
    assert made.usd.max == pytest.approx(head + 4 * p5 + 16 * spot)
    assert made.on_demand.max == pytest.approx(head + 4 * p5 + 16 * listed)
    assert made.spot.max == pytest.approx(
        head + 4 * hourly_usd("p5.48xlarge", "spot").usd + 16 * spot
    )


def test_the_cost_says_how_old_and_how_sure_its_prices_are() -> None:
    sure = cost_of(cpu("m7i.4xlarge", nodes=2))
    assert sure.as_of == hourly_usd("m7i.4xlarge").as_of
    assert [group.each.estimated for group in sure.groups] == [False, False]
    elsewhere = cost(fit_of(cpu("m7i.4xlarge"), region="eu-west-9"), "eu-west-9")
    assert elsewhere.estimated


def test_quotas_are_counted_in_vcpus_by_family_and_market() -> None:
    needed = quotas(
        fit_of(
            gpu("p5.48xlarge", name="a", nodes=4),
            gpu("g6e.12xlarge", name="b", nodes=(0, 16), market="spot"),
            gpu("gr6.8xlarge", name="c", nodes=2),
            neuron("trn1.32xlarge", name="d", nodes=2, image=NEURON),
            neuron("inf2.xlarge", name="e", market="spot", image=NEURON),
            cpu("m7i.4xlarge", name="f", nodes=(1, 3)),
        )
    )
    assert {quota.code: quota.vcpus.max for quota in needed} == {
        "L-417A185B": 4 * 192,
        "L-3819A6DF": 16 * 48,
        "L-DB2E81BA": 2 * 32,
        "L-2C3B7624": 2 * 128,
        "L-B5D1601B": 4,
        "L-1216C47A": 8 + 3 * 16,
    }
    standard = next(quota for quota in needed if quota.code == "L-1216C47A")
    assert (standard.vcpus.min, standard.groups) == (8 + 16, ("headgroup", "f"))
    assert standard.name == "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"


def test_the_quota_must_hold_the_largest_type_that_a_group_may_take() -> None:
    either = gpu(("g6e.12xlarge", "g6e.24xlarge"), nodes=2)
    needed = {quota.code: quota.vcpus.max for quota in quotas(fit_of(either))}
    assert needed["L-DB2E81BA"] == 2 * instance("g6e.24xlarge").vcpus


def test_mounts_and_identity_say_which_permissions_they_need() -> None:
    read = S3Mount(bucket="weights", path="/weights", prefix="llm/")
    write = S3Mount(bucket="results", path="/results", read_only=False)
    found = permissions(cluster(gpu("g6.xlarge", mounts=(write,)), mounts=(read,)))
    by_resource = {permission.resource: permission.actions for permission in found}
    assert by_resource["arn:aws:s3:::weights"] == ("s3:ListBucket",)
    assert by_resource["arn:aws:s3:::weights/llm/*"] == ("s3:GetObject",)
    assert "s3:PutObject" in by_resource["arn:aws:s3:::results/*"]
    associated = [p for p in found if "eks:CreatePodIdentityAssociation" in p.actions]
    assert "default/mine" in associated[0].why


def test_irsa_karpenter_and_reservations_have_permissions_of_their_own() -> None:
    role = "arn:aws:iam::123456789012:role/ray"
    reserved = gpu(
        "p5.48xlarge",
        market="reserved",
        capacity_reservation="cr-0123456789abcdef0",
        zones=ONE_ZONE,
    )
    tags = {"karpenter.sh/discovery": "prod"}
    found = permissions(
        cluster(
            reserved,
            identity=Identity(role_arn=role),
            karpenter=Karpenter(node_role="nodes", subnets=tags, security_groups=tags),
        )
    )
    assert [p.actions for p in found if p.resource == role] == [("sts:AssumeRoleWithWebIdentity",)]
    passed = [p for p in found if p.actions == ("iam:PassRole",)]
    assert [p.resource for p in passed] == ["arn:aws:iam::*:role/nodes"]
    assert any("cr-0123456789abcdef0" in p.resource for p in found)
