"""Ray Data does the blocks: an actor pool that grows and shrinks, and brings back killed workers.

It runs in an actor of its own, so that its settings stay out of the caller's process, and so that
ending that actor ends everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eksml.batches.plan import Sizes
from eksml.batches.worker import Assignment, Task, Worker

INIT_DEATHS = 5
"""Workers in a row that may die while they load the model."""


@dataclass(frozen=True)
class Pool:
    """How Ray Data is to run the workers."""

    sizes: Sizes

    def remote_args(self) -> dict[str, Any]:
        """Ray's arguments for one worker."""
        given = dict(self.sizes.resources)
        found: dict[str, Any] = {"num_cpus": given.pop("CPU", 0)}
        if gpus := given.pop("GPU", 0):
            found["num_gpus"] = gpus
        if memory := given.pop("memory", 0):
            found["memory"] = memory
        if given:
            found["resources"] = given
        return found

    def strategy(self, blocks: int) -> Any:
        """The pool: from the least to the most workers, as the blocks that wait for one ask."""
        from ray.data import ActorPoolStrategy

        least, most = self.sizes.workers
        calls = max(1, min(self.sizes.blocks_in_flight, -(-blocks // least)))
        return ActorPoolStrategy(
            min_size=least,
            max_size=max(least, min(most, blocks)),
            max_concurrent_calls_per_actor=calls,
            # Fewer than twice as many, and Ray Data never sees a need for another worker
            max_tasks_in_flight_per_actor=2 * calls,
            enable_true_multi_threading=True,
        )


def start(assignment: Assignment, sizes: Sizes, tasks: list[Task]) -> tuple[Any, Any]:
    """Begin to do the tasks.

    Returns:
        The actor, and a generator of references to texts of ``Told``, in the order of their
        completion. Ending the actor (``ray.kill``) ends all of it.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Beside its driver: on a spot node it would be one more thing to lose
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor_class: Any = ray.remote(_Pipeline)
    actor = actor_class.options(num_cpus=0, scheduling_strategy=here).remote()
    run = actor.run.options(num_returns="streaming")
    return actor, run.remote(assignment, Pool(sizes), [task.to_text() for task in tasks])


class _Pipeline:
    def run(self, assignment: Assignment, pool: Pool, tasks: list[str]) -> Iterator[str]:
        """Do the tasks, and tell of each that is done."""
        import ray.data

        _settings()
        dataset = ray.data.from_items(
            [{"task": task} for task in tasks], override_num_blocks=len(tasks)
        ).map_batches(
            Worker,
            fn_constructor_args=(assignment,),
            batch_size=None,
            compute=pool.strategy(len(tasks)),
            **pool.remote_args(),
        )
        for row in dataset.iter_rows():
            yield row["done"]


def _settings() -> None:
    import logging

    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.verbose_stats_logs = False
    # Waiting for a GPU node to boot is no failure, nor is a block that takes hours
    context.execution_no_progress_timeout_s = -1
    # A killed worker is started again, and its blocks go to another, as often as it takes: tries.py
    # ends what cannot end well. One that is killed while it loads its model is replaced some times;
    # where the model cannot be loaded, the driver sees that and ends it all
    context.actor_init_retry_on_errors = False
    context.max_consecutive_actor_init_deaths = INIT_DEATHS
    logging.getLogger("ray.data").setLevel(logging.ERROR)
