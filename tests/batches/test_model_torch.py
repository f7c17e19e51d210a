"""Torch modules and exported programs as the model of a batch run."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from eksml.batches.models.arrays import to_arrow
from eksml.batches.models.base import Model
from eksml.batches.models.kinds import model_of
from eksml.batches.models.torch_module import torch_module
from eksml.errors import Damaged, InvalidSpec, NotFound
from eksml.storage import URI, commit, write_part
from eksml.training.checkpoints import FORMAT, OUTLINE, folder_of, load, part_name
from eksml.training.snapshot import Snapshot
from eksml.training.state import flatten


def net() -> nn.Module:
    """With batch norm and dropout, which compute otherwise while training."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
    )


def trained() -> nn.Module:
    torch.manual_seed(1)
    made = net()
    made(torch.randn(64, 12))  # moves the statistics of the batch norm
    return made


X = np.random.default_rng(0).normal(size=(10, 3, 4))
ROWS = pa.table({"x": to_arrow(X), "text": [str(row) for row in range(10)]})


def expected(module: nn.Module) -> np.ndarray:
    with torch.inference_mode():
        result: np.ndarray = module.eval()(torch.from_numpy(X).float()).numpy()
    return result


def computed(model: Model, table: pa.Table = ROWS, column: str = "output") -> np.ndarray:
    outcome = model.load().compute(table)
    assert outcome.errors == {}
    return np.array(outcome.columns[column].to_pylist())


def problems_of(module: Any, schema: pa.Schema = ROWS.schema, **options: Any) -> str:
    model = torch_module(module, **({"input": "x"} | options))
    return "\n".join(str(problem) for problem in model.check(schema))


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_module_computes_in_evaluation_mode_whatever_the_batch() -> None:
    module = trained()
    found = [computed(torch_module(module, input="x", batch_rows=rows)) for rows in (1, 4, 256)]
    for result in found:
        close(result, expected(module))


def test_a_module_survives_its_journey() -> None:
    module = trained()
    model = pickle.loads(pickle.dumps(torch_module(module, input="x")))
    close(computed(model), expected(module))


def test_columns_of_lists_without_a_fixed_size_are_tensors_too() -> None:
    module = trained()
    table = pa.table({"x": pa.array(X.reshape(10, 12).tolist())})
    close(computed(torch_module(module, input="x"), table), expected(module))


class Two(nn.Module):
    """Takes two columns; returns as many tensors as its name says."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> Any:
        a, b = x.flatten(1).sum(1) * scale, x.flatten(1)[:, :2]
        return {"tuple": (a, b), "dict": {"sum": a, "head": b}, "text": "text"}[self.kind]


def test_several_columns_go_in_and_several_come_out() -> None:
    table = ROWS.append_column("scale", pa.array(range(10), pa.int32()))
    wanted = X.sum((1, 2)) * np.arange(10)
    for kind, names in (("tuple", ["a", "b"]), ("dict", None), ("dict", ["sum"])):
        model = torch_module(Two(kind), input=["x", "scale"], output=names, dtype="float64")
        columns = model.load().compute(table).columns
        assert columns.column_names == (names or ["sum", "head"])
        close(columns[0].to_numpy(), wanted)


@pytest.mark.parametrize(
    ("kind", "names", "told"),
    [
        ("tuple", None, "returned a tuple of 2 for the output output"),
        ("tuple", ["a", "b", "c"], "returned a tuple of 2 for the output a, b, c"),
        ("dict", ["total"], r"a dictionary without total; it has \['sum', 'head'\]"),
        ("text", None, "returned a str"),
    ],
)
def test_outputs_that_have_no_names_stop_the_run(kind: str, names: Any, told: str) -> None:
    table = ROWS.append_column("scale", pa.array(range(10)))
    with pytest.raises(InvalidSpec, match=told):
        torch_module(Two(kind), input=["x", "scale"], output=names).load().compute(table)


def test_a_network_that_works_in_place_does_not_change_the_input() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mul_(2).flatten(1)

    table = pa.table({"x": to_arrow(X.astype(np.float32))})
    before = table.to_pydict()
    computed(torch_module(InPlace(), input="x"), table)
    assert table.to_pydict() == before


def test_a_row_that_the_network_cannot_take_is_an_error_of_its_own() -> None:
    embed = nn.EmbeddingBag(5, 2)
    ids = [[0, 1], [2, 9], [3, 4], [1, 1]]
    outcome = torch_module(embed, input="ids").load().compute(pa.table({"ids": ids}))
    assert list(outcome.errors) == [1]
    assert "IndexError" in outcome.errors[1] or "RuntimeError" in outcome.errors[1]
    assert outcome.columns["output"].null_count == 1


def test_half_precision_comes_out_as_floats() -> None:
    found = torch_module(trained(), input="x", dtype="bfloat16").load().compute(ROWS)
    assert found.columns.schema.field("output").type == pa.list_(pa.float32(), 3)
    np.testing.assert_allclose(
        np.array(found.columns["output"].to_pylist()), expected(trained()), atol=0.1
    )


# --- weights


def test_a_network_is_built_in_the_worker_and_reads_its_weights(root: URI) -> None:
    data = save(trained().state_dict())
    (root / "w.safetensors").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    model = torch_module(net, weights=root / "w.safetensors", sha256=digest, input="x")
    assert model.check(ROWS.schema) == []
    close(computed(model), expected(trained()))

    (root / "w.safetensors").write_bytes(save(net().state_dict()))
    with pytest.raises(Damaged, match="another file than was named"):
        model.load()


def checkpoint(run: URI, module: nn.Module) -> URI:
    """As training writes one, here with two ranks."""
    optimizer = torch.optim.Adam(module.parameters())
    state = {"model": module.state_dict(), "optimizer": optimizer.state_dict()}
    outline, tensors = flatten(state)
    folder, parts, names = folder_of(run, 50), [], sorted(tensors)
    for rank in range(2):
        snapshot = Snapshot()
        snapshot.take({name: tensors[name] for name in names[rank::2]})
        parts.append(write_part(folder, part_name(rank), snapshot.views()))
    text = pickle_free({"state": outline, "ranks": {}})
    parts.append(write_part(folder, OUTLINE, text))
    commit(folder, parts, {"format": FORMAT, "step": 50, "world": 2})
    return folder


def pickle_free(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


def test_the_weights_of_a_training_run_are_read_from_its_checkpoint(root: URI) -> None:
    folder = checkpoint(root, trained())
    assert load(folder).step == 50  # it is what training itself reads
    model = torch_module(net, weights=folder, input="x")
    assert model.check(ROWS.schema) == []
    close(computed(model), expected(trained()))

    with pytest.raises(InvalidSpec, match=r"no tensors of 'ema'; it has model"):
        torch_module(net, weights=folder, state="ema", input="x").load()


def test_weights_of_another_network_are_refused_with_the_names_that_differ(tmp_path: Path) -> None:
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InvalidSpec, match=r"does not fit Sequential: .*Missing key.*1\.weight"):
        torch_module(net, weights=tmp_path / "w.safetensors", input="x").load()
    (tmp_path / "w.safetensors").write_bytes(b"\x80\x04nonsense")
    with pytest.raises(Damaged, match="is not a safetensors file"):
        torch_module(net, weights=tmp_path / "w.safetensors", input="x").load()
    with pytest.raises(NotFound, match="no committed checkpoint"):
        torch_module(net, weights=tmp_path, input="x").load()


# --- exported programs


def program() -> Any:
    rows = torch.export.Dim("rows")
    example = torch.zeros(3, 3, 4)
    return torch.export.export(trained().eval(), (example,), dynamic_shapes=({0: rows},))


def test_an_exported_program_computes_after_its_journey() -> None:
    model = pickle.loads(pickle.dumps(torch_module(program(), input="x", batch_rows=4)))
    close(computed(model), expected(trained()))


def test_a_program_s_file_computes_if_it_is_the_one_that_was_named(root: URI) -> None:
    buffer = io.BytesIO()
    torch.export.save(program(), buffer)
    file = root / "net.pt2"
    file.write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    model = torch_module(file, input="x", sha256=digest)
    assert model.check(ROWS.schema) == []
    close(computed(model), expected(trained()))
    with pytest.raises(Damaged, match="another file than was named"):
        torch_module(file, input="x", sha256="0" * 64).load()


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_program_with_a_pickle_inside_runs_nothing_unless_it_was_named(tmp_path: Path) -> None:
    good, bad, canary = tmp_path / "good.pt2", tmp_path / "bad.pt2", tmp_path / "canary"
    torch.export.save(program(), good)
    poison = io.BytesIO()
    torch.save((Canary(canary),), poison)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            poisoned = name.endswith("sample_inputs/model.pt")
            target.writestr(name, poison.getvalue() if poisoned else source.read(name))
    named = hashlib.sha256(good.read_bytes()).hexdigest()
    for sha256 in (named, None):
        with pytest.raises((Damaged, InvalidSpec)):
            torch_module(bad, input="x", sha256=sha256).load()
    assert not canary.exists()
    # It is no empty fear
    with contextlib.suppress(Exception):
        torch.export.load(bad)
    assert canary.exists()


# --- before anything starts


def test_what_cannot_work_is_told_before_anything_starts(tmp_path: Path) -> None:
    assert problems_of(trained()) == ""
    assert "no column 'xx'. Did you mean 'x'?" in problems_of(net, input="xx")
    assert "Column 'text' holds string; a tensor needs numbers" in problems_of(net, input="text")
    assert "cannot be called alone: missing a required argument: 'k'" in problems_of(lambda k: k)
    assert "3 is no network" in problems_of(3)
    assert "is neither a .safetensors file nor a checkpoint" in problems_of(net, weights=tmp_path)
    assert "is no file" in problems_of(net, weights=tmp_path / "w.safetensors")
    told = problems_of(tmp_path.as_posix() + "/no.pt2", weights=tmp_path)
    assert "sha256: is missing" in told
    assert "no.pt2 is no file" in told
    assert "weights: go nowhere" in told
    assert "is no .pt2 file" in problems_of("weights.safetensors")


def test_a_function_that_makes_no_network_is_told_when_it_is_loaded() -> None:
    with pytest.raises(InvalidSpec, match="made a int, no torch"):
        torch_module(lambda: 3, input="x").load()
    with pytest.raises(InvalidSpec, match="could not be made: OSError: no net"):
        torch_module(broken, input="x").load()


def broken() -> nn.Module:
    raise OSError("no net")


def test_models_that_compute_alike_describe_themselves_alike() -> None:
    one = torch_module(trained(), input="x").describe()
    assert torch_module(trained(), input="x", batch_rows=7).describe() == one
    assert torch_module(net().eval(), input="x").describe() != one
    assert torch_module(trained(), input="x", dtype="bfloat16").describe() != one
    assert torch_module(program(), input="x").describe() == (
        torch_module(program(), input="x").describe()
    )


# --- what eksml.batch is given


def test_classes_and_functions_become_models_and_models_stay_as_they_are() -> None:
    model = torch_module(net, input="x")
    assert model_of(model) is model
    assert model_of(len).describe()["name"] == "builtins.len"
    assert model_of(Canary(Path()).__reduce__).describe()["kind"] == "callable"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("HuggingFaceTB/SmolLM2", r"eksml\.batches\.llm\('HuggingFaceTB/SmolLM2'"),
        (Path("net.pt2"), r"torch_module\('net.pt2'"),
        ("s3://b/w.safetensors", r"weights='s3://b/w.safetensors'"),
        ("http://llm:8000/v1", r"eksml\.batches\.endpoint\('http://llm:8000/v1'"),
        (nn.Linear(1, 1), "A Linear takes tensors"),
        (nn.Linear, "takes tensors"),
        (3, "3 cannot be called"),
    ],
)
def test_what_is_no_model_is_refused_with_what_to_write(given: Any, told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        model_of(given)
