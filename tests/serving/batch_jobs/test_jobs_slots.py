"""How many rows may run beside online requests."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from eksml.serving.batch_jobs.quota import RECENT_S, Quota
from eksml.serving.batch_jobs.slots import Slots
from eksml.serving.step_times import Leeway

ANY = Leeway(100, 0.0)
"""Of an engine whose steps take equally long whatever is in them."""
NONE = Leeway(0, 0.0)


def quota_after(*seen: tuple[float, int], leeway: Leeway = ANY) -> Quota:
    quota = Quota()
    for now_s, idle in seen:
        quota.observe(idle, leeway, now_s)
    return quota


def test_an_engine_without_online_requests_keeps_one_slot_free() -> None:
    assert quota_after((0.0, 8)).room == 7


def test_an_engine_of_one_slot_is_used_all_the_same() -> None:
    assert quota_after((0.0, 1)).room == 1


def test_online_requests_keep_their_slots_for_a_while() -> None:
    seen = [(0.0, 8), (1.0, 3), (2.0, 8)]
    assert quota_after(*seen).room == 2
    assert quota_after(*seen, (1.0 + RECENT_S + 0.1, 8)).room == 7


def test_an_engine_that_cannot_answer_has_no_room() -> None:
    quota = quota_after((0.0, 8), (1.0, 0))
    assert (quota.room, quota.excess(5)) == (0, 5)


def test_a_silent_engine_is_filled_whatever_its_steps_take() -> None:
    quota = quota_after((0.0, 8), leeway=NONE)
    assert (quota.room, quota.excess(7)) == (7, 0)


def test_from_the_first_online_request_on_rows_are_as_many_as_it_does_not_feel() -> None:
    for seen in ([(0.0, 8), (1.0, 7)], [(0.0, 8), (1.0, 7), (2.0, 8)]):
        assert quota_after(*seen, leeway=Leeway(3, 0.0)).room == 3
        assert quota_after(*seen, leeway=NONE).room == 0
    assert quota_after((0.0, 8), (1.0, 7), (1.1 + RECENT_S, 8), leeway=NONE).room == 7


def test_what_exceeds_twice_the_leeway_is_withdrawn_but_for_one_row() -> None:
    seen = [(0.0, 64), (1.0, 63)]
    assert quota_after(*seen, leeway=Leeway(10, 0.0)).excess(60) == 40
    assert quota_after(*seen, leeway=Leeway(10, 0.0)).excess(20) == 0
    assert quota_after(*seen, leeway=NONE).excess(60) == 59
    assert quota_after(*seen, leeway=NONE).excess(1) == 0


def test_rows_begin_at_a_pace_while_the_engine_is_shared() -> None:
    paced = Leeway(5, 0.5)
    quota = quota_after((0.0, 8), leeway=paced)
    quota.started(0.0)
    assert quota.may_start(0, 0.0)
    quota.observe(6, paced, 1.0)
    quota.started(1.0)
    assert not quota.may_start(0, 1.4)
    assert quota.may_start(0, 1.5)


@given(st.lists(st.tuples(st.floats(0.001, 3.0), st.integers(-2, 20)), min_size=1))
def test_room_is_the_least_of_late_and_never_more_than_is_idle_now(
    steps: list[tuple[float, int]],
) -> None:
    quota, now_s, seen = Quota(), 0.0, []
    for step, idle in steps:
        now_s += step
        quota.observe(idle, ANY, now_s)
        seen.append((now_s, max(0, idle)))
        least = min(idle for at, idle in seen if at >= now_s - RECENT_S)
        assert quota.room in (least, least - 1, 0)
        assert quota.room + quota.excess(quota.room) <= max(quota.room, seen[-1][1])
        assert quota.excess(quota.room) == 0


def test_the_youngest_row_gives_way_and_is_done_again() -> None:
    idle, begun = 4, list[str]()
    finish = asyncio.Event()

    async def work(name: str) -> str:
        begun.append(name)
        await finish.wait()
        return name

    async def row(slots: Slots, name: str) -> str:
        slot = await slots.take()
        return await slot.run(lambda: work(name))

    async def scene() -> tuple[Any, Slots]:
        nonlocal idle
        slots = Slots(lambda: idle, lambda: ANY)
        watch = asyncio.create_task(slots.watch())
        rows = [asyncio.create_task(row(slots, name)) for name in "abc"]
        while len(begun) < 3:
            await asyncio.sleep(0.001)
        idle = 2  # two online requests have come
        while slots.in_flight > 2:
            await asyncio.sleep(0.001)
        assert begun == ["a", "b", "c"]
        finish.set()
        done = await asyncio.gather(*rows)
        watch.cancel()
        return done, slots

    done, slots = asyncio.run(scene())
    assert done == ["a", "b", "c"]
    assert begun == ["a", "b", "c", "c"]
    assert (slots.in_flight, slots.withdrawn) == (0, 1)


def test_a_row_that_is_cancelled_leaves_no_slot_taken() -> None:
    async def scene() -> int:
        slots = Slots(lambda: 4, lambda: ANY)
        watch = asyncio.create_task(slots.watch())

        async def row() -> None:
            slot = await slots.take()
            await slot.run(lambda: asyncio.sleep(3600))

        rows = [asyncio.create_task(row()) for _ in range(9)]
        while slots.in_flight < 3:
            await asyncio.sleep(0.001)
        for task in rows:
            task.cancel()
        await asyncio.wait(rows)
        watch.cancel()
        return slots.in_flight

    assert asyncio.run(scene()) == 0
