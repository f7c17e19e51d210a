"""What replicas know together: their number, and requests that kill."""

from __future__ import annotations

import asyncio
import time

import pytest

from eksml.errors import Damaged
from eksml.serving.commons import SILENT_S, Common, Commons
from eksml.serving.gate.suspects import Suspects, digest_of

POISON = digest_of("/v1/completions", b"poison")


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def suspects(clock: Clock, *running: str) -> Suspects:
    made = Suspects(clock)
    for digest in running:
        made.begin(digest)
    return made


def test_each_replica_is_told_how_many_they_are(clock: Clock) -> None:
    common = Common(clock)
    assert common.tell("a", suspects(clock).to_json())["replicas"] == 1
    assert common.tell("b", suspects(clock).to_json())["replicas"] == 2
    common.leave("a")
    assert common.tell("b", suspects(clock).to_json())["replicas"] == 1


def test_what_killed_one_engine_is_known_to_the_others(clock: Clock) -> None:
    common, first, second = Common(clock), suspects(clock, POISON), suspects(clock)
    first.end(POISON, well=False, died=True)
    common.tell("a", first.to_json())
    second.merge(common.tell("b", second.to_json())["suspects"])
    assert second.num_victims(POISON) == 1


def test_what_a_replica_ran_that_fell_silent_is_suspected(clock: Clock) -> None:
    common, second = Common(clock), suspects(clock)
    common.tell("a", suspects(clock, POISON).to_json())
    second.merge(common.tell("b", second.to_json())["suspects"])
    assert not second.suspected(POISON)
    clock.now_s += SILENT_S + 1
    second.merge(common.tell("b", second.to_json())["suspects"])
    assert second.num_victims(POISON) == 1


def test_what_a_replica_ran_that_left_is_not(clock: Clock) -> None:
    common, second = Common(clock), suspects(clock)
    common.tell("a", suspects(clock, POISON).to_json())
    common.leave("a")
    clock.now_s += SILENT_S + 1
    second.merge(common.tell("b", second.to_json())["suspects"])
    assert not second.suspected(POISON)


def test_what_is_no_list_of_suspects_is_not_taken(clock: Clock) -> None:
    common = Common(clock)
    with pytest.raises(Damaged):
        common.tell("a", {"victims": []})
    assert common.tell("b", suspects(clock).to_json())["replicas"] == 1


def test_replicas_meet_in_an_actor_that_is_started_by_the_first(embedded_ray: None) -> None:
    import ray

    first, second = Suspects(Clock()), Suspects(Clock())
    mine, yours = Commons("meet", "a", first), Commons("meet", "b", second)
    first.begin(POISON)
    first.end(POISON, well=False, died=True)

    async def meet() -> None:
        await mine.tell()
        await yours.tell()
        await mine.tell()

    asyncio.run(meet())
    assert (mine.share(), yours.share()) == (0.5, 0.5)
    assert second.num_victims(POISON) == 1
    ray.kill(ray.get_actor("eksml-serving-meet", namespace="eksml"))


def test_what_an_engine_died_of_is_known_to_all_once_it_was_mourned(embedded_ray: None) -> None:
    import ray

    first, second = Suspects(time.time), Suspects(time.time)
    mine, yours = Commons("mourn", "a", first), Commons("mourn", "b", second)
    first.begin(POISON)

    async def die() -> int:
        keeping = [asyncio.ensure_future(each.keep()) for each in (mine, yours)]
        await asyncio.sleep(0.5)
        mourning = [asyncio.ensure_future(mine.mourn()) for _ in range(3)]
        first.end(POISON, well=False, died=True)
        await asyncio.gather(*mourning)
        for task in keeping:
            task.cancel()
        return second.num_victims(POISON)

    assert asyncio.run(die()) == 1
    ray.kill(ray.get_actor("eksml-serving-mourn", namespace="eksml"))
