"""What is wrong with a language model is told before anything starts; its folder comes whole."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cloudpickle
import pyarrow as pa
import pytest
from tiny_llm import tiny_adapter, tiny_llm

from eksml.batches.models import llm
from eksml.batches.models.llm_spec import LLM
from eksml.errors import InvalidSpec, NotFound
from eksml.llm import model_folder
from eksml.storage import URI

TEXTS = pa.schema([("text", pa.string()), ("id", pa.int64())])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm(tmp_path_factory.mktemp("models") / "tiny")


def paths(error: InvalidSpec) -> set[str]:
    return {problem.path for problem in error.problems}


def told(model: LLM, schema: pa.Schema = TEXTS) -> str:
    return "\n".join(str(problem) for problem in model.check(schema))


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidSpec) as refused:
        llm(
            "some/model",
            prompt="no column",
            system="Be brief.",
            chat=False,
            choices=["yes"],
            sampling={"n": 2},
            adapter="missing",
            engine={"model": "x", "tensor_parallel_size": 0},
        )

    assert paths(refused.value) == {
        *("prompt", "system", "choices", "sampling.n", "adapter"),
        *("engine.model", "engine.tensor_parallel_size"),
    }


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "prompt"),
        ({"prompt": "{a}", "messages_column": "m"}, "prompt"),
        ({"task": "score", "prompt": "{a}"}, "pair"),
        ({"task": "embed", "prompt": "{a}", "sampling": {"top_k": 1}}, "sampling"),
        ({"prompt": "{a}", "adapters": {"../x": "/x"}, "adapter": "../x"}, "adapters"),
        ({"prompt": "{a}", "adapters": {"x": "/x"}}, "adapters"),
        ({"prompt": "{a}", "output": "__eksml_file__"}, "output"),
        ({"prompt": "{a}", "json_tries": -1}, "json_tries"),
        ({"prompt": "{a}", "engine": {"hf_token": "secret"}}, "engine.hf_token"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, object], path: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        llm("some/model", **fields)  # type: ignore[arg-type]

    assert path in paths(refused.value)


def test_a_missing_column_is_told_with_the_nearest_name(tiny: Path) -> None:
    model = llm(str(tiny), prompt="{txt}", sampling_column="idd")

    assert "'txt'. Did you mean 'text'?" in told(model)
    assert "'idd'. Did you mean 'id'?" in told(model)


def test_a_name_or_value_that_vllm_does_not_take_is_told(tiny: Path) -> None:
    model = llm(
        str(tiny),
        prompt="{text}",
        engine={"max_model_length": 100, "dtype": "bfloat17"},
        sampling={"temprature": 0.5},
    )

    assert "engine.max_model_length: is unknown" in told(model)
    assert "Did you mean 'max_model_len'?" in told(model)
    assert "engine.dtype: 'bfloat17'" in told(model)
    assert "Did you mean 'temperature'?" in told(model)
    assert "top_p must be in (0, 1]" in told(
        llm(str(tiny), prompt="{text}", sampling={"temperature": 1, "top_p": 7})
    )


def test_a_context_longer_than_the_models_is_told(tiny: Path) -> None:
    model = llm(
        str(tiny), prompt="{text}", engine={"max_model_len": 9000}, sampling={"max_tokens": 512}
    )

    assert "9,000 tokens are more than the 512" in told(model)
    assert "512 leaves no room for a prompt" in told(model)


def test_a_good_model_has_no_problems(tiny: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", seed=1)
    model = llm(
        str(tiny),
        prompt="{text}",
        adapters={"polite": str(adapter)},
        adapter="polite",
        sampling={"max_tokens": 5},
        engine={"max_num_seqs": 8},
    )

    assert told(model) == ""


def test_a_folder_without_config_tokenizer_or_weights_is_told(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    problems = told(llm(str(tmp_path), prompt="{text}"))

    assert "no config.json" in problems
    assert "no tokenizer" in problems
    assert "no weights in safetensors" in problems
    assert "There is no folder" in told(llm(str(tmp_path / "nowhere"), prompt="{text}"))


def test_a_shard_that_is_missing_is_told(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / model_folder.INDEX).write_text(json.dumps(index))
    problems = told(llm(str(tmp_path), prompt="{text}"))

    assert "lacks 1 files" in problems
    assert "model-2.safetensors first" in problems
    assert "model-1.safetensors is empty" in problems


def test_an_adapters_folder_without_weights_is_told(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    model = llm(str(tiny), prompt="{text}", adapters={"a": str(tmp_path)}, adapter="a")

    assert "adapters.a:" in told(model)
    assert "no adapter_model.safetensors" in told(model)


def test_a_description_changes_with_what_decides_on_the_answers_only(tiny: Path) -> None:
    model = llm(str(tiny), prompt="{text}")

    faster = llm(str(tiny), prompt="{text}", engine={"max_num_seqs": 8}, device="cpu")
    other = llm(str(tiny), prompt="{text}", engine={"dtype": "float32"})
    asked = llm(str(tiny), prompt="{text}", sampling={"max_tokens": 3})

    assert faster.describe() == model.describe()
    assert other.describe() != model.describe()
    assert asked.describe() != model.describe()
    assert json.loads(json.dumps(model.describe()))["name"] == str(tiny)


def test_a_prompt_function_is_known_by_its_code(tiny: Path) -> None:
    def asking(word: str) -> LLM:
        return llm(str(tiny), prompt=lambda row: f"{word} {row['text']}")

    assert asking("Say").describe() == asking("Say").describe()
    assert asking("Say").describe() != asking("Tell").describe()
    assert told(asking("Say")) == ""


def test_a_model_travels(tiny: Path) -> None:
    model = llm(str(tiny), prompt="{text}", choices=["a", "b"])

    assert cloudpickle.loads(cloudpickle.dumps(model)) == model


def test_sizing_follows_from_the_engines_arguments() -> None:
    wide = llm("a/b", prompt="{a}", engine={"tensor_parallel_size": 4, "max_num_seqs": 100})

    assert wide.sizing().resources == {"CPU": 1.0, "GPU": 4.0}
    assert wide.sizing().rows_in_flight == 200
    assert wide.on("cpu").sizing().resources == {"CPU": 1.0}
    assert wide.on("cpu").sizing().one_per_node
    assert not wide.sizing().one_per_node


def upload(folder: Path, place: URI) -> None:
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())


def test_a_model_in_s3_is_fetched_whole_once_and_again_when_it_changed(
    tiny: Path, bucket: URI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKSML_HOME", str(tmp_path))
    place = bucket / "tiny"
    upload(tiny, place)
    (place / "pytorch_model.bin").write_bytes(b"is not wanted")
    model = llm(str(place), prompt="{text}")
    before = model.describe()

    first, second = model_folder.fetch(str(place)), model_folder.fetch(str(place))
    weights = place / "model.safetensors"
    time.sleep(1.1)  # S3 lists whole seconds
    weights.write_bytes(bytes(reversed(weights.read_bytes())))  # of the same size
    changed = model_folder.fetch(str(place))

    assert told(model) == ""
    assert first == second != changed
    assert model.describe() != before
    names = {path.name for path in tiny.iterdir()}
    assert {path.name for path in Path(first).iterdir()} == names
    assert all((Path(first) / name).read_bytes() == (tiny / name).read_bytes() for name in names)
    assert {path.name for path in (tmp_path / "models").iterdir() if path.is_dir()} == {
        Path(first).name,
        Path(changed).name,
    }


def test_a_fetch_that_breaks_off_leaves_no_folder(
    tiny: Path, bucket: URI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKSML_HOME", str(tmp_path))
    place = bucket / "tiny"
    upload(tiny, place)
    listed = model_folder.files_of(str(place))
    assert listed is not None
    monkeypatch.setattr(model_folder, "files_of", lambda source: {**listed, "gone.json": "5@1"})

    with pytest.raises(NotFound, match=r"gone\.json is gone"):
        model_folder.fetch(str(place))

    assert [path for path in (tmp_path / "models").iterdir() if path.is_dir()] == []
