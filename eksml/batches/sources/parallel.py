"""Looking into many files at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eksml.batches.sources.files import few
from eksml.errors import Damaged, InvalidSpec, Problem
from eksml.storage import Stat

_THREADS = 16
"""Requests to S3 at once while input is listed: each waits some 30 ms, and asks for little."""

Found = TypeVar("Found")


def look_into(files: Iterable[Stat], look: Callable[[Stat], Found]) -> list[Found]:
    """What ``look`` finds in each file, in their order.

    Raises:
        InvalidSpec: With each file that is not what it should be.
        NotFound, AccessDenied, StorageUnavailable: One cannot be read.
    """

    def one(file: Stat) -> tuple[Found | None, list[Problem]]:
        try:
            return look(file), []
        except InvalidSpec as error:
            return None, list(error.problems)
        except Damaged as error:
            return None, [Problem(str(file.uri), str(error).removeprefix(f"{file.uri} "))]

    with ThreadPoolExecutor(_THREADS) as pool:
        answers = list(pool.map(one, files))
    problems = [problem for _, found in answers for problem in found]
    if problems:
        raise InvalidSpec(few(problems), "the input")
    return [found for found, _ in answers if found is not None]
