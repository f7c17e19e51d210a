"""The tasks of one incarnation of a stream: actors that are started, wired and ended together."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from eksml.streams.assignment import Restored
from eksml.streams.channels import LOST
from eksml.streams.operators.ends import SourceStep
from eksml.streams.parcel import Parcel
from eksml.streams.plan import Plan
from eksml.streams.task import Failure, Task

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from eksml.storage import URI
    from eksml.streams.sinks.base import Sink

_START_S = 1800.0
"""A node may have to be bought first."""
_AWAKE_S = 2.0
"""How long an actor that waits is given to answer."""
_WORD_S = 5.0
"""How long a task that lives is given to say why it failed."""


class TasksLost(Exception):
    """A task has died, or failed in a way that another start may mend."""

    def __init__(self, why: str, failure: Failure | None = None) -> None:
        super().__init__(why)
        self.failure = failure
        """What a task that lives said of itself."""


class Failed(Exception):
    """A task failed for good: by an error of the user's code or data."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error.message)
        self.failure = failure


class Bench:
    """Actors that wait for a task: those of a crew that has ended, so that the next one does not
    have to start processes anew. They die with this process."""

    def __init__(self) -> None:
        self._actors: list[ActorHandle] = []
        self._share = 0.0
        """Of a CPU, that each of them holds."""

    def take(self, count: int, incarnation: int, share: float) -> list[ActorHandle]:
        """So many actors, in a new incarnation; new ones where none wait, or one does not answer
        at once. Those that are left over go."""
        import ray

        if share != self._share:
            self.clear()
            self._share = share
        waiting, self._actors = self._actors, []
        asked = {actor.begin.remote(incarnation): actor for actor in waiting}
        ray.wait(list(asked), num_returns=len(asked), timeout=_AWAKE_S) if asked else None
        good: list[ActorHandle] = []
        for answer, actor in asked.items():
            if len(good) < count and _answers(answer):
                good.append(actor)
            else:
                _kill(actor)
        kind = ray.remote(Task).options(num_cpus=share, max_restarts=0, max_concurrency=1000)
        while len(good) < count:
            actor = kind.remote()
            actor.begin.remote(incarnation)
            good.append(actor)
        return good

    def give_back(self, actors: Iterable[ActorHandle]) -> None:
        """They may be dead, or busy with what nobody wants any more."""
        self._actors += actors

    def clear(self) -> None:
        """End all that wait."""
        for actor in self._actors:
            _kill(actor)
        self._actors = []


def _answers(answer: Any) -> bool:
    import ray

    try:
        ray.get(answer, timeout=0)
    except Exception:  # it is dead, or has not come yet
        return False
    return True


def _kill(actor: ActorHandle) -> None:
    import ray

    with contextlib.suppress(Exception):
        ray.kill(actor)


class Crew:
    """Starts the tasks; a context manager that gives their actors back to the bench."""

    def __init__(
        self,
        bench: Bench,
        plan: Plan,
        run: URI,
        identity: str,
        attempt: int,
        incarnation: int,
        restored: Restored,
        *,
        dead_letters: Sink | None,
        tries: int,
        state_memory: int,
        pools: dict[str, tuple[Any, ...]],
    ) -> None:
        self.plan = plan
        self.incarnation = incarnation
        self._bench = bench
        self._common = {
            "run": run,
            "identity": identity,
            "attempt": attempt,
            "incarnation": incarnation,
            "plan": plan,
            "restored": restored,
            "dead_letters": dead_letters,
            "tries": tries,
            "state_memory": state_memory,
            "pools": pools,
        }
        self.tasks: dict[tuple[int, int], ActorHandle] = {}
        """By (stage, index)."""

    @property
    def sources(self) -> list[ActorHandle]:
        """The tasks that read sources."""
        graph = self.plan.graph
        stages = {
            self.plan.stage_of[step.name]
            for step in graph.steps
            if isinstance(step.spec, SourceStep)
        }
        return [task for (stage, _), task in self.tasks.items() if stage in stages]

    def __enter__(self) -> Crew:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def finish_logs(self) -> None:
        """Have what was printed written out; not of tasks that are dead or busy."""
        import ray

        asked = self.ask(self.tasks.values(), "finish_logs")
        ray.wait(asked, num_returns=len(asked), timeout=_WORD_S)

    def __exit__(self, *ending: object) -> None:
        self._bench.give_back(self.tasks.values())

    def _start(self) -> None:
        """Start all, then wire all.

        Raises:
            TasksLost, Failed: One did not start.
        """
        import ray

        # The tasks of one worker share its CPU, as their work is one after the other's
        share = round(1.0 / self.plan.num_stages - 0.00005, 4)
        places = list(itertools.product(range(self.plan.num_stages), range(self.plan.parallelism)))
        actors = self._bench.take(len(places), self.incarnation, share)
        self.tasks = dict(zip(places, actors, strict=True))
        self.failures = {
            task.failure.remote(self.incarnation): task for task in self.tasks.values()
        }
        common = ray.put(Parcel.of(self._common))
        self.all(
            [
                task.start.remote(self.incarnation, common, stage, index, self.tasks)
                for (stage, index), task in self.tasks.items()
            ],
            _START_S,
        )

    def ask(self, tasks: Iterable[ActorHandle], method: str, *arguments: Any) -> list[Any]:
        """Call a method of these tasks; the answers to come."""
        return [getattr(task, method).remote(self.incarnation, *arguments) for task in tasks]

    def all(self, answers: list[Any], timeout_s: float) -> list[Any]:
        """Wait for all of these answers of tasks.

        Raises:
            TasksLost, Failed: A task died or failed meanwhile, or time is up.
        """
        import ray

        waiting, limit = list(answers), time.monotonic() + timeout_s
        while waiting:
            done, _ = ray.wait(
                [*waiting, *self.failures], timeout=max(0.0, limit - time.monotonic())
            )
            if not done:
                raise TasksLost(f"no answer within {timeout_s} s")
            if done[0] in self.failures:
                self.raise_failure()
            self.get(done[0])
            waiting.remove(done[0])
        return [self.get(each) for each in answers]

    def get(self, answer: Any) -> Any:
        """The value of an answer that has come.

        Raises:
            TasksLost, Failed: It is an error.
        """
        import ray

        try:
            value = ray.get(answer)
        except ray.exceptions.RayError:  # its word for a death
            value = LOST
        return self.raise_failure() if value is LOST else value

    def raise_failure(self) -> Any:
        """Say what went wrong: an error of the user's code if there is one, else what died.

        Raises:
            TasksLost, Failed: Always.
        """
        found = list(self._told())
        for failure in found:
            if isinstance(failure, Failure) and failure.final:
                raise Failed(failure)
        words = [
            failure.error.message if isinstance(failure, Failure) else str(failure)
            for failure in found
        ]
        told = next((failure for failure in found if isinstance(failure, Failure)), None)
        raise TasksLost("; ".join(dict.fromkeys(words)) or "a task does not answer", told)

    def _told(self) -> Iterator[Failure | Exception]:
        import ray

        ray.wait(list(self.failures), timeout=_WORD_S)
        done, _ = ray.wait(list(self.failures), num_returns=len(self.failures), timeout=0.05)
        for each in done:
            try:
                yield ray.get(each)
            except Exception as error:  # Ray's word for a death
                yield error
