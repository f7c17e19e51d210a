"""What a batch run came to: its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from eksml.batches import error_table, ledger
from eksml.batches.tally import Tally, summary
from eksml.storage import URI

REASONS = 5
"""Reasons of errors that are named, the most frequent ones."""
_SECONDS_PER_HOUR = 3600


def report(
    run: URI,
    tally: Tally,
    *,
    output: URI,
    seconds: float,
    computing_s: float,
    node_hours: float,
    busy: Mapping[str, Mapping[str, float]],
    usd_per_node_hour: float | None,
    table: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The run in numbers; what it was not asked to count is left out.

    Args:
        seconds: Of this attempt, from its start.
        computing_s: Of that, from the first block on: without the start of workers and models.
        node_hours: Of all attempts.
        table: Which table has the files, and its snapshot.
        busy: What each worker of this attempt last said of its model.
    """
    lengths = {name: summary(histogram) for name, histogram in sorted(tally.lengths.items())}
    tokens = sum(lengths[name]["total"] for name in ("tokens_in", "tokens_out") if name in lengths)
    found: dict[str, Any] = {
        "output": str(output),
        "rows": tally.rows,
        "errors": tally.errors,
        "error_reasons": reasons(run) if tally.errors else {},
        "files": sum(len(done.files) for done in ledger.read_all(run)),
        "lengths": lengths,
        "seconds": round(seconds, 1),
        "computing_s": round(computing_s, 2),
        "rows_per_s": round(tally.computed / computing_s, 1) if computing_s > 0 else 0.0,
        "engine": _engine(busy),
    }
    if table is not None:
        found["table"] = table
    if usd_per_node_hour is not None:
        usd = node_hours * usd_per_node_hour
        found["usd"] = round(usd, 4)
        if tokens:
            found["usd_per_million_tokens"] = round(usd / tokens * 1e6, 4)
    return found


def reasons(run: URI) -> dict[str, int]:
    """The most frequent reasons of errors, the part before what differs from row to row."""
    counts: Counter[str] = Counter()
    newest: dict[int, ledger.Key] = {}
    for key in sorted(ledger.keys(run)):
        newest[key.block] = key
    for key in newest.values():
        table = error_table.read(run, key)
        if table is not None:
            counts.update(str(told)[:200] for told in table["_error"].to_pylist())
    return dict(counts.most_common(REASONS))


def _engine(busy: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means over the workers of what their models said of themselves."""
    names = sorted({name for told in busy.values() for name in told})
    means = {}
    for name in names:
        values = [told[name] for told in busy.values() if name in told]
        means[name] = round(sum(values) / len(values), 3)
    return {"workers": len(busy), **means}
