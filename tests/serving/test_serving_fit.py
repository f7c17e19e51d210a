"""Whether a model fits: weights and KV cache against a device's memory, before anything starts."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tiny_llm import tiny_llm

from eksml.cluster import Cluster, gpu
from eksml.cluster.catalogue import instance
from eksml.errors import Damaged
from eksml.llm import model_folder
from eksml.llm.shape import Shape, linear_bits, shape_of
from eksml.llm.weights import weight_bytes
from eksml.serving import ModelSpec, ServeSpec, checks
from eksml.serving.checks import model_problems, need_on_disk, problems_of
from eksml.serving.fit import Need, device_memory, fit_problems, need_of, room_of
from eksml.serving.profiles import settings_of
from eksml.storage import URI

GIB = 2**30

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
}


def shape(config: dict[str, Any], **changes: Any) -> Shape:
    found = shape_of(config | changes)
    assert found is not None
    return found


def need(config: dict[str, Any], **fields: Any) -> Need:
    model = ModelSpec(**({"name": "m", "source": "s", "device": "gpu"} | fields))
    settings = settings_of(model)
    return need_of(model, settings, shape(config), shape(config).weight_bytes(2))


def told(found: Need, instance_type: str, **engine: Any) -> list[str]:
    memory = device_memory(instance(instance_type), "gpu")
    assert memory is not None
    settings = settings_of(ModelSpec(name="m", source="s", device="gpu", engine=engine))
    return [str(each) for each in fit_problems(found, room_of(memory, settings, instance_type))]


def test_the_weights_of_llama_3_are_counted_exactly() -> None:
    assert sum(shape(LLAMA_8B).parameters()) == 8_030_261_248
    assert sum(shape(LLAMA_70B).parameters()) == 70_553_706_496
    assert shape(LLAMA_8B).weight_bytes(2) == 16_060_522_496


def test_a_tied_output_matrix_is_kept_once() -> None:
    untied, tied = (
        shape(LLAMA_8B, tie_word_embeddings=tied).weight_bytes(2) for tied in (False, True)
    )
    assert untied - tied == 128256 * 4096 * 2


def test_the_kv_cache_of_llama_3_is_as_computed_by_hand() -> None:
    # 2 (keys, values) × 32 layers × 8 heads × 128 × 2 bytes = 128 KiB a token
    assert need(LLAMA_8B).kv_token == 131_072
    assert need(LLAMA_8B).kv_sequence == GIB
    # 80 layers: 320 KiB a token; dealt out to 4 devices, 80 KiB
    assert need(LLAMA_70B).kv_token == 327_680
    assert need(LLAMA_70B, tensor_parallel=4).kv_token == 81_920
    assert need(LLAMA_70B, tensor_parallel=4, pipeline_parallel=2).kv_token == 40_960


def test_more_devices_than_heads_keep_one_head_each() -> None:
    assert need(LLAMA_8B, tensor_parallel=16).kv_token == need(LLAMA_8B, tensor_parallel=8).kv_token


def test_the_asked_context_counts_and_an_eight_bit_cache_is_half() -> None:
    asked = need(LLAMA_8B, engine={"max_model_len": 4096})
    assert asked.kv_sequence == GIB // 2
    small = need(LLAMA_8B, engine={"max_model_len": 4096, "kv_cache_dtype": "fp8"})
    assert small.kv_sequence == GIB // 4


def test_llama_3_8b_fits_one_l4_with_six_full_sequences() -> None:
    memory = device_memory(instance("g6.2xlarge"), "gpu")
    assert memory is not None
    model = ModelSpec(name="m", source="s", device="gpu")
    room = room_of(memory, settings_of(model), "g6.2xlarge")
    found = need(LLAMA_8B)
    assert list(fit_problems(found, room)) == []
    assert room.sequences(found) == pytest.approx((memory * 0.92 - 16_060_522_496) / GIB, rel=1e-3)


def test_llama_3_70b_needs_more_than_four_l4_and_is_told_with_numbers() -> None:
    (line,) = told(need(LLAMA_70B, tensor_parallel=4), "g6.12xlarge")
    assert line.startswith("source: 32.85 GiB of weights a device do not fit")
    assert "tensor_parallel" in line
    assert told(need(LLAMA_70B, tensor_parallel=4), "g6e.12xlarge") == []


def test_a_context_that_does_not_fit_is_told_with_the_longest_that_does() -> None:
    found = need(LLAMA_8B | {"max_position_embeddings": 131_072})
    (line,) = told(found, "g6.2xlarge")
    assert line.startswith("engine.max_model_len: a sequence of 131,072 tokens takes 16.00 GiB")
    longest = int(line.split("Set it to ")[1].split(" ")[0].replace(",", ""))
    assert told(need(LLAMA_8B, engine={"max_model_len": longest}), "g6.2xlarge") == []
    too_long = {"max_model_len": int(longest * 1.01)}
    assert told(need(LLAMA_8B, engine=too_long), "g6.2xlarge") != []


def test_a_context_that_vllm_is_to_choose_is_not_refused() -> None:
    assert told(need(LLAMA_8B, engine={"max_model_len": -1}), "g6.2xlarge") == []


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [
        ({"quant_method": "gptq", "bits": 4}, 4),
        ({"quant_method": "awq", "w_bit": 4}, 4),
        ({"quant_method": "fp8"}, 8),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4),
        ({"config_groups": {"0": {"weights": {"num_bits": 8}}}}, 8),
        ({"quant_method": "mxfp4"}, 4),
        ({}, None),
    ],
)
def test_quantized_models_say_their_bits_in_different_words(
    quantization: dict[str, Any], bits: int | None
) -> None:
    assert linear_bits(quantization) == bits


def test_a_four_bit_llama_3_70b_is_a_quarter_but_for_its_embeddings() -> None:
    small = shape(LLAMA_70B, quantization_config={"quant_method": "awq", "bits": 4})
    linear, rest = small.parameters()
    assert small.weight_bytes(2) == linear // 2 + 2 * rest
    assert small.weight_bytes(2) < 36 * GIB


def test_layers_with_a_window_keep_no_more_than_that() -> None:
    kinds = ["sliding_attention"] * 24 + ["full_attention"] * 8
    mixed = shape(LLAMA_8B, layer_types=kinds, sliding_window=1024)
    per_layer = 2 * 8 * 128 * 2
    assert mixed.kv_bytes(8192, 2, 1, 1) == per_layer * (24 * 1024 + 8 * 8192)
    assert (
        shape(LLAMA_8B, sliding_window=4096, use_sliding_window=False).kv_bytes(8192, 2, 1, 1)
        == GIB
    )


def test_deepseeks_attention_keeps_one_latent_vector_on_every_device() -> None:
    latent = shape(LLAMA_8B, kv_lora_rank=512, qk_rope_head_dim=64)
    assert latent.kv_bytes(1, 2, 1, 1) == latent.kv_bytes(1, 2, 8, 1) == 32 * 576 * 2


def test_the_text_part_of_a_vision_model_is_what_counts() -> None:
    assert shape_of({"model_type": "vision", "text_config": LLAMA_8B}) == shape(LLAMA_8B)
    assert shape_of({"model_type": "resnet"}) is None


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm(tmp_path_factory.mktemp("models") / "tiny")


def test_the_headers_of_a_real_models_files_say_what_its_weights_take(tiny: Path) -> None:
    from safetensors.torch import load_file

    numbers = 0
    for file in tiny.glob("*.safetensors"):
        numbers += sum(tensor.numel() for tensor in load_file(file).values())
    files = model_folder.files_of(str(tiny))
    assert files is not None
    assert weight_bytes(str(tiny), files, 2) == 2 * numbers
    assert weight_bytes(str(tiny), files, 4) == 4 * numbers


def test_the_formula_agrees_with_a_real_models_files(tiny: Path) -> None:
    found = shape_of(json.loads((tiny / "config.json").read_text()))
    files = model_folder.files_of(str(tiny))
    assert found is not None
    assert files is not None
    assert found.weight_bytes(2) == weight_bytes(str(tiny), files, 2)


def test_quantized_tensors_count_as_they_are_stored(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "packed": {"dtype": "I32", "shape": [10, 10], "data_offsets": [0, 400]},
        "eight": {"dtype": "F8_E4M3", "shape": [10], "data_offsets": [400, 410]},
        "scale": {"dtype": "F32", "shape": [10], "data_offsets": [410, 450]},
    }
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 450)
    assert weight_bytes(str(tmp_path), {"model.safetensors": "1"}, 2) == 400 + 10 + 20


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 20, b"\xff" * 20, struct.pack("<Q", 9) + b"no json.."]
)
def test_a_file_that_is_no_safetensors_file_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(Damaged, match=r"model\.safetensors"):
        weight_bytes(str(tmp_path), {"model.safetensors": "1"}, 2)


def test_a_model_in_s3_is_measured_without_fetching_it(tiny: Path, bucket: URI) -> None:
    place = bucket / "tiny"
    for file in tiny.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    local = ModelSpec(name="m", source=str(tiny), device="cpu")
    remote = local.model_copy(update={"source": str(place)})
    assert need_on_disk(remote, settings_of(remote)) == need_on_disk(local, settings_of(local))


def test_a_model_that_fits_has_no_problems(tiny: Path) -> None:
    assert list(model_problems(ModelSpec(name="m", source=str(tiny), device="cpu"))) == []


def test_all_that_is_wrong_with_a_models_files_and_arguments_is_told_at_once(
    tiny: Path, tmp_path: Path
) -> None:
    model = ModelSpec(
        name="m",
        source=str(tiny),
        device="cpu",
        engine={
            "max_model_len": 100_000,
            "max_num_batched_tokens": 8,
            "max_num_sequences": 1,
            "kv_cache_memory_bytes": 2**20,
        },
        adapters={"a": str(tmp_path)},
    )
    found = problems_of(ServeSpec(models=[model]))
    assert {problem.path for problem in found} == {
        "models.0.engine.max_model_len",
        "models.0.engine.max_num_batched_tokens",
        "models.0.engine.max_num_sequences",
        "models.0.adapters.a",
    }
    assert any("'max_num_seqs'" in problem.remedy for problem in found)
    assert any("kv_cache_memory_bytes" in problem.remedy for problem in found)


def test_a_cluster_takes_a_model_that_fits_on_one_of_its_groups(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_70B))
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [70_553_706_496], "data_offsets": [0, 1]}})
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    model = ModelSpec(name="m", source=str(tmp_path), tensor_parallel=4)
    small = gpu("g6.12xlarge", name="small", nodes=1)
    large = gpu("g6e.12xlarge", name="large", nodes=1)
    assert list(model_problems(model, Cluster(name="c", groups=[small, large]))) == []
    (problem,) = model_problems(model, Cluster(name="c", groups=[small]))
    assert "a gpu of g6.12xlarge" in problem.message


def test_a_gpu_of_this_machine_is_asked_for_its_memory(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def memory(device: str) -> int:
        asked.append(device)
        return 2**20

    monkeypatch.setattr(checks, "_machine_memory", memory)
    (problem,) = model_problems(ModelSpec(name="m", source=str(tiny), device="gpu"))
    assert problem.path == "source"
    assert asked == ["gpu"]
