"""Counts requests as operators want to see them: by model, version and tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from eksml.observe import metrics
from eksml.observe.access_log import Access, AccessLog
from eksml.serving.instruments import Instruments, RayAgents, own_page
from eksml.serving.trace import tell_span

MOST_NAMES = 200
"""So many names of one kind (tenants, models, reasons) get series of their own; later ones are
counted together as :data:`OTHERS`. A tenant costs about 75 series a replica."""
OTHERS = "others"


class RequestMeters:
    """Meters that write what they are told to instruments.

    Args:
        model: The name of the replica's model, for requests that name none.
        version: What distinguishes this replica's model or configuration from its successor's.
        replica: A name that no other replica has: Ray Serve's for it; None: it stands before them.
        instruments: Where the numbers go, to each of them.
        listeners: Told of each request that ended or was refused.
    """

    def __init__(
        self,
        model: str,
        version: str,
        replica: str | None,
        instruments: Sequence[Instruments],
        listeners: Sequence[Callable[[Access], None]] = (),
    ) -> None:
        self._model = model
        self._version = version
        self._instruments = tuple(instruments)
        self._listeners = tuple(listeners)
        self._running: Counter[tuple[str, str]] = Counter()
        self._known: dict[str, set[str]] = {"tenant": set(), "model": set(), "code": set()}
        if replica is not None:
            self._record(metrics.REPLICA, (model, version, replica), 1)

    def request_started(self, tenant: str, model: str, route: str) -> None:
        """One more runs."""
        self._count_running(tenant, model, 1)

    def waiting(self, tenant: str, length: int) -> None:
        """So many wait."""
        self._record(metrics.WAITING, self._labels(tenant, ""), length)

    def waited(self, tenant: str, seconds: float) -> None:
        """One has waited so long."""
        self._record(metrics.WAIT, self._labels(tenant, ""), seconds)

    def request_ended(self, access: Access) -> None:
        """One fewer runs; its times and tokens."""
        self._count_running(access.tenant, access.model, -1)
        labels = self._labels(access.tenant, access.model)
        status, error = access.status, access.error
        self._record(metrics.REQUESTS, (*labels, access.route, str(status)), 1)
        self._record(metrics.REQUEST_TIME, labels, access.seconds)
        if status >= 500 or (error and status < 400):
            code = self._bounded("code", error or str(status))
            self._record(metrics.ERRORS, (*labels, code), 1)
        self._record_tokens(labels, access)
        self._tell(access)

    def refused(self, access: Access) -> None:
        """One was turned away."""
        labels = self._labels(access.tenant, access.model)
        self._record(metrics.REFUSED, (*labels, self._bounded("code", access.error)), 1)
        self._tell(access)

    def _record_tokens(self, labels: tuple[str, ...], access: Access) -> None:
        if access.ttft_s is not None:
            self._record(metrics.TTFT, labels, access.ttft_s)
            if access.tokens_out is not None and access.tokens_out > 1:
                between_s = (access.seconds - access.ttft_s) / (access.tokens_out - 1)
                self._record(metrics.TOKEN_TIME, labels, between_s)
        if access.tokens_in:
            self._record(metrics.TOKENS_IN, labels, access.tokens_in)
        if access.tokens_out:
            self._record(metrics.TOKENS_OUT, labels, access.tokens_out)

    def _tell(self, access: Access) -> None:
        for listener in self._listeners:
            listener(access)

    def _count_running(self, tenant: str, model: str, change: int) -> None:
        labels = self._labels(tenant, model)
        of = (labels[0], labels[2])
        self._running[of] += change
        self._record(metrics.RUNNING, labels, self._running[of])

    def _labels(self, tenant: str, model: str) -> tuple[str, ...]:
        name = self._bounded("model", model or self._model)
        return name, self._version, self._bounded("tenant", tenant)

    def _bounded(self, kind: str, name: str) -> str:
        known = self._known[kind]
        if name in known:
            return name
        if len(known) >= MOST_NAMES:
            return OTHERS
        known.add(name)
        return name

    def _record(self, metric: metrics.Metric, labels: tuple[str, ...], value: float) -> None:
        for instruments in self._instruments:
            instruments.record(metric, labels, value)


def meters_of_replica(model: str, version: str, replica: str) -> RequestMeters:
    """What a replica counts with: on its own page and for Ray's agents, with an access log on the
    standard output, and with the facts on each request's span. Call it once a process."""
    instruments = (own_page(), RayAgents())
    return RequestMeters(model, version, replica, instruments, (AccessLog().tell, tell_span))


def meters_of_gateway() -> RequestMeters:
    """The same for a gateway, of the requests that end there: those that it passes on are counted
    by the model's replica, so that each request is counted once."""
    instruments = (own_page(), RayAgents())
    return RequestMeters("gateway", "", None, instruments, (AccessLog().tell,))
