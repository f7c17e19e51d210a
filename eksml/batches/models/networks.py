"""Build a network in a worker: from what travelled, from a program's file, with its weights."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eksml.batches.models.fingerprint import fingerprint
from eksml.errors import Damaged, InvalidSpec, NotFound, Problem
from eksml.runs.call import entry_name
from eksml.storage import URI, read_manifest, read_part

if TYPE_CHECKING:
    import torch


def is_program(module: Any) -> bool:
    """Whether it is what ``torch.export.export`` returns."""
    export = sys.modules.get("torch.export")
    return export is not None and isinstance(module, export.ExportedProgram)


def name_of(module: Any) -> str:
    """How records and messages call it."""
    if isinstance(module, Program):
        return "exported program"
    return module if isinstance(module, str) else entry_name(module)


@dataclass(frozen=True)
class Program:
    """An exported program on its way: its own pickle cannot be read again (torch 2.13)."""

    data: bytes = field(repr=False)
    """As ``torch.export.save`` writes it."""
    code: str
    """The fingerprint of its graph and its weights."""

    @classmethod
    def of(cls, program: Any) -> Program:
        """Pack one."""
        import torch

        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        parts = (program.graph_module.code, dict(program.state_dict), dict(program.constants))
        return cls(buffer.getvalue(), fingerprint(parts))


def build(
    module: Any, *, weights: str | None, state: str, sha256: str | None, dtype: str, device: str
) -> Any:
    """A network that is ready to compute.

    Args:
        module: See :class:`TorchModule`, like the other arguments.
        device: ``cpu`` or ``cuda``.

    Raises:
        InvalidSpec: It makes no network, or the weights are not for it.
        Damaged: A file is not what ``sha256`` or its manifest says.
        NotFound, AccessDenied, StorageUnavailable: A file cannot be read.
    """
    import torch

    if isinstance(module, str):
        if sha256 is None:
            raise InvalidSpec([Problem("sha256", f"of {module} is missing.")], "the network")
        # A program's file can run code when it is loaded: pickles, and expressions that are
        # evaluated. So it is loaded only if it is, to the last bit, the one that was named.
        module = Program(_verified(URI.parse(module), sha256), sha256)
    if isinstance(module, Program):
        return _placed(torch.export.load(io.BytesIO(module.data)), device).module()
    network = module if isinstance(module, torch.nn.Module) else module()
    if not isinstance(network, torch.nn.Module):
        told = f"{name_of(module)} made a {type(network).__name__}, no torch.nn.Module."
        raise InvalidSpec([Problem("module", told)], "the network")
    if weights is not None:
        _load(network, URI.parse(weights), state, sha256)
    return network.to(device, getattr(torch, dtype)).eval()


def _placed(program: Any, device: str) -> Any:
    from torch.export.passes import move_to_device_pass

    return program if device == "cpu" else move_to_device_pass(program, device)


def _load(network: torch.nn.Module, place: URI, state: str, sha256: str | None) -> None:
    if place.name.endswith(".safetensors"):
        tensors = dict(_tensors(_verified(place, sha256), place))
    else:
        tensors = dict(_checkpointed(place, f"{state}."))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        told = f"{place} does not fit {type(network).__name__}: {' '.join(str(error).split())}"
        raise InvalidSpec([Problem("weights", f"{told:.2000}")], "the network") from error


def _checkpointed(folder: URI, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of one object of a checkpoint, by the names that its ``state_dict`` has."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise NotFound(f"{folder} holds no committed checkpoint.")
    others = set()
    found = False
    for part in manifest.parts:
        if not part.name.endswith(".safetensors"):
            continue
        for name, tensor in _tensors(bytes(read_part(folder, part)), folder / part.file):
            if name.startswith(prefix):
                found = True
                yield name.removeprefix(prefix), tensor
            else:
                others.add(name.partition(".")[0])
    if not found:
        told = f"{folder} has no tensors of {prefix[:-1]!r}; it has {', '.join(sorted(others))}."
        raise InvalidSpec([Problem("state", told)], "the network")


def _tensors(data: bytes, place: URI) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        yield from load(data).items()
    except SafetensorError as error:
        raise Damaged(f"{place} is not a safetensors file: {error}.") from error


def _verified(file: URI, sha256: str | None) -> bytes:
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if sha256 not in (None, digest):
        raise Damaged(f"{file} is another file than was named: its SHA-256 is {digest}.")
    return data
