"""Pin what set-up installs: ``make constraints`` writes constraints.txt anew.

The file names versions only, never an index. torch is pinned without its build («+cpu»), so that
the pin holds on a machine with GPUs too. What only the extras ``cpu`` and ``gpu`` bring is pinned
by vLLM itself.
"""

from __future__ import annotations

import re

from environment import ROOT, uv

HEADER = "# Versions that were tested together. Written by `make constraints`.\n"


def main() -> None:
    """Resolve the extras that set-up installs, to the newest versions that fit together."""
    target = ROOT / "constraints.txt"
    uv(
        "compile",
        "--quiet",
        "--upgrade",
        "--extra=dev",
        "--extra=demo",
        "--python-version=3.11",
        "--python-platform=x86_64-manylinux_2_28",
        "--no-annotate",
        "--no-header",
        f"--output-file={target}",
        "pyproject.toml",
    )
    pins = re.sub(r"\+\w+$", "", target.read_text(), flags=re.MULTILINE)
    target.write_text(HEADER + pins)


if __name__ == "__main__":
    main()
