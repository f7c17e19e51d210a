"""Models with random weights: right in form, made in seconds, and without sense."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

_TOOL = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "models.py"))

tiny_llm: Callable[..., Path] = _TOOL["tiny"]
"""A Llama of 4 layers with tokenizer and chat template: ``tiny_llm(folder, context=512, seed=0)``;
made unless it is there."""


def tiny_adapter(folder: Path, seed: int, rank: int = 8) -> Path:
    """A LoRA adapter for ``tiny_llm`` that changes what it says a lot."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(4):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(rank, 256, generator=generator)
        weights[f"{name}.lora_B.weight"] = torch.randn(256, rank, generator=generator)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": ["q_proj"],
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def tiny_cross_encoder(folder: Path, vocabulary: Path) -> Path:
    """A BERT of 2 layers that gives one number for a pair of texts, with another's tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(vocabulary)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,  # vLLM on CPUs wants heads of 32 numbers at least
        intermediate_size=128,
        max_position_embeddings=128,
        num_labels=1,
        initializer_range=0.3,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder
