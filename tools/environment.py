"""Set up ``.venv`` for this checkout: ``python3 tools/environment.py dev`` (extras of the package).

``make`` calls it before every target. Nothing to do costs a tenth of a second; a set-up that was
interrupted starts over. uv installs what constraints.txt pins, from where this machine's pip is
told to look. Needs only Python's standard library.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "eksml-installed.json"
"""What a finished set-up installed."""
BEGUN = VENV / "eksml-unfinished"
"""Is there while a set-up is at work: if it is found later, that one was interrupted."""
INPUTS = ("pyproject.toml", "constraints.txt", "tools/environment.py")
HEARTBEAT_S = 10.0
_UNSAID = ("+ ", "- ", "~ ", "Downloading ")
"""Beginnings of uv's lines that are left out: each package, and its download before it is done."""
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
STARTED_S = time.monotonic()


def say(text: str) -> None:
    """A line with the seconds since the start."""
    print(f"[{time.monotonic() - STARTED_S:4.0f} s] {text}", flush=True)


def fingerprint() -> str:
    """Changes whenever the environment has to be installed again."""
    contents = [(ROOT / name).read_bytes() for name in INPUTS]
    place = str(ROOT).encode()  # an editable install names its folder
    return hashlib.sha256(b"\0".join([*contents, place])).hexdigest()


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a command, and show that it lives: its lines with the time, or a sign of life.

    Exits with the command's code if it fails.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=HEARTBEAT_S)
        except queue.Empty:
            say("… still at it")
            continue
        if line is None:
            break
        if line.strip() and not line.strip().startswith(_UNSAID):
            say(line.strip())
    if process.wait():
        say(f"failed: {' '.join(command)}")
        say("The lines above say why. After mending it, run the same make command again.")
        sys.exit(process.returncode)


def _read(stream: object, lines: queue.Queue[str | None]) -> None:
    for line in stream:  # type: ignore[attr-defined]
        lines.put(line.rstrip())
    lines.put(None)


def pip_settings() -> dict[str, str]:
    """What this machine's pip is configured with, in files and variables; uv reads neither."""
    listed = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        scope, _, name = key.rpartition(".")
        if name not in settings or scope == ":env:":  # variables win over files
            settings[name] = value.strip("'\"").replace("\\n", " ")
    return settings


def uv(verb: str, *arguments: str, cuda: bool = False) -> None:
    """Run ``uv pip <verb>`` on this environment, with the indexes that pip would use."""
    pip = pip_settings()
    command = [str(UV), "pip", verb, *arguments]
    links = pip.get("find-links", "").split()
    for link in links:
        command += ["--find-links", link]
    if "index-url" in pip:
        command += ["--default-index", pip["index-url"]]
    if not links and not cuda:
        command += ["--torch-backend", "cpu"]  # else 3 GB of CUDA libraries
    environment = {"UV_HTTP_TIMEOUT": pip.get("default-timeout", "120"), **os.environ}
    if "cert" in pip:
        environment.setdefault("SSL_CERT_FILE", pip["cert"])
    run(command, environment)


def install(extras: list[str]) -> None:
    """Install eksml, editable, with ``extras`` into the environment."""
    uv(
        "install",
        f"--python={PYTHON}",
        "--constraints=constraints.txt",
        # Workers start in 8 s with bytecode and in 20 s without; uv writes none unless told to
        "--compile-bytecode",
        "--editable",
        f".[{','.join(extras)}]",
        cuda="gpu" in extras,
    )


def installed() -> dict[str, object]:
    """What the last finished set-up noted; empty if there was none."""
    try:
        noted: dict[str, object] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return noted


def main(wanted: list[str]) -> None:
    """Make the environment hold ``wanted`` extras, and those that it has already."""
    if sys.version_info < (3, 11):  # noqa: UP036 - an older one may well run this
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(
            f"eksml needs Python 3.11 or newer; {sys.executable} is {found}. "
            "Name another: make PYTHON=python3.12 …"
        )
    turn = open(ROOT / "constraints.txt")  # noqa: SIM115 - held to the end of the process
    fcntl.flock(turn, fcntl.LOCK_EX)  # one set-up at a time: `make -j`, two terminals
    before, now = installed(), fingerprint()
    kept = before.get("extras")
    extras = sorted({*wanted, *(kept if isinstance(kept, list) else [])})
    if before == {"fingerprint": now, "extras": extras} and PYTHON.exists():
        return
    say(f"setting up {VENV} with eksml[{','.join(extras)}]")
    if BEGUN.exists():
        say("an earlier set-up was interrupted: starting over (downloads are kept)")
        shutil.rmtree(VENV)
    VENV.mkdir(exist_ok=True)
    BEGUN.touch()
    if not PYTHON.exists():
        run([sys.executable, "-m", "venv", str(VENV)])
    if not UV.exists():
        say("installing uv, which installs the rest")
        run([str(PYTHON), "-m", "pip", "install", "--quiet", "-c", "constraints.txt", "uv"])
    say("installing some 180 packages and compiling them to bytecode: a few minutes at first")
    install(extras)
    STAMP.write_text(json.dumps({"fingerprint": now, "extras": extras}))
    BEGUN.unlink()
    say("ready")


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or ["dev"])
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The same command starts over; downloads are kept.")
