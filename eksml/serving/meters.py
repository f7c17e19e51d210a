"""What is counted of every request: the protocol that the gate calls, and who counts nothing."""

from __future__ import annotations

from typing import Protocol

from eksml.observe.access_log import Access


class Meters(Protocol):
    """Told of every request, either that it was ``refused``, or that it ``request_started`` and,
    once and with the same tenant and model, that it ``request_ended``; between the two ``waiting``
    and ``waited``, if it had to wait.

    Called in the event loop of the replica, between two requests' bytes: an implementation must
    neither block nor raise. ``tenant`` is a configured name, or empty where there are no tenants or
    the key was wrong; ``model`` a served name, or empty where the request named none of ours;
    ``route`` a path of the allowlist, or empty. So the number of series is bounded by the
    configuration and not by what strangers send.
    """

    def request_started(self, tenant: str, model: str, route: str) -> None:
        """A request was let in."""

    def waiting(self, tenant: str, length: int) -> None:
        """So many requests of the tenant wait for a slot now."""

    def waited(self, tenant: str, seconds: float) -> None:
        """A request has its slot, after so long."""

    def request_ended(self, access: Access) -> None:
        """A request that had been started is over."""

    def refused(self, access: Access) -> None:
        """A request was turned away, and was never started; ``access.error`` says why."""


class NoMeters(Meters):
    """Counts nothing."""
