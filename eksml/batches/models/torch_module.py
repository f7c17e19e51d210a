"""A torch module or an exported program as a model: columns in, as tensors, and columns out."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from eksml.batches.models.base import Sizing
from eksml.batches.models.batched import LoadedFunction, made
from eksml.batches.models.columns import as_names, missing, not_numbers
from eksml.batches.models.fingerprint import fingerprint
from eksml.batches.models.forward import Forward
from eksml.batches.models.networks import Program, build, is_program, name_of
from eksml.cluster.problems import Spec
from eksml.errors import CallError, Problem, StorageError
from eksml.runs.pickling import check_picklable
from eksml.storage import URI

if TYPE_CHECKING:
    import pyarrow as pa

MIN_ROWS_PER_BLOCK = 256


class TorchModule(Spec):
    """A network, and what goes in and comes out. Made by :func:`torch_module`."""

    module: Any
    """A ``torch.nn.Module``, a function that builds one, an exported program, or the URI of a
    ``.pt2`` file."""
    input: tuple[str, ...] = Field(min_length=1)
    """Columns, in the order of ``forward``'s parameters."""
    output: tuple[str, ...] | None = None
    """Names of what it returns."""
    weights: str | None = None
    """URI of a safetensors file, or of a checkpoint's folder."""
    state: str = "model"
    """The name by which a checkpoint knows the network's state."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Of the ``.pt2`` or safetensors file."""
    dtype: Literal["float32", "float64", "float16", "bfloat16"] = "float32"
    """Type in which it computes (a program: for which it was exported). Columns of floats are
    converted to it, integers are not."""
    batch_rows: int = Field(default=256, ge=1, le=1_000_000)
    """Rows of each call; the last one of a block may have fewer."""
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=lambda: {"CPU": 1.0}
    )
    """Of each worker, by Ray's names; it computes on the GPU if there is one among them."""

    _code: str | None = PrivateAttr(None)

    def describe(self) -> dict[str, Any]:
        """What decides on the output. Weights are known by their place and ``sha256``; a network
        that travels with the call by its code and every bit of its weights."""
        if self._code is None:
            self._code = _code_of(self.module)
        return {
            "kind": "torch",
            "name": name_of(self.module),
            "fingerprint": self._code,
            **self.model_dump(include={"weights", "state", "sha256", "dtype"}),
            "input": list(self.input),
            "output": None if self.output is None else list(self.output),
        }

    def check(self, schema: pa.Schema) -> list[Problem]:
        """Columns that are missing or hold no numbers, files that are missing, a program without
        ``sha256``, and what cannot travel."""
        problems = [*missing(self.input, schema, "input"), *not_numbers(self.input, schema)]
        if isinstance(self.module, str):
            problems += _program_problems(self)
        else:
            problems += _module_problems(self.module)
        if self.weights is not None:
            problems += _file_problems("weights", self.weights)
        return problems

    def sizing(self) -> Sizing:
        """Two batches keep a worker busy: one is computed while the next is read."""
        rows = max(MIN_ROWS_PER_BLOCK, self.batch_rows)
        return Sizing(dict(self.resources), 2 * self.batch_rows, rows)

    def load(self) -> LoadedFunction:
        """Build it, read its weights, and bring it to the device.

        Raises:
            InvalidSpec: It cannot be built, or the weights are not for it.
            Damaged: A file is not what ``sha256`` or its manifest says.
            NotFound, AccessDenied, StorageUnavailable: A file cannot be read.
        """
        on_gpu = self.resources.get("GPU", 0) > 0 or _granted_gpu()
        name = name_of(self.module)
        forward, load_s = made(name, lambda: self._forward("cuda" if on_gpu else "cpu"))
        # On a GPU, one block is converted from and to Arrow while another is computed
        threads = 2 if on_gpu else 1
        return LoadedFunction(forward, name, self.input, self.batch_rows, load_s, threads)

    def _forward(self, device: str) -> Forward:
        network = build(
            self.module,
            weights=self.weights,
            state=self.state,
            sha256=self.sha256,
            dtype=self.dtype,
            device=device,
        )
        return Forward(network, self.input, self.output, self.dtype, device)


def torch_module(
    module: Any,
    *,
    input: str | Iterable[str],
    output: str | Iterable[str] | None = None,
    weights: str | os.PathLike[str] | URI | None = None,
    state: str = "model",
    sha256: str | None = None,
    dtype: Literal["float32", "float64", "float16", "bfloat16"] = "float32",
    batch_rows: int = 256,
    resources: Mapping[str, float] | None = None,
) -> TorchModule:
    """A network as a model, in inference mode.

    >>> torch_module(net, input="image", output="logits")                   # doctest: +SKIP
    >>> torch_module(build_net, weights="s3://runs/digits/checkpoints/0000000200", input="image",
    ...              resources={"GPU": 1})                                  # doctest: +SKIP

    Args:
        module: A ``torch.nn.Module`` (pickled with the call, which may be 64 MiB large); a class or
            a function without parameters that makes one, called once in each worker; a program
            from ``torch.export.export``; or the place of a ``.pt2`` file.
        input: Columns of numbers, or of lists of numbers, in the order of ``forward``'s parameters.
            Each comes as one tensor (rows, …).
        output: Names for what it returns: one for a tensor («output» unless given), one for each of
            a tuple. A dictionary has names of its own; only these of it are kept if given.
        weights: A ``.safetensors`` file, or the folder of one checkpoint of ``eksml.train``.
        state: The name by which the checkpoint knows it: ``ctx.restore(model=…)``.
        sha256: Of the file. A ``.pt2`` needs it: such a file is a program, and loading it may run
            whatever is in it, so name the one that you made.
        dtype: In which it computes. Columns of floats are converted, integers stay integers.
        batch_rows: Rows of each call.
        resources: Of each worker, by Ray's names, ``{"CPU": 1}`` unless given. With a GPU among
            them it computes there.

    Raises:
        InvalidSpec: With everything that is wrong.
    """
    if isinstance(module, str | os.PathLike | URI):
        module = str(URI.parse(module))
    return TorchModule(
        module=Program.of(module) if is_program(module) else module,
        input=as_names(input) or (),
        output=as_names(output),
        weights=None if weights is None else str(URI.parse(weights)),
        state=state,
        sha256=sha256,
        dtype=dtype,
        batch_rows=batch_rows,
        resources={"CPU": 1.0} if resources is None else dict(resources),
    )


def _granted_gpu() -> bool:
    """Whether Ray gave this worker a GPU: the call may have other resources than the model."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized() and bool(ray.get_gpu_ids())


def _code_of(module: Any) -> str:
    return module.code if isinstance(module, Program) else fingerprint(module)


def _program_problems(model: TorchModule) -> Iterator[Problem]:
    if not model.module.endswith(".pt2"):
        remedy = "Give the network or a function that builds it as module, and the file as weights."
        if not model.module.endswith(".safetensors"):
            remedy = "Save it with torch.export.save(program, 'name.pt2')."
        yield Problem("module", f"{model.module} is no .pt2 file.", remedy)
        return
    if model.sha256 is None:
        remedy = "Give what `sha256sum` says of the file where you saved it."
        what = f"is missing, and {model.module} is a program: loading it may run what is in it."
        yield Problem("sha256", what, remedy)
    if model.weights is not None:
        yield Problem("weights", "go nowhere: a .pt2 file holds its own.", "Leave them out.")
    yield from _file_problems("module", model.module)


def _file_problems(path: str, place: str) -> Iterator[Problem]:
    uri = URI.parse(place)
    file = uri if uri.name.endswith((".pt2", ".safetensors")) else uri / "manifest.json"
    try:
        found = file.exists()
    except StorageError as error:
        yield Problem(path, str(error))
        return
    if not found:
        what = "is no file" if file == uri else "is neither a .safetensors file nor a checkpoint"
        yield Problem(path, f"{place} {what}.")


def _module_problems(module: Any) -> Iterator[Problem]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(module, torch.nn.Module):
        if any(parameter.is_cuda for parameter in module.parameters()):
            yield Problem("module", "lies on a GPU of this machine.", "Give module.cpu().")
    elif not isinstance(module, Program):
        yield from _builder_problems(module)
    try:
        check_picklable(module, "module")
    except CallError as error:
        yield Problem("module", str(error))


def _builder_problems(builder: Any) -> Iterator[Problem]:
    remedy = "Give a torch.nn.Module, a function that makes one, or a .pt2 file."
    if not callable(builder):
        yield Problem("module", f"{builder!r:.80} is no network.", remedy)
        return
    try:
        inspect.signature(builder).bind()
    except TypeError as error:
        yield Problem("module", f"{name_of(builder)} cannot be called alone: {error}.", remedy)
    except ValueError:  # some builtins tell no signature
        return
