"""Models with random weights: right in form, made in seconds, and without sense."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TOOL = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "models.py"))

_tokenizer: Callable[[], Any] = _TOOL["_tiny_tokenizer"]

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


PICTURE_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_vision_llm(folder: Path) -> Path:
    """An Idefics3 that sees pictures of 56 × 56 as four tokens, with tokenizer and processor."""
    import torch
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3Processor,
        LlamaConfig,
    )
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = _tokenizer()
    tokenizer.add_special_tokens({"pad_token": tokenizer.eos_token})
    tokenizer.add_tokens(["<global-img>"], special_tokens=True)
    edge = {"longest_edge": 56}
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False),
        tokenizer,  # to which it adds its own tokens
        image_seq_len=4,
        chat_template=PICTURE_TEMPLATE,
    )
    processor.save_pretrained(folder)
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 64}
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        intermediate_size=128,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **small,
    )
    config = Idefics3Config(
        vision_config={"image_size": 56, "patch_size": 14, "intermediate_size": 128, **small},
        text_config=text,
        image_token_id=processor.image_token_id,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = Idefics3ForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # as for the Llama
            torch.nn.init.normal_(parameter, std=0.2)
    model.bfloat16().save_pretrained(folder)
    return folder
