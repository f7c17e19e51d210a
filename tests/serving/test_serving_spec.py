"""What is served, to whom and within which limits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksml.errors import InvalidSpec, Problem
from eksml.serving import AppSpec, LimitsSpec, ModelSpec, ServeSpec, TenantSpec
from eksml.serving.spec import key_hash, new_key

KEY = "a" * 64


def problems(kind: type, **fields: Any) -> list[Problem]:
    with pytest.raises(InvalidSpec) as refused:
        kind(**fields)
    return list(refused.value.problems)


def model(name: str = "qwen", **fields: Any) -> ModelSpec:
    return ModelSpec(name=name, source="Qwen/Qwen3-8B", **fields)


def tenant(name: str = "acme", **fields: Any) -> TenantSpec:
    return TenantSpec(**({"name": name, "key_sha256": KEY} | fields))


def test_a_model_needs_a_name_and_a_source_only() -> None:
    made = model()
    assert (made.replica_range, made.devices, made.served_names) == ((1, 1), 1, ("qwen",))
    assert (made.profile, made.task, made.device, made.queue) == ("latency", "generate", None, None)


def test_every_problem_is_told_at_once() -> None:
    found = problems(
        ServeSpec,
        models=[{"name": "a b", "replicas": 0}, {"name": "b", "source": "", "queue": -1}],
        tenants=[{"name": "t", "key_sha256": KEY}] * 2,
        limits={"n": 0, "body_bytes": 0},
        route="llm",
        batches="ftp://there",
    )
    assert {problem.path for problem in found} == {
        *("models.0.name", "models.0.source", "models.0.replicas"),
        *("models.1.source", "models.1.queue", "tenants", "limits.n", "limits.body_bytes"),
        *("route", "batches"),
    }


def test_an_unknown_field_is_told_with_the_nearest_right_name() -> None:
    (found,) = problems(ModelSpec, name="a", source="b", tensor_paralel=2)
    assert (found.path, found.remedy) == ("tensor_paralel", "Did you mean 'tensor_parallel'?")


@pytest.mark.parametrize("replicas", [0, -1, True, 1.5, "2", (2, 1), (0, 0), (-1, 2), (1, 2, 3)])
def test_replicas_that_cannot_be_are_refused_with_one_sentence(replicas: Any) -> None:
    (found,) = problems(ModelSpec, name="a", source="b", replicas=replicas)
    assert found.path == "replicas"


@pytest.mark.parametrize(("written", "range_"), [(3, (3, 3)), ([0, 4], (0, 4)), ((2, 2), (2, 2))])
def test_replicas_are_a_number_or_a_range(written: Any, range_: tuple[int, int]) -> None:
    assert model(replicas=written).replica_range == range_


@pytest.mark.parametrize(
    "name",
    ["..", ".", "../x", "a/b", "/etc", "a..b", "%2e%2e", "a%2fb", "", "-a", "x" * 97, "a\0", "é"],
)
def test_an_adapter_is_named_by_one_plain_part_of_a_path(name: str) -> None:
    found = problems(ModelSpec, name="a", source="b", adapters={name: "s3://bucket/lora"})
    assert found[0].path == f"adapters.{name}"
    assert problems(ModelSpec, name=name, source="b")[0].path == "name"


@pytest.mark.parametrize("name", ["a--b", "sql.v2", "A_1", "x" * 96])
def test_other_names_are_fine(name: str) -> None:
    assert model(adapters={name: "s3://bucket/lora"}).served_names == ("qwen", name)


def test_an_adapter_may_not_have_its_models_name() -> None:
    (found,) = problems(ModelSpec, name="a", source="b", adapters={"a": "folder"})
    assert found.path == "adapters"


@pytest.mark.parametrize("second", [{"name": "a"}, {"name": "c", "adapters": {"lora": "x"}}])
def test_what_clients_say_names_one_model_or_adapter(second: Mapping[str, Any]) -> None:
    first = {"name": "a", "source": "x", "adapters": {"lora": "y"}}
    (found,) = problems(ServeSpec, models=[first, {"source": "z"} | second])
    assert found.path == "models"
    assert "two models or adapters" in found.message


def test_a_server_without_models_is_refused() -> None:
    assert problems(ServeSpec, models=[])[0].path == "models"


def test_two_tenants_differ_in_name_and_key() -> None:
    found = problems(ServeSpec, models=[model()], tenants=[tenant(), tenant()])
    assert [problem.path for problem in found] == ["tenants", "tenants"]
    assert "same key" in found[1].message


def test_a_key_in_place_of_its_hash_is_not_repeated_in_the_error() -> None:
    key = new_key()
    (found,) = problems(TenantSpec, name="acme", key_sha256=key)
    assert found.path == "key_sha256"
    assert key not in str(found)
    assert "eksml serve key" in found.remedy


@pytest.mark.parametrize("digest", ["a" * 63, "A" * 64, "g" * 64, "a" * 65])
def test_a_keys_hash_has_64_lowercase_hexadecimal_digits(digest: str) -> None:
    assert problems(TenantSpec, name="acme", key_sha256=digest)[0].path == "key_sha256"


def test_keys_are_new_each_time_and_match_their_hash() -> None:
    one, other = new_key(), new_key()
    assert one != other
    assert len(one) >= 43
    assert key_hash(one) == hashlib.sha256(one.encode()).hexdigest()
    assert tenant(key_sha256=key_hash(one)).key_sha256 == key_hash(one)


@pytest.mark.parametrize(
    "limit",
    [{"weight": 0}, {"weight": float("nan")}, {"concurrent": 0}, {"requests_per_minute": -1}],
)
def test_a_tenants_limits_are_positive(limit: dict[str, Any]) -> None:
    (found,) = problems(TenantSpec, name="acme", key_sha256=KEY, **limit)
    assert found.path == next(iter(limit))


def test_tenants_stand_in_the_specification_or_in_a_file() -> None:
    (found,) = problems(AppSpec, model=model(), tenants=[tenant()], tenants_file="/etc/tenants")
    assert found.path == "tenants_file"
    assert problems(AppSpec, model=model(), tenants_file="tenants")[0].path == "tenants_file"
    assert AppSpec(model=model(), tenants_file="/etc/tenants").tenants == ()


@pytest.mark.parametrize("host", ["http://a.example", "a.example:80", "*.example", "a/b", ""])
def test_hosts_of_images_are_written_alone(host: str) -> None:
    assert problems(LimitsSpec, media=[host])[0].path == "media.0"


@pytest.mark.parametrize("route", ["", "llm", "/llm/", "/../x", "/a b", "/a//b"])
def test_a_route_that_cannot_be_is_refused(route: str) -> None:
    assert problems(ServeSpec, models=[model()], route=route)[0].path == "route"


def test_one_model_stands_at_the_route_and_several_below_it() -> None:
    alone = ServeSpec(models=[model()], route="/llm")
    assert alone.route_of(alone.models[0]) == "/llm"
    several = ServeSpec(models=[model("a"), model("b")])
    assert [several.route_of(each) for each in several.models] == ["/a", "/b"]


def test_each_models_application_has_the_terms_of_the_whole() -> None:
    whole = ServeSpec(models=[model()], tenants=[tenant()], log_prompts=True, batches="s3://bucket")
    app = whole.app(whole.models[0])
    assert (app.model, app.terms()) == (whole.models[0], whole.terms())
    assert (app.tenants, app.log_prompts, app.batches) == ((tenant(),), True, "s3://bucket")


@given(
    replicas=st.tuples(st.integers(0, 9), st.integers(1, 9)).map(lambda pair: sorted(pair)),
    weight=st.floats(0.001, 1000),
    queue=st.none() | st.integers(0, 10_000),
    adapters=st.dictionaries(st.from_regex(r"\A[a-z0-9]{1,8}\Z"), st.just("s3://bucket/x")),
)
def test_a_specification_survives_json(
    replicas: list[int], weight: float, queue: int | None, adapters: dict[str, str]
) -> None:
    made = AppSpec(
        model=model("Base", replicas=replicas, queue=queue, adapters=adapters),
        tenants=[tenant(weight=weight)],
    )
    assert AppSpec(**made.model_dump(mode="json")) == made
