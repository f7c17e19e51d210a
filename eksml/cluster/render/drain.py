"""A worker that is to go tells Ray first, so that its work moves while there is time."""

from __future__ import annotations

from typing import Any

_MARGIN_S = 30
"""Between the end of the drain and the kill: for the command to start, and for Ray to stop."""
_CONNECT_S = 20
"""After which the head does not answer, and there is nobody to tell."""

_SCRIPT = (
    "timeout {connect} ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION"
    " --reason-message 'The pod is being deleted.' --deadline-remaining-seconds {notice}"
    " && for s in $(seq {notice}); do pgrep -x raylet > /dev/null || break; sleep 1; done"
)


def drain_hook(notice_s: int) -> dict[str, Any]:
    """The container's ``lifecycle``: before it is stopped, drain the Ray node and wait for that.

    Ray sees a preemption: Serve moves replicas, Train is told, no new task comes, and those that
    run may finish. The raylet ends by itself once nothing runs on it; after ``notice_s`` seconds
    the pod goes in any case. A deletion of the whole cluster is not held up: without a head there
    is nobody to tell. The node is the pod's own, found by its one raylet.
    """
    script = _SCRIPT.format(notice=notice_s, connect=_CONNECT_S)
    return {"preStop": {"exec": {"command": ["bash", "-c", script]}}}


def drain_env(notice_s: int) -> dict[str, str]:
    """Environment by which Ray drains on SIGTERM too, where the hook could not run or failed."""
    return {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(notice_s)}


def grace_s(notice_s: int) -> int:
    """The pod's ``terminationGracePeriodSeconds``: longer than the drain takes."""
    return notice_s + _MARGIN_S
