"""Score card payments as they come: windows over each card, then a model, then the alarms.

    python jobs/stream_fraud.py --payments 30000

A stolen card pays often and much. The model is trained here on windows of other payments; in place
of ``generator`` and ``files`` put ``streams.kafka(…)``. Prints the cards that were caught.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any

import eksml.streams as streams

CARDS, STOLEN = 200, (13, 77, 142)
WINDOW = streams.sliding("60s", "20s")
STATS = {
    "payments": "count",
    "total": ("amount", "sum"),
    "most": ("amount", "max"),
    "mean": ("amount", "mean"),
}


def payments(count: int) -> Any:
    """Payments of many cards, ten a second; of stolen ones more, and larger."""

    def generate(split: int, start: int) -> Any:
        for number in range(start, count):
            rng = random.Random(number)
            stolen = number > count // 2 and rng.random() < 0.1
            card = rng.choice(STOLEN) if stolen else rng.randrange(CARDS)
            amount = rng.uniform(200, 900) if stolen else rng.lognormvariate(3, 0.6)
            yield {"card": card, "amount": amount, "at": number / 10}

    return generate


class Fraud:
    """How likely a window is fraud; a logistic regression that is made once in each actor."""

    def __init__(self) -> None:
        import numpy as np
        from sklearn.linear_model import LogisticRegression

        rng = np.random.default_rng(0)
        usual = np.stack([rng.poisson(3, 500) + 1, rng.lognormal(4, 0.7, 500)], axis=1)
        stolen = np.stack([rng.poisson(12, 500) + 4, rng.uniform(2000, 9000, 500)], axis=1)
        inputs = np.log1p(np.concatenate([usual, stolen]))
        self._model = LogisticRegression().fit(inputs, np.repeat([0, 1], 500))

    def __call__(self, windows: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        inputs = np.log1p(np.stack([windows["payments"], windows["total"]], axis=1))
        return {**windows, "score": self._model.predict_proba(inputs)[:, 1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--payments", type=int, default=30_000)
    parser.add_argument("--out", default=tempfile.mkdtemp(prefix="fraud-"))
    given = parser.parse_args()
    graph = (
        streams.generator(payments(given.payments))
        .with_time("at", delay="2s")
        .key_by("card")
        .window(WINDOW, STATS)
        .infer(Fraud, batch=256, wait="5ms")
        .filter(lambda windows: windows["score"] > 0.9, columns=True)
        .to(streams.files(given.out))
    )
    streams.stream(graph, storage=Path(given.out) / "_runs", name="fraud")

    import pyarrow.parquet as pq

    alarms = pq.read_table(given.out).to_pandas()
    worst = alarms.groupby("card").score.agg(["count", "max"]).sort_values("count").tail(5)
    print(worst.to_string())
    caught = set(worst.index[worst["count"] > 2])
    print(f"caught {sorted(caught & set(STOLEN))} of the stolen cards {list(STOLEN)}")


if __name__ == "__main__":
    main()
