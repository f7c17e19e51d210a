"""A stream's tasks in one process, without Ray: fast enough for thousands of kills.

Messages are pickled on their way, calls overtake each other at random, and a crash forgets
everything that is not in storage.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import random
from typing import NamedTuple

from eksml.storage import URI
from eksml.streams import checkpoints
from eksml.streams.channels import LOST
from eksml.streams.check import checked
from eksml.streams.operators.ends import SourceStep
from eksml.streams.operators.infer import Infer
from eksml.streams.plan import plan
from eksml.streams.pool import Model
from eksml.streams.task import Task


class Remote:
    """A method of a task, called as Ray's handles are."""

    def __init__(self, method, rng: random.Random) -> None:
        self._method = method
        self._rng = rng

    def remote(self, *arguments):
        return asyncio.ensure_future(self._call(pickle.loads(pickle.dumps(arguments, protocol=5))))

    async def _call(self, arguments):
        for _ in range(self._rng.randrange(3)):
            await asyncio.sleep(0)
        return await self._method(*arguments)


class Handle:
    """A task, or a model, as others see it."""

    def __init__(self, target, rng: random.Random) -> None:
        self._target = target
        self._rng = rng

    def __getattr__(self, name: str) -> Remote:
        method = getattr(self._target, name)
        if name == "answer":

            async def method(*arguments):
                return self._target.answer(*arguments)

        return Remote(method, self._rng)


async def answered(answer):
    """What a task answers; it must not have failed."""
    value = await answer
    assert value is not LOST
    return value


class Unpacked(NamedTuple):
    """In place of a parcel: the test's own functions, with the lists that they write into."""

    value: object

    def open(self):
        return self.value


class Quiet(Task):
    """A task that leaves what it prints where it is, and the process's garbage: each log has a
    thread, and there are thousands of tasks."""

    def _keep_logs(self, place: object) -> None:
        pass

    @contextlib.contextmanager
    def _settled_heap(self):
        yield


class Simulation:
    """A run of a graph whose every step is taken by the test."""

    def __init__(
        self,
        streams,
        run: URI,
        *,
        seed: int = 0,
        dead_letters=None,
        tries: int = 1,
        state_memory: int | None = None,
    ):
        self.graph = checked(streams)
        self.run = run
        self.rng = random.Random(seed)
        self.dead_letters = dead_letters
        self.tries = tries
        self.state_memory = state_memory
        self.incarnation = 0
        self.epoch = 0
        self.tasks: dict[tuple[int, int], Task] = {}

    async def start(self, parallelism: int, savepoint: URI | None = None) -> None:
        """Begin, from the newest checkpoint if there is one."""
        meta = checkpoints.newest(self.run)
        if meta is not None:
            restored = checkpoints.restored(meta)
        elif savepoint is not None:
            restored = checkpoints.restored(checkpoints.read(savepoint), with_prepared=False)
        else:
            restored = checkpoints.nothing(self.run, parallelism)
        self.epoch = restored.epoch
        self.incarnation += 1
        self.plan = plan(self.graph, parallelism)
        places = [(s, i) for s in range(self.plan.num_stages) for i in range(parallelism)]
        self.tasks = {place: Quiet() for place in places}
        peers = {place: Handle(task, self.rng) for place, task in self.tasks.items()}
        pools = {
            step.name: tuple(Handle(Model(Unpacked(step.spec)), self.rng) for _ in range(2))
            for step in self.graph.steps
            if isinstance(step.spec, Infer)
        }
        common = {
            "run": self.run,
            "identity": self.run.name,
            "attempt": 1,
            "incarnation": self.incarnation,
            "plan": self.plan,
            "restored": restored,
            "dead_letters": self.dead_letters,
            "tries": self.tries,
            "state_memory": self.state_memory,
            "pools": pools,
        }
        for task in self.tasks.values():
            await task.begin(self.incarnation)
        for (stage, index), task in self.tasks.items():
            await answered(task.start(self.incarnation, Unpacked(common), stage, index, peers))

    @property
    def sources(self) -> list[Task]:
        stages = {
            self.plan.stage_of[step.name]
            for step in self.graph.steps
            if isinstance(step.spec, SourceStep)
        }
        return [task for (stage, _), task in self.tasks.items() if stage in stages]

    async def read(self) -> bool:
        """One look of one source task at its sources; whether all sources have ended."""
        task = self.rng.choice(self.sources)
        async with task._lock:
            found = [await feed.step() for feed in task._wired.feeds]
            await task._flush(now=self.rng.random() < 0.5)
        if not any(found):
            await asyncio.sleep(0.001)  # clients of brokers work beside it
        return all(each._wired.ended for each in self.sources)

    async def checkpoint(self, *, commit: bool = True, kind: str = checkpoints.CHECKPOINTS) -> None:
        """As the coordinator does it; without ``commit`` it dies after the manifest."""
        epoch = self.epoch + 1
        for task in self.rng.sample(self.sources, len(self.sources)):
            await answered(task.barrier(self.incarnation, epoch))
        asked = [answered(task.snapshot(self.incarnation, epoch)) for task in self.tasks.values()]
        snapshots = dict(zip(self.tasks, await asyncio.gather(*asked), strict=True))
        self.snapshots = snapshots
        meta = checkpoints.meta_of(
            epoch,
            self.graph,
            self.plan.parallelism,
            snapshots,
            run=self.run,
            attempt=1,
            ended=False,
        )
        checkpoints.write(self.run, meta)
        if kind != checkpoints.CHECKPOINTS:
            checkpoints.write(self.run, meta, kind)
        self.epoch = epoch
        if commit:
            for place, task in self.tasks.items():
                await task.commit(
                    self.incarnation, epoch, snapshots[place].prepared, snapshots[place].positions
                )
            checkpoints.retire(self.run)

    async def half_checkpoint(self) -> None:
        """Barriers and snapshots, and death before the manifest."""
        for task in self.sources:
            await task.barrier(self.incarnation, self.epoch + 1)

    async def crash(self) -> None:
        """Everything that is not in storage is gone."""
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        self.tasks = {}
        checkpoints.sweep(self.run, attempt=2)

    async def finish(self) -> None:
        """Read to the end, and a last checkpoint."""
        while not await self.read():
            pass
        for task in self.sources:
            async with task._lock:
                await task._flush(now=True)
        await self.checkpoint()
        for task in self.tasks.values():
            if task._failed is not None:
                raise AssertionError(task._failed.error.traceback)


class Effects:
    """A sink that stores an effect together with its key, as a transaction would."""

    def __init__(self) -> None:
        self.by_key: dict[str, list[dict]] = {}
        self.calls = 0

    def __call__(self, events, key):
        self.calls += 1
        known = self.by_key.setdefault(key, events)
        assert known == events, "one key came with different events"

    @property
    def events(self) -> list[dict]:
        return [event for events in self.by_key.values() for event in events]


class Updates(Effects):
    """The same, where a later event takes the place of an earlier one."""

    def in_order(self) -> list[dict]:
        """Epoch after epoch; within one, a key's events are all of one writer."""
        keys = sorted(self.by_key, key=lambda key: int(key.rpartition("/")[2]))
        return [event for key in keys for event in self.by_key[key]]
