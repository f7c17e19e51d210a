"""No engine outlives its worker: a watcher ends what the worker started, also if it was killed.

vLLM's engine processes do not notice that the process that started them is gone; they would keep
the accelerator. The watcher holds one end of a pipe whose other end only the worker has, so that
the kernel tells it of the worker's end, whatever that was. The engine's own children notice the
end of the engine by themselves.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterable

import psutil


class Lifeline:
    """Kills the processes that it holds when this process ends, or it is let go."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._watcher = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,  # what is sent to the worker's group must not reach it
        )

    def hold(self, pids: Iterable[int]) -> None:
        """Take these processes, too. Those that are held already are fine."""
        assert self._watcher.stdin is not None
        for pid in set(pids) - self._held:
            self._held.add(pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                print(pid, psutil.Process(pid).create_time(), file=self._watcher.stdin, flush=True)

    def let_go(self) -> None:
        """Kill what is left of them; returns when that is done."""
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        self._watcher.wait()


def watch() -> None:
    """Read processes from standard input; when it ends, kill them and their children."""
    held = [line.split() for line in sys.stdin]
    for pid, created in held:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(pid))
            if process.create_time() != float(created):
                continue  # another process got its number
            for each in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()


if __name__ == "__main__":
    watch()
