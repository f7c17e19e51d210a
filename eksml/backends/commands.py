"""Orders to a keeper: one JSON line each way over a socket that only its owner can reach."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eksml.errors import ClusterError, ClusterNotUp

_TIMEOUT_S = 20


def socket_path(temp: str | Path) -> Path:
    """Where the keeper of the cluster with this temporary folder listens."""
    return Path(temp) / "keeper.sock"


def send(temp: str, order: str, **arguments: Any) -> None:
    """Give an order and wait until the keeper has taken it.

    Raises:
        ClusterNotUp: no keeper listens.
        ClusterError: the keeper refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_TIMEOUT_S)
            line.connect(str(socket_path(temp)))
            line.sendall(json.dumps({"order": order, **arguments}).encode() + b"\n")
            answer = json.loads(_read_line(line))
    except (OSError, ValueError) as error:
        raise ClusterNotUp(f"The cluster's keeper does not answer ({error}).") from error
    if refusal := answer.get("refused"):
        raise ClusterError(refusal)


class Desk:
    """The keeper's side: takes one order at a time."""

    def __init__(self, temp: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(socket_path(temp)))
        self._listener.listen(16)

    def serve(self, wait_s: float, carry_out: Callable[[dict[str, Any]], str]) -> None:
        """Wait up to ``wait_s`` for an order; ``carry_out`` gives "" or why it refuses."""
        self._listener.settimeout(wait_s)
        try:
            line, _ = self._listener.accept()
        except TimeoutError:
            return
        with line:
            line.settimeout(2)
            try:
                refusal = carry_out(dict(json.loads(_read_line(line))))
                line.sendall(json.dumps({"refused": refusal}).encode() + b"\n")
            except (OSError, ValueError, LookupError, TypeError):
                return  # the client is gone, or is none of ours; nothing was promised

    def close(self) -> None:
        """Take no more orders."""
        self._listener.close()


def _read_line(line: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        chunk = line.recv(65_536)
        if not chunk:
            raise ValueError("the line ended early")
        received += chunk
    return received
