"""Laws of the queue: bounds, order, fairness, and nobody starves."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from eksml.serving.gate.fair_queue import FairQueue, Place, State
from eksml.serving.spec import TenantSpec

NAMES = ("a", "b", "c", "d")


def tenant(name: str, weight: float = 1.0, concurrent: int | None = None) -> TenantSpec:
    digest = name.encode().hex().zfill(64)[:64]
    return TenantSpec(name=name, key_sha256=digest, weight=weight, concurrent=concurrent)


def queue_of(slots: int, places: int, share: float = 1.0) -> FairQueue:
    return FairQueue(slots, places, clock=lambda: 0.0, share=lambda: share)


def entered(queue: FairQueue, owner: TenantSpec, count: int = 1, cost: float = 1) -> list[Place]:
    places = [Place(owner, cost) for _ in range(count)]
    for place in places:
        queue.enter(place)
    return places


def served(queue: FairQueue, places: list[Place], rounds: int) -> list[Place]:
    """End one running request after another; what was started thereby, in order."""
    order: list[Place] = []
    for place in places:
        place.woken = lambda place=place: order.append(place)  # type: ignore[misc]
    for _ in range(rounds):
        running = next(place for place in places if place.state is State.RUNNING)
        queue.leave(running)
    return order


def test_requests_run_at_once_while_slots_are_free_then_wait_then_are_refused() -> None:
    places = entered(queue_of(slots=2, places=3), tenant("a"), 7)
    assert [place.state for place in places] == [State.RUNNING] * 2 + [State.WAITING] * 3 + [
        State.REFUSED
    ] * 2


def test_a_tenants_own_requests_keep_their_order() -> None:
    queue = queue_of(slots=1, places=10)
    places = entered(queue, tenant("a"), 6)
    assert served(queue, places, 5) == places[1:]


def test_a_flood_does_not_delay_a_tenant_that_asks_little() -> None:
    queue = queue_of(slots=1, places=200)
    flood = entered(queue, tenant("a"), 100)
    (little,) = entered(queue, tenant("b"))
    order = served(queue, [*flood, little], 3)
    assert little in order[:2]


def test_service_is_in_proportion_to_weights() -> None:
    queue = queue_of(slots=2, places=2000)
    heavy, light = tenant("a", weight=3), tenant("b", weight=1)
    places = [place for _ in range(400) for place in entered(queue, heavy) + entered(queue, light)]
    order = served(queue, places, 200)
    counts = Counter(place.tenant.name for place in order)
    assert abs(counts["a"] - 150) <= 3


def test_long_requests_count_for_as_much_as_they_cost() -> None:
    queue = queue_of(slots=1, places=2000)
    long, short = tenant("a"), tenant("b")
    places = entered(queue, long, 100, cost=1000) + entered(queue, short, 500, cost=100)
    order = served(queue, places, 220)
    counts = Counter(place.tenant.name for place in order)
    assert abs(counts["b"] / counts["a"] - 10) <= 1.5


def test_silence_earns_no_credit() -> None:
    queue = queue_of(slots=1, places=2000)
    busy = entered(queue, tenant("a"), 500)
    served(queue, busy, 300)
    late = entered(queue, tenant("b"), 100)
    order = served(queue, busy + late, 40)
    counts = Counter(place.tenant.name for place in order)
    assert abs(counts["a"] - counts["b"]) <= 2


def test_a_tenant_at_its_own_limit_waits_and_holds_up_nobody() -> None:
    queue = queue_of(slots=4, places=10)
    narrow = entered(queue, tenant("a", concurrent=1), 3)
    wide = entered(queue, tenant("b"), 3)
    assert [place.state for place in narrow] == [State.RUNNING, State.WAITING, State.WAITING]
    assert all(place.state is State.RUNNING for place in wide)
    queue.leave(narrow[0])
    assert narrow[1].state is State.RUNNING


def test_time_at_its_own_limit_earns_a_tenant_no_credit() -> None:
    queue = queue_of(slots=2, places=1000)
    narrow, other = tenant("a", concurrent=1), tenant("b")
    held = entered(queue, narrow, 50)
    rest = entered(queue, other, 400)
    for _ in range(200):
        queue.leave(next(place for place in rest if place.state is State.RUNNING))
    raised = entered(queue, tenant("a"), 100)  # the limit is taken away
    order = served(queue, [*held, *raised, *rest], 40)
    counts = Counter(place.tenant.name for place in order)
    assert abs(counts["a"] - counts["b"]) <= 4


def test_a_share_of_a_tenants_limit_is_at_least_one() -> None:
    queue = queue_of(slots=9, places=9, share=0.25)
    states = [place.state for place in entered(queue, tenant("a", concurrent=6), 4)]
    assert states.count(State.RUNNING) == 2
    (one,) = entered(queue_of(slots=9, places=9, share=0.01), tenant("b", concurrent=6))
    assert one.state is State.RUNNING


def test_a_full_queue_makes_room_for_who_holds_less() -> None:
    queue = queue_of(slots=1, places=4)
    flood = entered(queue, tenant("a"), 5)
    first, second, third = entered(queue, tenant("b"), 3)
    assert [first.state, second.state] == [State.WAITING] * 2
    assert third.state is State.REFUSED
    assert [place.state for place in flood[-2:]] == [State.REFUSED] * 2
    assert queue.waiting == 4


def test_who_is_turned_away_was_told() -> None:
    queue = queue_of(slots=1, places=4)
    places = entered(queue, tenant("a"), 3)
    told: list[Place] = []
    for place in places:
        place.woken = lambda place=place: told.append(place)  # type: ignore[misc]
    queue.turn_away()
    assert set(told) == set(places[1:])
    assert queue.waiting == 0
    assert places[0].state is State.RUNNING


ACTS = st.lists(
    st.tuples(st.sampled_from(["enter", "leave"]), st.integers(0, 30), st.integers(1, 50)),
    max_size=120,
)


@given(
    st.integers(1, 5),
    st.integers(0, 8),
    st.lists(st.sampled_from([None, 1, 2]), min_size=4, max_size=4),
    ACTS,
)
@settings(max_examples=200, deadline=None)
def test_bounds_hold_and_no_slot_is_idle_while_somebody_may_run(
    slots: int, most: int, limits: list[int | None], acts: list[tuple[str, int, int]]
) -> None:
    queue = queue_of(slots, most)
    owners = [tenant(name, at + 1, limits[at]) for at, name in enumerate(NAMES)]
    live: list[Place] = []
    for act, which, cost in acts:
        if act == "enter":
            place = Place(owners[which % 4], cost)
            queue.enter(place)
            live.append(place)
        elif live:
            queue.leave(live.pop(which % len(live)))
        running = Counter(place.tenant.name for place in live if place.state is State.RUNNING)
        waiting = [place for place in live if place.state is State.WAITING]
        assert queue.running == running.total() <= slots
        assert queue.waiting == len(waiting) <= most
        for place in waiting:
            blocked = place.tenant.concurrent == running[place.tenant.name]
            assert running.total() == slots or blocked
        for owner in owners:
            assert owner.concurrent is None or running[owner.name] <= owner.concurrent


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 20)), min_size=40, max_size=150),
)
@settings(max_examples=40, deadline=None)
def test_two_tenants_that_wait_are_served_by_weight_up_to_one_request_each(
    weights: list[int], arrivals: list[tuple[int, int]]
) -> None:
    queue = queue_of(1, 1000)
    owners = [tenant(NAMES[at], weight) for at, weight in enumerate(weights)]
    places = [
        place
        for which, cost in arrivals
        for place in entered(queue, owners[which % len(owners)], cost=cost)
    ]
    got: Counter[str] = Counter({places[0].tenant.name: places[0].cost})  # type: ignore[dict-item]
    for place in places[1:]:
        place.woken = lambda place=place: got.update({place.tenant.name: place.cost})  # type: ignore
    while all(queue.waiting_of(owner.name) for owner in owners):
        queue.leave(next(place for place in places if place.state is State.RUNNING))
        shares = [got[owner.name] / owner.weight for owner in owners]
        one_request = sorted(20 / owner.weight for owner in owners)
        assert max(shares) - min(shares) <= one_request[-1] + one_request[-2]


@given(st.integers(1, 4), st.lists(st.integers(0, 3), min_size=1, max_size=80))
@settings(max_examples=100, deadline=None)
def test_everybody_who_waits_is_started_in_the_end(slots: int, arrivals: list[int]) -> None:
    queue = queue_of(slots, 100)
    owners = [tenant(name, at + 1, 1 + at % 2) for at, name in enumerate(NAMES)]
    places = [place for which in arrivals for place in entered(queue, owners[which])]
    for _ in places:
        queue.leave(next(place for place in places if place.state is State.RUNNING))
    assert all(place.state is State.OVER for place in places)
    assert queue.running == queue.waiting == 0
