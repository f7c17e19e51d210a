"""Real models, small enough for a CPU, from packages: no hub is asked."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

_TOOL = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "models.py"))

smollm2: Callable[[Path], Path] = _TOOL["smollm2"]
"""SmolLM2-135M-Instruct as a Llama folder, made unless it is there; 256 MB, 15 s."""
minilm: Callable[[Path], Path] = _TOOL["minilm"]
"""The sentence embeddings all-MiniLM-L6-v2, copied unless they are there; 90 MB."""
