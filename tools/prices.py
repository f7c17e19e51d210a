"""Refresh ``eksml/cluster/price.json``: ``python tools/prices.py --region us-west-2``.

Asks the AWS Price List API for on-demand prices and EC2 for the spot prices of the moment, with
the credentials that boto3 finds (``pricing:GetProducts`` and ``ec2:DescribeSpotPriceHistory``).
A price that AWS does not state is left as it was, with its reason if it is an estimate.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "eksml" / "cluster"
CATALOGUE, TARGET = FOLDER / "catalogue.json", FOLDER / "price.json"

SOURCE = "AWS Price List (AmazonEC2, Linux, shared tenancy)"
LINUX_ON_DEMAND = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
"""Attributes of the one product among an instance type's dozens that is meant."""


def on_demand(pricing: Any, region: str, names: Collection[str]) -> dict[str, float]:
    """Type → US dollars an hour, as far as the region sells it on demand."""
    wanted = {"regionCode": region, **LINUX_ON_DEMAND}
    pages = pricing.get_paginator("get_products").paginate(
        ServiceCode="AmazonEC2",
        Filters=[
            {"Type": "TERM_MATCH", "Field": field, "Value": value}
            for field, value in wanted.items()
        ],
    )
    products = (json.loads(text) for page in pages for text in page["PriceList"])
    prices = (price_of(product) for product in products)
    return {name: usd for name, usd in prices if name in names and usd > 0}


def price_of(product: Mapping[str, Any]) -> tuple[str, float]:
    """Instance type and hourly price of one product of the price list."""
    (term,) = product["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    return product["product"]["attributes"]["instanceType"], float(dimension["pricePerUnit"]["USD"])


def spot(ec2: Any, names: Collection[str]) -> dict[str, float]:
    """Type → US dollars an hour: the median over the zones of the client's region, now."""
    pages = ec2.get_paginator("describe_spot_price_history").paginate(
        InstanceTypes=sorted(names),
        ProductDescriptions=["Linux/UNIX"],
        StartTime=datetime.now(UTC),  # no end: the price that holds now, once for each zone
    )
    by_type: dict[str, dict[str, tuple[datetime, float]]] = defaultdict(dict)
    for page in pages:
        for entry in page["SpotPriceHistory"]:
            zones = by_type[entry["InstanceType"]]
            price = entry["Timestamp"], float(entry["SpotPrice"])
            zones[entry["AvailabilityZone"]] = max(
                price, zones.get(entry["AvailabilityZone"], price)
            )
    return {
        name: round(statistics.median(usd for _, usd in zones.values()), 6)
        for name, zones in by_type.items()
    }


def refreshed(
    table: Mapping[str, Any], ordered: Mapping[str, float], spots: Mapping[str, float], today: str
) -> dict[str, Any]:
    """The region's table with what AWS stated today; what it did not state is kept."""
    rows = {name: dict(row) for name, row in table.get("prices", {}).items()}
    for name, usd in ordered.items():
        rows[name] = {"on-demand": usd}
    for name, row in rows.items():
        row.pop("spot", None)
        if name in spots:
            row["spot"] = spots[name]
    dates = {"as_of": today, **({"spot_as_of": today} if spots else {})}
    return {**dates, "source": SOURCE, "prices": rows}


def written(tables: Mapping[str, Any], order: Mapping[str, int]) -> str:
    """The file's text: one instance a line, in the catalogue's order."""
    regions = []
    for region, table in sorted(tables.items()):
        head = {key: value for key, value in table.items() if key != "prices"}
        fields = [f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        rows = sorted(table["prices"].items(), key=lambda item: order[item[0]])
        lines = [f"      {json.dumps(name)}: {json.dumps(row)}" for name, row in rows]
        fields.append('    "prices": {\n' + ",\n".join(lines) + "\n    }")
        regions.append(f"  {json.dumps(region)}: {{\n" + ",\n".join(fields) + "\n  }")
    return "{\n" + ",\n".join(regions) + "\n}\n"


def main() -> None:
    """Refresh one region."""
    import boto3

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--region", default="us-east-1", help="whose prices (us-east-1)")
    region = options.parse_args().region
    names = json.loads(CATALOGUE.read_text())["instances"]
    tables = json.loads(TARGET.read_text())
    ordered = on_demand(boto3.client("pricing", region_name="us-east-1"), region, names)
    spots = spot(boto3.client("ec2", region_name=region), names)
    today = datetime.now(UTC).date().isoformat()
    tables[region] = refreshed(tables.get(region, {}), ordered, spots, today)
    TARGET.write_text(written(tables, {name: place for place, name in enumerate(names)}))
    print(f"{region}: {len(ordered)} on-demand and {len(spots)} spot prices of {len(names)} types")


if __name__ == "__main__":
    main()
