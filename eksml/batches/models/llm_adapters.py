"""LoRA adapters: small changes to a model, chosen for each row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from eksml.batches.models.engine_arguments import Device
from eksml.batches.models.model_folder import fetch, read_json
from eksml.batches.models.prompts import Unaskable
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    import pyarrow as pa

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as ``max_lora_rank``."""
TOGETHER = 8
"""Adapters that one batch of an engine on accelerators may mix; each takes memory there."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def name_problems(adapters: Mapping[str, str], chosen: str | None) -> Iterator[Problem]:
    """Names that cannot be, or that are not there."""
    for name in adapters:
        if not _NAME.fullmatch(name):
            remedy = "Use up to 128 letters, digits, dots, hyphens and underscores."
            yield Problem("adapters", f"{name!r:.80} cannot be an adapter's name.", remedy)
    if chosen is not None and chosen not in adapters:
        yield Problem("adapter", f"{chosen!r} is none of the adapters.", _choices(adapters))


class Adapters:
    """The adapters of a loaded model, fetched to this node.

    Args:
        places: Name → folder or URI.
        chosen: For rows that name none.
        column: In which rows name theirs.
    """

    def __init__(self, places: Mapping[str, str], chosen: str | None, column: str | None) -> None:
        self._folders = {name: fetch(place) for name, place in places.items()}
        self._chosen = chosen
        self._column = column

    def engine_arguments(self, device: Device) -> dict[str, Any]:
        """What the engine must be told to take them."""
        if not self._folders:
            return {}
        count = len(self._folders)
        # On CPUs vLLM 0.32 gives a row without adapter, beside rows that have one, what is in the
        # last place (vllm-project/vllm#48421), which must stay empty therefore.
        places = count + 1 if device == "cpu" else min(count, TOGETHER)
        return {
            "enable_lora": True,
            "max_loras": places,
            "max_cpu_loras": places if device == "cpu" else count,
            "max_lora_rank": self._rank(),
        }

    def of(self, table: pa.Table) -> list[Any | Unaskable | None]:
        """vLLM's ``LoRARequest`` of each row; None for the model as it is."""
        if self._column is None:
            return [self._request(self._chosen)] * table.num_rows
        names = table.column(self._column).to_pylist()
        return [self._request(self._chosen if name is None else name) for name in names]

    def _request(self, name: Any) -> Any | Unaskable | None:
        from vllm.lora.request import LoRARequest

        if name is None:
            return None
        if name not in self._folders:
            what = f"{name!r:.80} in column {self._column!r} is none of the adapters."
            return Unaskable(f"{what} {_choices(self._folders)}")
        number = list(self._folders).index(name) + 1
        return LoRARequest(name, number, self._folders[name])

    def _rank(self) -> int:
        found = [read_json(folder, "adapter_config.json") for folder in self._folders.values()]
        largest = max(int(config.get("r", RANKS[0])) for config in found)
        for rank in RANKS:
            if rank >= largest:
                return rank
        told = f"have a rank of {largest}; vLLM takes {RANKS[-1]} at most."
        raise InvalidSpec([Problem("adapters", told)], "the model")


def _choices(adapters: Mapping[str, str]) -> str:
    return f"There are: {', '.join(sorted(adapters)) or 'none'}."
