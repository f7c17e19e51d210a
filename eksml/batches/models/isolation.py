"""Find the rows that make a batch fail, by halving it; the others are computed all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from eksml.errors import EngineDied, InvalidSpec, tell

T = TypeVar("T")

SUSPICIOUS = 8
"""Single rows that failed alike, after which it is asked whether they all do."""
PROBES = 24
"""Rows, spread over those that are left, that are tried for it."""


class WrongResult(InvalidSpec):
    """A function returned what no row can be blamed for: its author has to mend it."""


_PASSED_ON = (EngineDied, WrongResult)


@dataclass
class Isolated(Generic[T]):
    """What became of the rows of one batch."""

    results: list[tuple[int, int, T]] = field(default_factory=list)
    """First row, end and result of each part that could be computed, in the rows' order."""
    errors: dict[int, str] = field(default_factory=dict)
    """Row → ``Type: message`` of what it raised."""


def isolate(compute: Callable[[int, int], T], rows: int) -> Isolated[T]:
    """Compute rows 0 to ``rows`` at once; where that raises, halve until the bad rows stand alone.

    With k bad rows it takes at most 2·k·log2(rows) + 1 calls, and ``PROBES`` more where many rows
    fail. If ``SUSPICIOUS`` rows have failed with the same words, as many have been tried one by one
    as ``PROBES`` says, from all over the rest, and every one of them fails so too, then the rest is
    taken to fail as well without being tried: a function that is broken for all rows would
    otherwise be called once for each.

    Args:
        compute: Computes the rows from its first argument to its second, exclusive.
        rows: How many there are.

    Raises:
        EngineDied, WrongResult: ``compute`` raised it.
    """
    done: Isolated[T] = Isolated()
    waiting = [(0, rows)] if rows else []
    asked = False
    while waiting:
        start, stop = waiting.pop()
        try:
            done.results.append((start, stop, compute(start, stop)))
            continue
        except _PASSED_ON:
            raise
        except Exception as error:  # whatever the function of a user raises
            told = tell(error)
        if stop - start > 1:
            middle = (start + stop) // 2
            waiting += [(middle, stop), (start, middle)]
            continue
        done.errors[start] = told
        if not asked and len(done.errors) >= SUSPICIOUS:
            asked = True
            if _all_fail(compute, waiting, done.errors):
                _give_up(waiting, told, done.errors)
                break
    return done


def _all_fail(
    compute: Callable[[int, int], T], waiting: list[tuple[int, int]], errors: dict[int, str]
) -> bool:
    """Whether rows from all over ``waiting`` fail one by one with the words of all ``errors``."""
    told = set(errors.values())
    left = [row for start, stop in waiting for row in range(start, stop)]
    if len(told) > 1 or len(left) <= PROBES:
        return False
    for probe in range(PROBES):
        row = left[probe * len(left) // PROBES]
        try:
            compute(row, row + 1)
            return False
        except _PASSED_ON:
            raise
        except Exception as error:
            if tell(error) not in told:
                return False
    return True


def _give_up(waiting: list[tuple[int, int]], told: str, errors: dict[int, str]) -> None:
    for start, stop in waiting:
        errors.update(dict.fromkeys(range(start, stop), told))
