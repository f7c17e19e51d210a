"""How much of a batch run is done: receipts added up, as they come. Pure; takes the time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eksml.batches.blocks import Block
from eksml.batches.ledger import Done, Key

WINDOW_S = 30.0
"""Speeds are over so long."""
ASKED_AFTER = 100
"""Rows that must be computed before the share of those that fail means anything."""


@dataclass
class Tally:
    """Adds receipts up."""

    blocks: Mapping[int, Block]
    rows: int = 0
    """In the output."""
    lengths: dict[str, Counter[int]] = field(default_factory=dict)
    computed: int = 0
    """Rows that went through the model since this tally began, failed ones too."""
    failed: int = 0
    """Of these, those that failed."""
    _errors: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Block → its newest generation and the errors in it."""
    _recent: deque[tuple[float, int, int]] = field(default_factory=deque)

    def add(self, done: Done, now_s: float | None = None) -> None:
        """Count a receipt; with ``now_s``, as work that was just done."""
        self.rows += done.rows
        known = self._errors.get(done.block)
        if known is None or done.generation >= known[0]:
            self._errors[done.block] = (done.generation, done.errors)
        for name, histogram in done.lengths.items():
            counts = self.lengths.setdefault(name, Counter())
            counts.update({int(length): count for length, count in histogram.items()})
        if now_s is not None:
            self.computed += done.rows + done.errors
            self.failed += done.errors
            self._recent.append((now_s, done.rows + done.errors, done.tokens()))
            while now_s - self._recent[0][0] > WINDOW_S and len(self._recent) > 2:
                self._recent.popleft()

    @property
    def errors(self) -> int:
        """Rows that failed, when they were tried last."""
        return sum(count for _, count in self._errors.values())

    def total(self, planned: int) -> int:
        """Rows that there will be: exact where all are known, else by what the done blocks held."""
        weights = {index: _weight(block) for index, block in self.blocks.items()}
        done = sum(weights[index] for index in self._errors)
        if not done:
            return planned
        return max(1, round((self.rows + self.errors) * sum(weights.values()) / done))

    def speed(self, now_s: float, since_s: float) -> tuple[float, float]:
        """Rows and tokens per second of late."""
        if not self._recent:
            return 0.0, 0.0
        began_s = max(since_s, self._recent[0][0] if len(self._recent) > 1 else since_s)
        counted = list(self._recent)[1:] if began_s == self._recent[0][0] else list(self._recent)
        span_s = max(now_s - began_s, 1e-3)
        rows = sum(rows for _, rows, _ in counted)
        tokens = sum(tokens for _, _, tokens in counted)
        return rows / span_s, tokens / span_s


def pending(blocks: Iterable[Block], done: Mapping[Key, Done], generation: int) -> list[Key]:
    """What is left to do: blocks that are not done, and up to ``generation`` those with errors."""
    found = []
    for block in blocks:
        key = Key(block.index)
        while key.generation < generation and key in done and done[key].errors:
            key = Key(block.index, key.generation + 1)
        if key not in done:
            found.append(key)
    return found


def percentile(histogram: Mapping[int, int], share: float) -> int:
    """The smallest length that at least ``share`` of the rows do not exceed."""
    limit, seen = share * sum(histogram.values()), 0
    for length in sorted(histogram):
        seen += histogram[length]
        if seen >= limit:
            return length
    return 0


def summary(histogram: Mapping[int, int]) -> dict[str, Any]:
    """A histogram in four numbers."""
    total = sum(length * count for length, count in histogram.items())
    count = sum(histogram.values())
    return {
        "total": total,
        "mean": round(total / count, 1) if count else 0.0,
        "p50": percentile(histogram, 0.5),
        "p95": percentile(histogram, 0.95),
    }


def _weight(block: Block) -> int:
    return sum(piece.stop - piece.start for piece in block.pieces)
