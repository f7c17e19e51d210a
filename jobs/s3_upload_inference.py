"""Classify images as they are uploaded: S3 tells a queue, workers come, results lie beside.

    python jobs/s3_upload_inference.py --queue uploads --results s3://bucket/results

The bucket has to notify the queue of new objects. Workers start when uploads wait, up to
``--most``, and go when none do; each upload gets one result, whatever is killed. The model tells
handwritten digits, from text files of 64 numbers. Stop it with ``eksml cancel uploads``.
"""

from __future__ import annotations

import argparse
from typing import Any

import eksml.streams as streams
from eksml.storage import URI


class Digits:
    """Loaded once in each worker."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression

        digits = load_digits()
        self._model = LogisticRegression(max_iter=200).fit(digits.data / 16, digits.target)

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        upload = URI.parse(f"s3://{event['bucket']}/{event['key']}")
        pixels = np.array(upload.read_bytes().split(), float).reshape(1, 64)
        scores = self._model.predict_proba(pixels / 16)[0]
        return {"digit": int(scores.argmax()), "score": round(float(scores.max()), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queue", required=True, help="its name or URL")
    parser.add_argument("--results", required=True, help="folder or s3://bucket/prefix")
    parser.add_argument("--most", type=int, default=20, help="workers at the most")
    parser.add_argument("--cluster", default=None)
    given = parser.parse_args()
    streams.on_event(
        streams.sqs(given.queue),
        Digits,
        scale=(0, given.most),
        storage=given.results,
        name="uploads",
        cluster=given.cluster,
    )


if __name__ == "__main__":
    main()
