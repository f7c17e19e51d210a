"""Pin what set-up installs: ``make constraints`` writes constraints.txt anew.

The file names versions only, never an index. torch is pinned without its build («+cpu»), so that
the pin holds on a machine with GPUs too. The pins leave room for vLLM: they are chosen together
with the extra ``cpu``, and the extra ``gpu`` is resolved with them as a check. What only those two
bring is not among them, since each needs its own.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from environment import ROOT, uv

HEADER = "# Versions that were tested together. Written by `make constraints`.\n"
TARGET = ROOT / "constraints.txt"


def resolve(extras: list[str], within: Path | None, output: Path, *, cuda: bool = False) -> None:
    """Write the newest versions that fit together to ``output``, torch's build left out."""
    uv(
        "compile",
        "--quiet",
        "--upgrade",
        *(f"--extra={extra}" for extra in extras),
        *([f"--constraints={within}"] if within else []),
        "--python-version=3.11",
        "--python-platform=x86_64-manylinux_2_31",
        "--no-annotate",
        "--no-header",
        f"--output-file={output}",
        "pyproject.toml",
        cuda=cuda,
    )
    output.write_text(re.sub(r"\+\w+$", "", output.read_text(), flags=re.MULTILINE))


def main() -> None:
    """Pin, and check that a machine with GPUs can live with it."""
    with tempfile.TemporaryDirectory() as folder:
        with_vllm, pins = Path(folder) / "vllm.txt", Path(folder) / "pins.txt"
        resolve(["dev", "demo", "bench", "cpu"], None, with_vllm)
        resolve(["dev", "demo", "bench"], with_vllm, pins)
        resolve(["dev", "demo", "bench", "gpu"], pins, Path(folder) / "gpu.txt", cuda=True)
        TARGET.write_text(HEADER + pins.read_text())


if __name__ == "__main__":
    main()
