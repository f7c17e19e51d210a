"""No engine outlives the process that holds it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil

from eksml.llm.lifeline import Lifeline

HOLDER = """
import subprocess, sys, time
from eksml.llm.lifeline import Lifeline

sleep = "import time; print('up', flush=True); time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", sleep], stdout=subprocess.PIPE)
child.stdout.readline()
Lifeline().hold([child.pid])
print(child.pid, flush=True)
time.sleep(99)
"""


def test_what_a_killed_process_held_is_killed_too() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        held = psutil.Process(int(holder.stdout.readline()))
        assert held.is_running()

        os.kill(holder.pid, signal.SIGKILL)

        held.wait(timeout=60)


def test_letting_go_kills_what_is_held_and_nothing_else() -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(99)"]
    with subprocess.Popen(sleep) as held, subprocess.Popen(sleep) as other:
        lifeline = Lifeline()
        lifeline.hold([held.pid])
        time.sleep(0.2)
        assert held.poll() is None

        lifeline.let_go()

        assert held.wait(timeout=60) == -signal.SIGKILL
        assert other.poll() is None
        other.kill()
