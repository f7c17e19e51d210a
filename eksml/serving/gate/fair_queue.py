"""Who is computed next: a bounded queue in which each tenant gets its share, whatever others send.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): each tenant has a clock of its own that runs
on by cost / weight with every request it starts, and the tenant whose clock shows least is next. A
tenant that comes back finds its clock set to the queue's, so that silence earns no credit. Within a
tenant the order is that of arrival.

When the queue is full, who has more than its share of the places gives up its newest for whoever
has less: so a flood can't keep others out of the queue either.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from eksml.serving.spec import TenantSpec

_SMOOTHING = 0.1
_LONGEST_RETRY_S = 60


class State(Enum):
    """Where a request stands."""

    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    REFUSED = "refused"
    """There is no room, or it had to give up its place."""
    OVER = "over"


@dataclass(eq=False, slots=True)
class Place:
    """One request's. ``woken`` is called when one that waits runs or is refused; it must not raise
    and not enter or leave the queue."""

    tenant: TenantSpec
    cost: float
    """In any unit that is the same for all, above zero."""
    woken: Callable[[], None] = lambda: None
    state: State = State.NEW
    began_s: float = 0.0


@dataclass(slots=True)
class _Lane:
    """One tenant's."""

    tenant: TenantSpec
    clock: float = 0.0
    running: int = 0
    waiting: deque[Place] = field(default_factory=deque)

    def may_start(self, share: float) -> bool:
        most = self.tenant.concurrent
        return most is None or self.running < max(math.ceil(most * share), 1)


class FairQueue:
    """Slots, and a bounded number of places to wait for one.

    Guarantees: never more than ``slots`` run or ``places`` wait; no slot is free while a request
    waits that may run; two tenants that both have requests waiting get service in proportion to
    their weights, but for one request each; of those that wait every one is started after finitely
    many others. A tenant at its own limit (``concurrent``) waits without holding up anybody.

    Args:
        slots: Requests that are computed at once.
        places: Requests that may wait.
        clock: Seconds; only to guess when a place will be free.
        share: This replica's part of each tenant's ``concurrent``.
    """

    def __init__(
        self,
        slots: int,
        places: int,
        clock: Callable[[], float],
        share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._slots = slots
        self._places = places
        self._clock = clock
        self._share = share
        self._lanes: dict[str, _Lane] = {}
        self._time = 0.0
        self._mean_s = 1.0
        self.running = 0
        self.waiting = 0

    def enter(self, place: Place) -> None:
        """Give a new request a slot, a place to wait or neither, as its ``state`` says at once."""
        lane = self._lane(place.tenant)
        if not lane.waiting and self.running < self._slots and lane.may_start(self._share()):
            lane.clock = max(lane.clock, self._time)
            self._start(lane, place)
        elif self.waiting < self._places or self._make_room(lane):
            self._wait(lane, place)
        else:
            place.state = State.REFUSED

    def leave(self, place: Place) -> None:
        """A request is over or gives up; whoever is next starts. Twice is fine."""
        lane = self._lanes[place.tenant.name]
        if place.state is State.WAITING:
            lane.waiting.remove(place)
            self.waiting -= 1
        elif place.state is State.RUNNING:
            self._measure(self._clock() - place.began_s)
            held = not lane.may_start(self._share())
            lane.running -= 1
            self.running -= 1
            if held:  # time in which it could not have started earns no credit either
                lane.clock = max(lane.clock, self._time)
        place.state = State.OVER
        self._fill()

    def waiting_of(self, tenant: str) -> int:
        """Requests of the tenant that wait."""
        lane = self._lanes.get(tenant)
        return len(lane.waiting) if lane else 0

    def turn_away(self) -> None:
        """Refuse all that wait: nothing here will be able to run for long."""
        for lane in self._lanes.values():
            while lane.waiting:
                self._refuse_newest(lane)

    def retry_after_s(self) -> int:
        """When there may be room: when those before would be through, at the pace of late."""
        rounds = (self.waiting + 1) / max(self._slots, 1)
        return min(max(math.ceil(rounds * self._mean_s), 1), _LONGEST_RETRY_S)

    def _lane(self, tenant: TenantSpec) -> _Lane:
        lane = self._lanes.get(tenant.name)
        if lane is None:
            lane = self._lanes[tenant.name] = _Lane(tenant, self._time)
        if lane.tenant is not tenant:  # its file was read again
            if not lane.may_start(self._share()):
                lane.clock = max(lane.clock, self._time)
            lane.tenant = tenant
        return lane

    def _wait(self, lane: _Lane, place: Place) -> None:
        if not lane.waiting:
            lane.clock = max(lane.clock, self._time)
        lane.waiting.append(place)
        self.waiting += 1
        place.state = State.WAITING
        self._fill()  # a tenant's limit may have been raised meanwhile

    def _start(self, lane: _Lane, place: Place) -> None:
        self._time = max(self._time, lane.clock)
        lane.clock += place.cost / lane.tenant.weight
        lane.running += 1
        self.running += 1
        place.state = State.RUNNING
        place.began_s = self._clock()

    def _fill(self) -> None:
        share = self._share()
        while self.waiting and self.running < self._slots:
            able = [lane for lane in self._lanes.values() if lane.waiting and lane.may_start(share)]
            if not able:
                return
            lane = min(able, key=lambda lane: lane.clock)
            place = lane.waiting.popleft()
            self.waiting -= 1
            self._start(lane, place)
            place.woken()

    def _make_room(self, comer: _Lane) -> bool:
        """Whether somebody gave up a place: who holds most for its weight, if even with one more
        the comer holds less."""
        holding = [lane for lane in self._lanes.values() if lane.waiting]
        if not holding:
            return False
        greediest = max(holding, key=lambda lane: len(lane.waiting) / lane.tenant.weight)
        most = len(greediest.waiting) / greediest.tenant.weight
        if most <= (len(comer.waiting) + 1) / comer.tenant.weight:
            return False
        self._refuse_newest(greediest)
        return True

    def _refuse_newest(self, lane: _Lane) -> None:
        place = lane.waiting.pop()
        self.waiting -= 1
        place.state = State.REFUSED
        place.woken()

    def _measure(self, seconds: float) -> None:
        self._mean_s += _SMOOTHING * (seconds - self._mean_s)
