"""A language model in a worker: its engine, and the way of a table through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.batches.models.base import Outcome
from eksml.batches.models.llm_order import order
from eksml.batches.models.llm_work import Asked, Work
from eksml.batches.models.prompts import Unaskable
from eksml.batches.models.vllm_engine import Answer, Engine, Refusal

if TYPE_CHECKING:
    import pyarrow as pa


class LoadedLLM:
    """See :class:`eksml.batches.models.base.Loaded`.

    Args:
        engine: Started; this one owns it.
        work: What is asked and made of the answers.
        output: Name of the new column.
        threads: Tables in flight that keep the engine full.
        load_s: Seconds that loading took.
        rows_at_once: Rows of a table that are asked and waited for before the next are; None: all.
    """

    def __init__(
        self,
        engine: Engine,
        work: Work,
        output: str,
        *,
        threads: int,
        load_s: float,
        rows_at_once: int | None = None,
    ) -> None:
        self.threads = threads
        self.engine = engine
        self._work = work
        self._output = output
        self._load_s = load_s
        self._rows_at_once = rows_at_once

    def compute(self, table: pa.Table) -> Outcome:
        """Ask the engine for all rows and wait for the answers. Any number of threads at once.

        Raises:
            EngineDied: The engine is gone; in all calls that wait for it.
        """
        size = self._rows_at_once or max(1, table.num_rows)
        starts = range(0, max(1, table.num_rows), size)
        return _joined([self._part(table.slice(start, size)) for start in starts])

    def _part(self, table: pa.Table) -> Outcome:
        import pyarrow as pa

        asked: dict[int, Asked] = {}
        outcome = _Rows()
        for row, request in enumerate(self._work.requests(table)):
            if isinstance(request, Unaskable):
                outcome.errors[row] = request.reason
            else:
                asked[row] = request
        attempt = 0
        while asked:
            attempt += 1
            failed = self._try(asked, outcome)
            again = {row: self._work.again(asked[row], attempt) for row in failed}
            asked = {row: request for row, request in again.items() if request is not None}
        values = [outcome.values.get(row) for row in range(table.num_rows)]
        columns = pa.table({self._output: self._work.column(values)})
        return Outcome(columns, outcome.errors, outcome.lengths())

    def busy(self) -> dict[str, float]:
        """Seconds of loading and of computing, and how full the engine's slots were meanwhile."""
        return {"load_s": self._load_s, **self.engine.occupancy.busy()}

    def pids(self) -> list[int]:
        """Ids of the engine's processes."""
        return self.engine.pids()

    def close(self) -> None:
        """End the engine."""
        self.engine.close()

    def _try(self, asked: dict[int, Asked], outcome: _Rows) -> list[int]:
        """Ask once; returns the rows that gave no result and may be asked again."""
        flat = [(row, request) for row, requests in asked.items() for request in requests]
        places = order([request.tokens for _, request in flat])
        answers = self.engine.run([flat[place][1] for place in places])
        by_row: dict[int, dict[int, Answer | Refusal]] = {}
        for place, answer in zip(places, answers, strict=True):
            by_row.setdefault(flat[place][0], {})[place] = answer
        return [row for row, found in by_row.items() if not self._take(row, found, outcome)]

    def _take(self, row: int, found: dict[int, Answer | Refusal], outcome: _Rows) -> bool:
        """Enter what a row's answers say; False if it may be asked again."""
        answers = []
        for _, answer in sorted(found.items(), key=lambda item: item[0]):
            if isinstance(answer, Refusal):
                outcome.errors[row] = answer.reason
                return True
            answers.append(answer)
        value = self._work.value(answers)
        if isinstance(value, Unaskable):
            outcome.errors[row] = value.reason
            return False
        outcome.enter(row, value, answers)
        return True


def _joined(parts: list[Outcome]) -> Outcome:
    """What became of the rows of one table after another, as of one."""
    import pyarrow as pa

    if len(parts) == 1:
        return parts[0]
    whole = Outcome(pa.concat_tables([part.columns for part in parts]))
    begin = 0
    for part in parts:
        whole.errors |= {begin + row: told for row, told in part.errors.items()}
        for name, lengths in part.lengths.items():
            whole.lengths.setdefault(name, []).extend(lengths)
        begin += part.columns.num_rows
    return whole


class _Rows:
    """What is known so far of the rows of one table."""

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}
        self.errors: dict[int, str] = {}
        self._tokens: dict[int, tuple[int, int]] = {}

    def enter(self, row: int, value: Any, answers: list[Answer]) -> None:
        self.values[row] = value
        self.errors.pop(row, None)  # of an earlier attempt
        tokens_in = sum(answer.tokens_in for answer in answers)
        self._tokens[row] = tokens_in, sum(answer.tokens_out for answer in answers)

    def lengths(self) -> dict[str, list[int]]:
        counts = [self._tokens[row] for row in sorted(self._tokens)]
        return {
            "tokens_in": [tokens_in for tokens_in, _ in counts],
            "tokens_out": [tokens_out for _, tokens_out in counts],
        }
