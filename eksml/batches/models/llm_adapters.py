"""LoRA adapters: small changes to a model, chosen for each row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from eksml.batches.models.prompts import Unaskable
from eksml.errors import Problem
from eksml.llm.engine_arguments import Device
from eksml.llm.lora import lora_arguments
from eksml.llm.model_folder import fetch

if TYPE_CHECKING:
    import pyarrow as pa

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
        return lora_arguments(self._folders.values(), device)

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


def _choices(adapters: Mapping[str, str]) -> str:
    return f"There are: {', '.join(sorted(adapters)) or 'none'}."
