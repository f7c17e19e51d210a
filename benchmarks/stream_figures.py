"""How figures of streams are told: one JSON line each, medians with their ranges."""

from __future__ import annotations

import json
import os
import statistics
from typing import Any


def beside(bench: str, ours: list[float], peer: list[float], unit: str, **more: Any) -> None:
    """Tell ours beside a peer's, of several rounds each; ``null`` is the ratio of ours to itself,
    every other round against the rest."""
    a, b = statistics.median(ours), statistics.median(peer)
    line = {"bench": bench, "ours": a, "peer": b, "ratio": a / b, "unit": unit}
    line |= {"ours_range": [min(ours), max(ours)], "peer_range": [min(peer), max(peer)]}
    if len(ours) > 1:
        line["null"] = statistics.median(ours[::2]) / statistics.median(ours[1::2])
    show({**line, **more})


def alone(bench: str, ours: list[float], unit: str, **more: Any) -> None:
    """Tell what has no peer."""
    line = {"bench": bench, "ours": statistics.median(ours), "unit": unit}
    show({**line, "ours_range": [min(ours), max(ours)], **more})


def show(line: dict[str, Any]) -> None:
    """One line, its figures to four places, and how busy the machine is."""
    line |= {"load": os.getloadavg()[0]}
    text = json.dumps(line)
    print(json.dumps(json.loads(text, parse_float=lambda word: round(float(word), 4))), flush=True)
