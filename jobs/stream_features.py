"""Keep features for recommendations fresh: what each user looked at lately, joined with the items.

    python jobs/stream_features.py --views 20000

Views and prices are made up here; put ``streams.kafka(…)`` in their place and
``streams.postgres("features", dsn, key="user")`` at the end. Prints the freshest features.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any

import eksml.streams as streams

USERS, ITEMS = 50, 20
MINUTE = streams.tumbling("1m")


def views(count: int) -> Any:
    """Who looked at what, twenty times a second."""

    def generate(split: int, start: int) -> Any:
        for number in range(start, count):
            rng = random.Random(number)
            yield {"user": rng.randrange(USERS), "item": rng.randrange(ITEMS), "at": number / 20}

    return generate


def prices(seconds: float) -> Any:
    """Each item's price, once a minute."""

    def generate(split: int, start: int) -> Any:
        for number in range(start, int(seconds // 60 + 1) * ITEMS):
            minute, item = divmod(number, ITEMS)
            yield {"item": item, "price": 10.0 + item + 0.1 * minute, "at": minute * 60.0}

    return generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=int, default=20_000)
    parser.add_argument("--out", default=tempfile.mkdtemp(prefix="features-"))
    given = parser.parse_args()
    viewed = streams.generator(views(given.views), name="views").with_time("at")
    priced = streams.generator(prices(given.views / 20), name="prices").with_time("at")
    graph = (
        viewed.key_by("item")
        .join(priced.key_by("item"), MINUTE)
        .key_by("user")
        .window(MINUTE, {"views": "count", "mean_price": ("price", "mean")})
        .to(streams.files(given.out))
    )
    streams.stream(graph, storage=Path(given.out) / "_runs")

    import pyarrow.parquet as pq

    features = pq.read_table(given.out).to_pandas().sort_values("window_end")
    print(features.tail(5).to_string(index=False))
    print(f"{int(features.views.sum())} views of {features.user.nunique()} users")


if __name__ == "__main__":
    main()
