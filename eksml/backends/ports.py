"""Free ports of this machine."""

from __future__ import annotations

import random
import socket
import time

_BELOW_EPHEMERAL = range(20_000, 32_000)
"""Outgoing connections take their ports from 32,768 up: a port found free here stays free."""


def free_ports(count: int) -> list[int]:
    """That many different ports which nobody listens on now."""
    found: list[int] = []
    # A new generator: a seeded one would hand the same ports to clusters that start together.
    for port in random.SystemRandom().sample(_BELOW_EPHEMERAL, len(_BELOW_EPHEMERAL)):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    return found


def is_free_within(port: int, patience_s: float) -> bool:
    """Whether it is free by then: a process that was killed may hold its ports a moment longer."""
    end_s = time.monotonic() + patience_s
    while not is_free(port):
        if time.monotonic() > end_s:
            return False
        time.sleep(0.05)
    return True


def is_free(port: int) -> bool:
    """Whether nobody listens on it. Connections that are only just over do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True
