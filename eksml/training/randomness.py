"""The random state of a process: torch, its accelerators, numpy and Python."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any


def seed_all(seed: int) -> None:
    """Seed every generator of this process."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # what users' code draws from, so what must be resumed
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of every generator, as a state that ``flatten`` takes."""
    import numpy as np
    import torch

    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Continue every generator where ``random_state`` saw it."""
    import numpy as np
    import torch

    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
