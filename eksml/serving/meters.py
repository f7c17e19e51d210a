"""What is counted of every request: the protocol that the gate calls, and who counts nothing."""

from __future__ import annotations

from typing import Protocol


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

    def request_ended(
        self,
        tenant: str,
        model: str,
        route: str,
        status: int,
        seconds: float,
        ttft_s: float | None = None,
        tokens_in: int | None = None,
        tokens_out: int | None = None,
        *,
        request_id: str = "",
        error: str = "",
        prompt: str | None = None,
    ) -> None:
        """A request that had been started is over.

        Args:
            tenant: Whose it was.
            model: Which model it asked.
            route: The path.
            status: The status that was sent; 499 if the client went away before the end.
            seconds: From the request's arrival to its last byte.
            ttft_s: From its arrival to the first byte of a streamed answer's body, else None.
            tokens_in: Tokens of the prompt, None if the answer did not say.
            tokens_out: Tokens of the answer, likewise.
            request_id: What the client was told in ``x-request-id``.
            error: The ``code`` of the error that was sent, in a stream too; empty if there is none.
            prompt: The request's body, given only where prompts are to be logged.
        """

    def refused(
        self,
        tenant: str,
        reason: str,
        *,
        status: int = 0,
        model: str = "",
        route: str = "",
        seconds: float = 0.0,
        request_id: str = "",
    ) -> None:
        """A request was turned away, and was never started; ``reason`` is the error's ``code``."""


class NoMeters(Meters):
    """Counts nothing."""
