"""Inside a pod: what it printed, and commands in it."""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.objects import Object, Ref
from eksml.errors import ClusterError, ClusterNotUp

_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE = range(5)
"""Channels of Kubernetes' exec protocol, v4.channel.k8s.io."""
_TICK_S = 0.2


@dataclass(frozen=True)
class Executed:
    """How a command in a pod ended."""

    exit_code: int
    stdout: str
    stderr: str


def container_of(pod: Object) -> str:
    """Ray's container: the operator says that it is the first."""
    return str(pod["spec"]["containers"][0]["name"])


def ref_of(pod: Object) -> Ref:
    """The reference of a pod."""
    return Ref("v1", "Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])


def log(client: KubeClient, pod: Object, *, lines: int, previous: bool = False) -> str:
    """The last lines of Ray's container; with ``previous``, of the one before a restart."""
    query = {"container": container_of(pod), "tailLines": str(lines)}
    if previous:
        query["previous"] = "true"
    return client.log(ref_of(pod), query)


def follow_log(client: KubeClient, pod: Object, *, lines: int) -> Iterator[str]:
    """The last lines of Ray's container, and then each new one, until the container ends.

    Raises:
        ClusterError: the API server refuses, or the stream breaks.
    """
    from urllib3.exceptions import HTTPError

    ref = ref_of(pod)
    query = {"container": container_of(pod), "tailLines": str(lines), "follow": "true"}
    response = client.open(f"{client.path(ref)}/log", query, ref, read_s=None)
    rest = b""
    try:
        for chunk in response.stream():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
        if rest:
            yield rest.decode(errors="replace")
    except (HTTPError, OSError) as error:
        raise ClusterNotUp(f"The log of {ref} broke off ({error}). Ask for it again.") from error
    finally:
        response.close()


def execute(client: KubeClient, pod: Object, command: Sequence[str], timeout_s: float) -> Executed:
    """Run a command in Ray's container and wait for its end.

    Raises:
        ClusterError: it could not be started, or did not end in ``timeout_s`` seconds. Then it
            runs on: Kubernetes has no way to end it.
    """
    line = _open(client, pod, command, tty=False)
    try:
        line.run_forever(timeout=timeout_s)
        if line.is_open():
            told = f"{' '.join(command)!r} in {ref_of(pod)} has not ended in {timeout_s:g} s"
            raise ClusterError(f"{told}, and runs on there.")
        stdout, stderr = (line.read_channel(channel) for channel in (_STDOUT, _STDERR))
        return Executed(_exit_code(line, pod), _text(stdout), _text(stderr))
    finally:
        line.close()


def interact(client: KubeClient, pod: Object, command: Sequence[str]) -> int:
    """Run a command in Ray's container at this terminal; returns its exit code.

    Raises:
        ClusterError: stdin is no terminal, or the command could not be started.
    """
    if not sys.stdin.isatty():
        raise ClusterError("A session wants a terminal; to run one command, give it.")
    import termios
    import tty

    line = _open(client, pod, command, tty=True)
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setraw(keyboard)
        _converse(line, keyboard)
        return _exit_code(line, pod)
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        line.close()


def _converse(line: Any, keyboard: int) -> None:
    """Keys there, letters here, and the window's size whenever it changes."""
    size = None
    while line.is_open():
        if (now := shutil.get_terminal_size()) != size:
            size = now
            sizes = json.dumps({"Width": now.columns, "Height": now.lines})
            line.write_channel(_RESIZE, sizes)
        readable, _, _ = select.select([keyboard, line.sock.sock], [], [], _TICK_S)
        if keyboard in readable:
            line.write_channel(_STDIN, os.read(keyboard, 4096))
        line.update(timeout=0)
        sys.stdout.buffer.write(line.read_channel(_STDOUT))
        sys.stdout.buffer.flush()


def _open(client: KubeClient, pod: Object, command: Sequence[str], *, tty: bool) -> Any:
    from kubernetes import client as kubernetes
    from kubernetes import stream
    from kubernetes.client.exceptions import ApiException

    ref = ref_of(pod)
    try:
        return stream.stream(
            kubernetes.CoreV1Api(client.api_client()).connect_get_namespaced_pod_exec,
            ref.name,
            ref.namespace,
            container=container_of(pod),
            command=list(command),
            stdin=tty,
            stdout=True,
            stderr=not tty,
            tty=tty,
            binary=True,  # frames may cut a letter in two
            _preload_content=False,
        )
    except ApiException as error:
        raise ClusterError(f"No command can be run in {ref}: {error.reason}.") from error


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _exit_code(line: Any, pod: Object) -> int:
    try:
        return int(line.returncode)
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise ClusterNotUp(f"The connection to {ref_of(pod)} broke off.") from error
