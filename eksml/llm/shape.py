"""A language model's dimensions, as its ``config.json`` tells them, and what follows for memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DTYPE_BYTES = {
    **dict.fromkeys(("float32", "float"), 4),
    **dict.fromkeys(("bfloat16", "float16", "half", "auto"), 2),
}
"""Bytes of a number by vLLM's names of dtypes. «auto» of a model in float32 is float16 there."""
_EIGHT_BITS = ("fp8", "int8")
_QUANTIZED_BITS = ("bits", "w_bit", "weight_bits", "num_bits")


@dataclass(frozen=True)
class Shape:
    """Dimensions of a decoder."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    """Width of the feed-forward part, of one expert where there are several."""
    vocabulary: int
    experts: int
    """Feed-forward parts of each layer that are kept in memory; one: the model is dense."""
    tied: bool
    """Whether the output's matrix is that of the input."""
    context: int
    """Tokens that the model was made for."""
    latent: int
    """Numbers that a layer keeps of a token in place of keys and values (DeepSeek's MLA); 0: it
    keeps those."""
    windows: tuple[int | None, ...]
    """Of each layer, how many of the last tokens it keeps; None: all."""
    linear_bits: int | None
    """Bits of a weight of linear layers; None: as of other weights."""

    def parameters(self) -> tuple[int, int]:
        """Numbers in linear layers, and in all the rest: embeddings, output, norms.

        Per layer: queries and the output of attention ``2·hidden·heads·head_dim``, keys and values
        ``2·hidden·kv_heads·head_dim``, gate, up and down ``3·hidden·intermediate`` for each expert,
        and two norms (Touvron et al. 2023, arXiv:2302.13971, section 2.2). For Llama-3-8B it is
        exact; biases, and what other families have besides, are not in it.
        """
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        forward = 3 * self.hidden * self.intermediate * self.experts
        router = self.hidden * self.experts if self.experts > 1 else 0
        linear = self.layers * (attention + forward)
        ends = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return linear, ends + self.layers * (2 * self.hidden + router) + self.hidden

    def weight_bytes(self, dtype_bytes: int) -> int:
        """All weights together, by the formula of :meth:`parameters`."""
        linear, rest = self.parameters()
        bits = 8 * dtype_bytes if self.linear_bits is None else self.linear_bits
        return linear * bits // 8 + rest * dtype_bytes

    def kv_bytes(self, tokens: int, dtype_bytes: float, tensor_parallel: int, stages: int) -> int:
        """What one device keeps of a sequence: ``2·kv_heads·head_dim·bytes`` a token and layer.

        Kwon et al. 2023, «Efficient Memory Management for Large Language Model Serving with
        PagedAttention», section 3. Heads are dealt out to the devices of a tensor-parallel group;
        where there are more devices than heads, each has one. Layers are dealt out to the stages of
        a pipeline; the largest stage counts, with layers as they are in the mean.

        Args:
            tokens: Of prompt and answer together.
            dtype_bytes: Of one number in the cache.
            tensor_parallel: Devices that share each layer.
            stages: Of the pipeline.
        """
        heads = max(1, -(-self.kv_heads // tensor_parallel))
        numbers = self.latent or 2 * heads * self.head_dim
        kept = sum(tokens if each is None else min(tokens, each) for each in self.windows)
        return int(kept * numbers * dtype_bytes * -(-self.layers // stages) / self.layers)


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """The shape of a model, from its ``config.json``; None if it is of a kind that has none."""
    text = config.get("text_config") or config
    try:
        layers, hidden = int(text["num_hidden_layers"]), int(text["hidden_size"])
        heads, vocabulary = int(text["num_attention_heads"]), int(text["vocab_size"])
        context = int(text["max_position_embeddings"])
    except (KeyError, TypeError, ValueError):
        return None
    experts = _first(text, "num_local_experts", "num_experts", "n_routed_experts") or 1
    wide = _first(text, "intermediate_size", "ffn_dim") or 4 * hidden
    return Shape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_first(text, "num_key_value_heads") or heads,
        head_dim=_first(text, "head_dim") or hidden // heads,
        intermediate=(_first(text, "moe_intermediate_size") if experts > 1 else None) or wide,
        vocabulary=vocabulary,
        experts=experts,
        tied=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))),
        context=context,
        latent=_latent(text),
        windows=tuple(_windows(text, layers)),
        linear_bits=linear_bits(config.get("quantization_config") or {}),
    )


def linear_bits(quantization: Mapping[str, Any]) -> int | None:
    """Bits of a quantized weight by a model's ``quantization_config``; None if it is not known."""
    if quantization.get("load_in_4bit"):
        return 4
    if quantization.get("load_in_8bit"):
        return 8
    for place in (quantization, *_groups(quantization)):
        if (found := _first(place, *_QUANTIZED_BITS)) is not None:
            return found
    method = str(quantization.get("quant_method", "")).lower()
    if method.startswith(_EIGHT_BITS):
        return 8
    return 4 if "fp4" in method else None


def _groups(quantization: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Of compressed-tensors: each says how its weights are kept."""
    for group in (quantization.get("config_groups") or {}).values():
        if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping):
            yield group["weights"]


def _windows(text: Mapping[str, Any], layers: int) -> Iterator[int | None]:
    window = _first(text, "sliding_window")
    kinds = text.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == layers:
        for kind in kinds:
            if kind == "sliding_attention":
                yield window
            else:
                yield None if kind == "full_attention" else 0  # linear layers keep no tokens
        return
    everywhere = window if text.get("use_sliding_window", True) else None
    yield from [everywhere] * layers


def _latent(text: Mapping[str, Any]) -> int:
    rank, rope = _first(text, "kv_lora_rank"), _first(text, "qk_rope_head_dim")
    return 0 if rank is None else rank + (rope or 0)


def _first(place: Mapping[str, Any], *names: str) -> int | None:
    """The first of the fields that holds a positive number."""
    for name in names:
        value = place.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
