"""How ranks tell each other small things from background threads, outside the training's own
collectives: a torch ``TCPStore`` on the first rank."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from eksml.errors import CheckpointError

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]


_SERVERS: list[Any] = []
"""Of this process, kept until it ends: a slow rank may ask after the first one has returned."""


class Rendezvous:
    """Mailboxes of one incarnation of the workers. One rank alone needs no server."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank = rank
        self.world = world
        self._store = _connect(rank, world) if world > 1 else None

    def gather(self, topic: str, value: Any, timeout_s: float) -> list[Any] | None:
        """Give the first rank every rank's ``value`` (JSON), by rank; the others get None.

        Raises:
            CheckpointError: A rank did not answer within ``timeout_s``.
        """
        if self._store is None:
            return [value]
        if self.rank > 0:
            self._store.set(f"{topic}/{self.rank}", json.dumps(value))
            return None
        keys = [f"{topic}/{rank}" for rank in range(1, self.world)]
        others = [self._get(key, timeout_s) for key in keys]
        for key in keys:
            self._store.delete_key(key)
        return [value, *others]

    def broadcast(self, topic: str, value: Any, timeout_s: float) -> Any:
        """Give every rank the first rank's ``value`` (JSON).

        Raises:
            CheckpointError: The first rank did not answer within ``timeout_s``.
        """
        if self._store is None:
            return value
        if self.rank == 0:
            self._store.set(topic, json.dumps(value))
            return value
        return self._get(topic, timeout_s)

    def _get(self, key: str, timeout_s: float) -> Any:
        from torch.distributed import DistError

        assert self._store is not None
        try:
            self._store.wait([key], timedelta(seconds=timeout_s))
            return json.loads(self._store.get(key))
        except (DistError, RuntimeError) as error:
            raise CheckpointError(f"A rank did not send {key} in {timeout_s:.0f} s.") from error


def _connect(rank: int, world: int) -> TCPStore:
    """Open the store; its address travels by a collective of Ray Train, once."""
    import ray.util
    from ray.train.collective import broadcast_from_rank_zero
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = None
    address: tuple[str, int] | None = None
    if rank == 0:
        host = ray.util.get_node_ip_address()
        store = TCPStore(host, 0, world, is_master=True, wait_for_workers=False)
        _SERVERS.append(store)
        address = (host, store.port)
    host, port = broadcast_from_rank_zero(address)
    return store or TCPStore(host, port, world, is_master=False, wait_for_workers=False)
