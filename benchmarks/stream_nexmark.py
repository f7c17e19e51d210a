"""Nexmark's queries 1, 5 and 8 as streams: events a second of one worker, a checkpoint each second.

Proportions are Nexmark's: of 50 events one is a new person, three are auctions and 46 are bids, and
half of the bids go to a hundredth of the auctions. Only events that a query reads are made, and
counted. Flink's own numbers for one core, on other hardware, where all events are counted: q1
158,000 events/s, q5 22,000, q8 146,000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import eksml.streams as streams

CHUNK = 10_000
A_SECOND = 10_000
"""Events of a second of event time."""
EVENTS = {"q1": 10_000_000, "q5": 4_000_000, "q8": 4_000_000}
FLINK = {"q1": 158_000, "q5": 22_000, "q8": 146_000}


def bids(count: int, note: Callable[[], None]) -> Callable[[int, int], Iterator[Any]]:
    """``count`` bids, made before the clock starts."""

    def chunk(first: int) -> Any:
        import numpy as np
        import pyarrow as pa

        number, rng = np.arange(first, first + CHUNK), np.random.default_rng(first)
        newest = number * 3 // 46
        hot, behind = rng.random(CHUNK) < 0.5, rng.integers(0, 300, CHUNK)
        auction = np.where(hot, newest // 100 * 100, np.maximum(0, newest - behind))
        price = rng.integers(1, 10_000, CHUNK)
        return pa.table({"auction": auction, "price": price, "at": number * 50 / 46 / A_SECOND})

    return prepared(chunk, count, note)


def persons(count: int, note: Callable[[], None]) -> Callable[[int, int], Iterator[Any]]:
    """The new persons of ``count`` persons and auctions."""

    def chunk(first: int) -> Any:
        import numpy as np
        import pyarrow as pa

        number = np.arange(first, first + CHUNK)
        return pa.table({"person": number, "at": number * 50 / A_SECOND})

    return prepared(chunk, count // 4, note)


def auctions(count: int, note: Callable[[], None]) -> Callable[[int, int], Iterator[Any]]:
    """The auctions of ``count`` persons and auctions, by one of the last thousand persons."""

    def chunk(first: int) -> Any:
        import numpy as np
        import pyarrow as pa

        number, rng = np.arange(first, first + CHUNK), np.random.default_rng(first)
        person = np.maximum(0, number // 3 - rng.integers(0, 1000, CHUNK))
        time = number / 3 * 50 / A_SECOND
        return pa.table({"person": person, "auction": number, "at": time})

    return prepared(chunk, count // 4 * 3, note)


def prepared(
    chunk: Callable[[int], Any], count: int, note: Callable[[], None]
) -> Callable[[int, int], Iterator[Any]]:
    """A source of chunks that are all made when it says by ``note`` that it begins."""

    def events(split: int, start: int) -> Iterator[Any]:
        chunks = [chunk(first) for first in range(0, count, CHUNK)]
        note()
        yield from chunks

    return events


def q1(count: int, note: Callable[[], None]) -> Any:
    """Prices of bids in another currency."""

    def convert(columns: dict[str, Any]) -> dict[str, Any]:
        return {**columns, "price": columns["price"] * 0.908}

    return streams.generator(bids(count, note)).map(convert, columns=True)


def q5(count: int, note: Callable[[], None]) -> Any:
    """How many bids the hottest auction of each ten seconds had, every two seconds."""
    counted = (
        streams.generator(bids(count, note))
        .with_time("at")
        .key_by("auction")
        .window(streams.sliding("10s", "2s"), {"bids": "count"})
    )
    ended = counted.map(
        lambda columns: {"ended": columns["window_end"], "bids": columns["bids"]}, columns=True
    )
    return ended.key_by("ended").window(streams.tumbling("2s"), {"hottest": ("bids", "max")})


def q8(count: int, note: Callable[[], None]) -> Any:
    """Who came new and opened an auction within the same ten seconds."""

    new = streams.generator(persons(count, note)).with_time("at").key_by("person")
    selling = streams.generator(auctions(count, note)).with_time("at").key_by("person")
    return new.join(selling, streams.tumbling("10s"))


QUERIES = {"q1": q1, "q5": q5, "q8": q8}
