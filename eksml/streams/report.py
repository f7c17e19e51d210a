"""How a stream stands: ``status.json`` for people and ``eksml top``, gauges for Prometheus, and the
run's progress, metrics and events."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from eksml.observe import metrics
from eksml.runs.driver import Attempt
from eksml.runs.journal import Journal, source_name
from eksml.runs.progress import Progress, write_progress
from eksml.streams.channels import LOST
from eksml.streams.crew import Crew
from eksml.streams.graph import Graph
from eksml.streams.operators.ends import SourceStep
from eksml.streams.watermarks import FOREVER, NEVER

if TYPE_CHECKING:
    from eksml.streams.task import Snapshot

STATUS = "status.json"
_PAUSE_S = {"file": 1.0, "s3": 5.0}
_SUMS = ("events_in", "events_out", "late", "dead", "busy_s")
_SIZES = ("state_bytes", "disk_bytes")
_PREFIX = "eksml_stream_"
_NAMES = {metric.name.removeprefix(_PREFIX): metric.text for metric in metrics.STREAMS}
"""What of the counts is a metric, and what it tells."""


class Reporter:
    """Asks the tasks now and then, and tells what they say. Used by the driver's one thread."""

    def __init__(self, attempt: Attempt, graph: Graph) -> None:
        self._attempt = attempt
        self._run = attempt.run
        self._graph = graph
        self._asked: list[Any] = []
        self._told_s = time.monotonic()
        self._counts: dict[str, dict[str, Any]] = {}
        self._before: dict[str, float] = {}
        self._earlier: dict[str, dict[str, float]] = {}
        self._blocked = 0.0
        self._checkpoint: dict[str, Any] = {}
        self._gauges = _Gauges(attempt.run.name)
        self._journal = Journal(self._run / "metrics", source_name(attempt.number, 0, "driver"))
        self._restarts = 0
        self._lost_s: float | None = None

    def started(self, crew: Crew) -> None:
        """A crew has begun; its counts begin anew."""
        for name, counts in self._counts.items():
            total = self._earlier.setdefault(name, dict.fromkeys(_SUMS, 0))
            for key in _SUMS:
                total[key] += counts[key]
        self._counts, self._before, self._asked = {}, {}, []
        if self._lost_s is not None:
            self._journal.append(
                {"step": self._checkpoint.get("epoch", 0), "restart_s": time.time() - self._lost_s}
            )
            self._lost_s = None

    def lost(self, why: str) -> None:
        """Tasks were lost."""
        self._restarts += 1
        self._lost_s = time.time()
        self._attempt.update(restarts=self._attempt.record.restarts + 1)
        self._write_progress("restoring", why)

    def look(self, crew: Crew) -> None:
        """Tell how it stands, if it is time. Never waits for tasks."""
        import ray

        now_s = time.monotonic()
        if not self._asked:
            if now_s - self._told_s >= _PAUSE_S[self._run.scheme]:
                self._asked = [task.status.remote(crew.incarnation) for task in crew.tasks.values()]
            return
        done, rest = ray.wait(self._asked, num_returns=len(self._asked), timeout=0)
        if rest:
            return
        self._asked = []
        try:
            answers = [ray.get(each) for each in done]
            if LOST not in answers:
                self._tell(answers, now_s - self._told_s)
        except ray.exceptions.RayError:
            return  # a task has died, which its failure tells
        self._told_s = now_s

    def _tell(self, answers: list[dict[str, Any]], elapsed_s: float) -> None:
        counts: dict[str, dict[str, Any]] = {}
        for answer in answers:
            for name, row in answer["steps"].items():
                numbers = dict.fromkeys((*_SUMS, *_SIZES), 0)
                total = counts.setdefault(name, {**numbers, "watermark": None})
                for key in numbers:
                    total[key] += row[key]
                mark = row["watermark"]
                if mark not in (NEVER, FOREVER):
                    total["watermark"] = min(mark, total["watermark"] or mark)
        self._counts = counts
        self._blocked = sum(answer["blocked_s"] for answer in answers)
        now_s = time.time()
        rows = {}
        for name, total in counts.items():
            rate = (total["events_in"] - self._before.get(name, 0)) / max(elapsed_s, 1e-6)
            self._before[name] = total["events_in"]
            mark = total.pop("watermark")
            lag_s = None if mark is None else now_s - mark / 1e6
            sizes = {key: total[key] for key in _SIZES}
            sums = self._with_earlier(name, total)
            rows[name] = {**sums, **sizes, "per_s": rate, "lag_s": lag_s}
            self._gauges.set(name, rows[name])
        self._write_status(rows)
        self._write_progress("running")

    def _with_earlier(self, name: str, counts: dict[str, Any]) -> dict[str, Any]:
        earlier = self._earlier.get(name, {})
        return {key: counts[key] + earlier.get(key, 0) for key in _SUMS}

    def _write_status(self, rows: dict[str, Any]) -> None:
        status = {
            "at_s": time.time(),
            "steps": rows,
            "checkpoint": self._checkpoint,
            "restarts": self._restarts,
            "blocked_s": self._blocked,
        }
        (self._run / STATUS).write_json(status)

    def _write_progress(self, phase: str, why: str | None = None) -> None:
        sources = [s.name for s in self._graph.steps if isinstance(s.spec, SourceStep)]
        known = [self._counts[name]["events_in"] for name in sources if name in self._counts]
        earlier = sum(self._earlier.get(name, {}).get("events_in", 0) for name in sources)
        metrics: dict[str, Any] = {"events": sum(known) + earlier}
        if why:
            metrics["restarted"] = why[:200]
        epoch = self._checkpoint.get("epoch", 0)
        progress = Progress(step=epoch, committed_step=epoch, phase=phase, metrics=metrics)
        write_progress(self._run, progress)

    def checkpoint(self, epoch: int, snapshots: Iterable[Snapshot], seconds: float) -> None:
        """A checkpoint stands."""
        found = list(snapshots)
        self._checkpoint = {
            "epoch": epoch,
            "seconds": seconds,
            "stopped_s": max(each.seconds for each in found),
            "bytes": sum(each.num_bytes for each in found),
        }
        self._journal.append(
            {"step": epoch, **{f"checkpoint_{k}": v for k, v in self._checkpoint.items()}}
        )

    def result(self, epoch: int) -> dict[str, Any]:
        """What a stream that has ended gives. Events that were done again count again."""
        keys = ("events_in", "events_out", "late", "dead")
        rows = {name: self._with_earlier(name, counts) for name, counts in self._counts.items()}
        return {
            "checkpoint": epoch,
            "restarts": self._restarts,
            "steps": {name: {key: row[key] for key in keys} for name, row in rows.items()},
        }

    def final(self, crew: Crew) -> None:
        """The last look, waited for."""
        import ray

        answers = ray.get([task.status.remote(crew.incarnation) for task in crew.tasks.values()])
        self._tell(answers, max(1e-6, time.monotonic() - self._told_s))

    def close(self) -> None:
        """Write out what waits."""
        self._journal.close()


class _Gauges:
    """The counts for Ray's own metrics, which Prometheus reads at every node."""

    def __init__(self, run: str) -> None:
        from ray.util.metrics import Gauge

        self._run = run
        self._gauges = {
            key: Gauge(_PREFIX + key, description=text, tag_keys=("run", "step"))
            for key, text in _NAMES.items()
        }

    def set(self, step: str, row: dict[str, Any]) -> None:
        for key, gauge in self._gauges.items():
            if row[key] is not None:
                gauge.set(row[key], tags={"run": self._run, "step": step})
