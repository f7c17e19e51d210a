"""What an hour of an instance costs, from a table that says how old it is.

``price.json`` is written by ``tools/prices.py`` from the AWS Price List and EC2's spot history. It
ships with us-east-1; the tool adds other regions and refreshes. Nothing here asks the network, so
every price is an orientation with a date, and says so where it is not even AWS's own number.
Linux, shared tenancy, without savings plans, storage and traffic.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eksml.cluster.catalogue import instance

Market = Literal["on-demand", "spot", "reserved"]

HOME_REGION = "us-east-1"
"""The region that has a price for every type of the catalogue."""
SPOT_RATIO = 0.5
"""Spot to on-demand, where the table has no spot price. A round guess: AWS promises «up to 90 %
off», types in demand are far from that, and prices move by the hour."""

_DATA = Path(__file__).with_name("price.json")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one hour of one instance."""

    usd: float
    as_of: str
    """The day on which AWS stated the price that this rests on, such as ``2026-02-09``."""
    estimated: bool
    """True: it is derived or guessed, not stated by AWS for this type, market and region."""
    source: str
    """Where it comes from, or how it was estimated."""


def hourly_usd(name: str, market: Market = "on-demand", region: str = HOME_REGION) -> Price:
    """The price of one hour of that instance type.

    ``reserved`` costs what ``on-demand`` costs, used or not, and is marked as an estimate where
    capacity blocks are sold, since their price is set by offer.

    Raises:
        InvalidSpec: the catalogue has no such type; says the nearest names.
    """
    sold = instance(name)
    table, row = _row(name, region)
    if market == "spot" and "spot" in row:
        return Price(row["spot"], table["spot_as_of"], False, "EC2 spot price history")
    base = _on_demand(table, row, region)
    if market == "spot":
        why = f"{SPOT_RATIO:.0%} of on-demand: {base.source}"
        return Price(base.usd * SPOT_RATIO, base.as_of, True, why)
    if market == "reserved" and "capacity-block" in sold.usage_classes:
        return Price(base.usd, base.as_of, True, f"as on-demand: {base.source}")
    return base


def _on_demand(table: Mapping[str, Any], row: Mapping[str, Any], region: str) -> Price:
    usd, as_of = row["on-demand"], table["as_of"]
    if "estimated" in row:
        return Price(usd, as_of, True, row["estimated"])
    if table["region"] != region:
        return Price(usd, as_of, True, f"price of {table['region']}; none known for {region}")
    return Price(usd, as_of, False, table["source"])


def _row(name: str, region: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The table that has the type, the region's own before the home region's; and its row."""
    tables = _tables()
    own = tables.get(region, {"prices": {}})
    table = own if name in own["prices"] else tables[HOME_REGION]
    return table, table["prices"][name]


@functools.cache
def _tables() -> Mapping[str, Any]:
    tables: Mapping[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return {region: {"region": region, **table} for region, table in tables.items()}
