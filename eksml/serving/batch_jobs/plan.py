"""Is the whole input valid, and how is it cut into blocks: decided once, before any line runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from eksml.errors import Damaged
from eksml.serving.batch_jobs.files import StoredFile
from eksml.serving.batch_jobs.lines import (
    Block,
    Fault,
    Line,
    LineTooLong,
    Row,
    blocks_of,
    lines_of,
    read_row,
)
from eksml.serving.batch_jobs.records import LineError
from eksml.storage import read_part

MOST_ROWS = 50_000
"""As in OpenAI's API."""
MOST_ERRORS = 100
"""Lines that are told to be wrong; the rest is not looked at."""
_PARTS_KEPT = 2


@dataclass(frozen=True)
class Judged:
    """The input, once read."""

    blocks: list[Block]
    errors: list[LineError]
    """The first of them; the batch fails if there is any."""

    @property
    def rows(self) -> int:
        """Requests in the input."""
        return sum(block.rows for block in self.blocks)


def judge(
    file: StoredFile, endpoint: str, served: Collection[str], *, most_line_bytes: int
) -> Judged:
    """Read the input in bounded memory, check every line, and cut it into blocks.

    Args:
        file: The input.
        endpoint: Where each line is to be sent.
        served: What lines may say in ``model``: the names of one model and its adapters.
        most_line_bytes: Longest line.

    Raises:
        Damaged: the file is not what was uploaded.
    """
    check = _Check(endpoint, served)
    try:
        blocks = list(blocks_of(check.passed(lines_of(file.chunks(), most_line_bytes))))
    except LineTooLong as error:
        told = f"This line has more than {most_line_bytes:,} bytes."
        check.errors.append(LineError(code="line_too_long", message=told, line=error.number))
        blocks = []
    if not blocks and not check.errors:
        check.errors.append(LineError(code="empty_file", message="The input holds no request."))
    return Judged(blocks, check.errors)


class _Check:
    """What one line after the other must be, among the others."""

    def __init__(self, endpoint: str, served: Collection[str]) -> None:
        self.errors: list[LineError] = []
        self._endpoint = endpoint
        self._served = served
        self._lines: dict[str, int] = {}

    def passed(self, lines: Iterator[Line]) -> Iterator[Line]:
        """The lines, up to where too many are wrong."""
        for line in lines:
            fault = self._fault(line)
            if fault is not None:
                told = LineError(line=line.number, **vars(fault))
                self.errors.append(told)
            if len(self.errors) >= MOST_ERRORS:
                return
            yield line

    def _fault(self, line: Line) -> Fault | None:
        row = read_row(line.text, self._endpoint)
        if isinstance(row, Fault):
            return row
        first = self._lines.setdefault(row.custom_id, line.number)
        if first != line.number:
            told = f"The custom_id {row.custom_id!r:.100} is that of line {first} too."
            return Fault("duplicate_custom_id", told, "custom_id")
        if len(self._lines) > MOST_ROWS:
            return Fault("too_many_requests", f"A batch has at most {MOST_ROWS:,} requests.")
        model = row.body["model"]
        if model not in self._served:
            told = (
                f"The model {model!r:.100} is not that of the lines before. A batch is for one "
                "model and its adapters: make one for each."
            )
            return Fault("mismatched_model", told, "body.model")
        return None


class RowReader:
    """Reads the rows of blocks, from front to back, without fetching a part twice."""

    def __init__(self, file: StoredFile, endpoint: str) -> None:
        self._file = file
        self._endpoint = endpoint
        self._kept: dict[int, bytearray] = {}

    def read(self, block: Block) -> list[Row]:
        """The rows of a block of a valid input.

        Raises:
            Damaged: the file is not what was uploaded.
        """
        text = self._bytes(block.start, block.stop)
        found = [read_row(line.text, self._endpoint) for line in lines_of([text], len(text))]
        rows = [row for row in found if isinstance(row, Row)]
        if len(rows) != block.rows:
            told = f"holds {len(rows)} requests in block {block.index} instead of {block.rows}"
            raise Damaged(f"{self._file.folder} {told}: it is not the file that was checked.")
        return rows

    def _bytes(self, start: int, stop: int) -> bytearray:
        found, at = bytearray(), 0
        for index, part in enumerate(self._file.parts):
            if at < stop and at + part.size > start:
                found += self._part(index)[max(0, start - at) : stop - at]
            at += part.size
        return found

    def _part(self, index: int) -> bytearray:
        if index not in self._kept:
            self._kept[index] = read_part(self._file.folder, self._file.parts[index])
            while len(self._kept) > _PARTS_KEPT:
                del self._kept[min(self._kept)]
        return self._kept[index]
