"""Prices: what AWS stated, with its date, and what is an estimate said to be one."""

from __future__ import annotations

import json
import runpy
from datetime import UTC, date, datetime
from pathlib import Path

import boto3
import pytest
from botocore.stub import ANY, Stubber

from eksml.cluster import price
from eksml.cluster.catalogue import instances
from eksml.cluster.price import HOME_REGION, SPOT_RATIO, hourly_usd
from eksml.errors import InvalidSpec

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "prices.py"))
UNLISTED = {"p5e.48xlarge", "p6-b300.48xlarge", "trn2.3xlarge", "trn2.48xlarge"}
"""Types that us-east-1 does not sell on demand, so that their price is an estimate."""


@pytest.mark.parametrize(
    ("name", "usd"),
    [
        ("p5.48xlarge", 55.04),
        ("p4d.24xlarge", 21.957642),
        ("g6e.12xlarge", 10.49264),
        ("trn1.32xlarge", 21.5),
        ("inf2.48xlarge", 12.98127),
        ("m7i.large", 0.1008),
    ],
)
def test_on_demand_prices_are_those_of_the_price_list(name: str, usd: float) -> None:
    stated = hourly_usd(name)
    assert (stated.usd, stated.estimated) == (usd, False)
    assert "AWS Price List" in stated.source


def test_every_type_has_a_price_and_estimates_are_marked() -> None:
    prices = {name: hourly_usd(name) for name in instances()}
    assert all(stated.usd > 0 and date.fromisoformat(stated.as_of) for stated in prices.values())
    assert {name for name, stated in prices.items() if stated.estimated} == UNLISTED


def test_spot_is_a_marked_share_of_on_demand_where_none_was_asked_for() -> None:
    spot = hourly_usd("g6.12xlarge", "spot")
    assert spot.usd == hourly_usd("g6.12xlarge").usd * SPOT_RATIO
    assert spot.estimated
    assert "50% of on-demand" in spot.source


def test_a_reservation_costs_on_demand_but_a_capacity_block_only_about() -> None:
    assert hourly_usd("g6.12xlarge", "reserved") == hourly_usd("g6.12xlarge")
    assert hourly_usd("p5.48xlarge", "reserved").estimated


def test_a_region_without_a_table_has_the_home_regions_price_as_an_estimate() -> None:
    elsewhere = hourly_usd("g6.12xlarge", "on-demand", "eu-central-1")
    assert elsewhere.usd == hourly_usd("g6.12xlarge").usd
    assert elsewhere.estimated
    assert elsewhere.source == f"price of {HOME_REGION}; none known for eu-central-1"


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"'g6\.13xlarge'"):
        hourly_usd("g6.13xlarge")


def product(name: str, usd: str) -> str:
    """One entry of the Price List API, as AWS documents it."""
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": usd}}
    return json.dumps(
        {
            "product": {"attributes": {"instanceType": name}},
            "terms": {"OnDemand": {"A.B": {"priceDimensions": {"A.B.C": dimension}}}},
        }
    )


AWS = boto3.Session("of-no-one", "of-no-one", region_name="us-east-1")


def test_the_tool_reads_the_price_list() -> None:
    pricing = AWS.client("pricing")
    listed = [product("g6.xlarge", "0.8048"), product("x1.16xlarge", "6.669")]
    listed += [product("p5e.48xlarge", "0.0000")]  # how AWS lists what it does not sell on demand
    with Stubber(pricing) as answers:
        answers.add_response(
            "get_products",
            {"FormatVersion": "aws_v1", "PriceList": listed},
            {"ServiceCode": "AmazonEC2", "Filters": ANY},
        )
        found = TOOL["on_demand"](pricing, "us-east-1", {"g6.xlarge", "p5e.48xlarge"})
    assert found == {"g6.xlarge": 0.8048}


def test_the_tool_takes_the_middle_of_the_zones_last_spot_prices() -> None:
    ec2 = AWS.client("ec2")
    hours = [("a", 1, "0.1"), ("a", 2, "0.5"), ("b", 1, "0.4"), ("c", 1, "0.9")]
    history = [
        {
            "InstanceType": "g6.xlarge",
            "AvailabilityZone": f"us-east-1{zone}",
            "Timestamp": datetime(2026, 1, 1, hour, tzinfo=UTC),
            "SpotPrice": usd,
        }
        for zone, hour, usd in hours
    ]
    asked = {
        "InstanceTypes": ["g6.xlarge"],
        "ProductDescriptions": ["Linux/UNIX"],
        "StartTime": ANY,
    }
    with Stubber(ec2) as answers:
        answers.add_response(
            "describe_spot_price_history", {"SpotPriceHistory": history, "NextToken": ""}, asked
        )
        assert TOOL["spot"](ec2, {"g6.xlarge"}) == {"g6.xlarge": 0.5}


def test_what_the_tool_wrote_is_what_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = json.loads(TOOL["TARGET"].read_text())
    listed, spots = {"g6.xlarge": 0.9}, {"g6.xlarge": 0.3}
    tables["eu-west-1"] = TOOL["refreshed"]({}, listed, spots, "2026-11-24")
    file = tmp_path / "price.json"
    file.write_text(TOOL["written"](tables, {name: i for i, name in enumerate(instances())}))
    monkeypatch.setattr(price, "_DATA", file)
    price._tables.cache_clear()
    ordered = hourly_usd("g6.xlarge", "on-demand", "eu-west-1")
    spot = hourly_usd("g6.xlarge", "spot", "eu-west-1")
    price._tables.cache_clear()
    assert (ordered.usd, ordered.as_of, ordered.estimated) == (0.9, "2026-11-24", False)
    assert (spot.usd, spot.as_of, spot.estimated) == (0.3, "2026-11-24", False)


def test_a_refresh_keeps_estimates_that_aws_has_no_price_for() -> None:
    table = json.loads(TOOL["TARGET"].read_text())[HOME_REGION]
    anew = TOOL["refreshed"](table, {"g6.xlarge": 0.9}, {}, "2026-11-24")
    assert anew["prices"]["g6.xlarge"] == {"on-demand": 0.9}
    assert anew["prices"]["p5e.48xlarge"] == table["prices"]["p5e.48xlarge"]


def test_the_file_has_one_type_a_line_in_the_catalogues_order() -> None:
    text = TOOL["TARGET"].read_text()
    order = {name: place for place, name in enumerate(instances())}
    assert text == TOOL["written"](json.loads(text), order)
