"""Read a Llama-like model from a GGUF file or from a folder of safetensors.

Both formats hold plain tensors and text; nothing is unpickled and no code is run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aiexplained.lm.tokenizer import Tokenizer
from aiexplained.lm.transformer import Transformer, TransformerConfig

_GGUF_NAMES = {
    "token_embd": "embedding",
    "output_norm": "norm",
    "output": "lm_head",
    "attn_norm": "attention_norm",
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_output": "attention.output",
    "ffn_norm": "feed_forward_norm",
    "ffn_gate": "feed_forward.gate",
    "ffn_up": "feed_forward.up",
    "ffn_down": "feed_forward.down",
}
_LLAMA_NAMES = {
    "model.embed_tokens": "embedding",
    "model.norm": "norm",
    "lm_head": "lm_head",
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.output",
    "post_attention_layernorm": "feed_forward_norm",
    "mlp.gate_proj": "feed_forward.gate",
    "mlp.up_proj": "feed_forward.up",
    "mlp.down_proj": "feed_forward.down",
}


def load_gguf(path: Path, *, dtype: torch.dtype = torch.float32) -> tuple[Transformer, Tokenizer]:
    """Model and tokenizer of a GGUF file; quantized blocks are expanded to ``dtype``.

    Args:
        path: The file.
        dtype: Floating type of the model's weights.

    Raises:
        ValueError: if the file holds another architecture, rotary scaling, or another tokenizer.
    """
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(path)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    names = {tensor.name for tensor in reader.tensors}
    config = _gguf_config(metadata, tied="output.weight" not in names)
    state: dict[str, Tensor] = {}
    for stored in reader.tensors:
        weight = torch.from_numpy(
            np.require(dequantize(stored.data, stored.tensor_type), requirements="W")
        )
        name = _own_name(stored.name, "blk.", _GGUF_NAMES)
        if name.endswith(("attention.query.weight", "attention.key.weight")):
            weight = _pair_halves(weight, config.head_dim)
        state[name] = weight.to(dtype)
    return _assemble(config, state), Tokenizer.from_gguf(metadata)


def load_safetensors(
    folder: Path, *, dtype: torch.dtype = torch.float32
) -> tuple[Transformer, Tokenizer]:
    """Model and tokenizer of a folder in the Hugging Face layout of Llama.

    Args:
        folder: Holds ``config.json``, ``tokenizer.json`` and ``model.safetensors``, or its parts
            with ``model.safetensors.index.json``.
        dtype: Floating type of the model's weights.

    Raises:
        FileNotFoundError: if one of these is missing.
        ValueError: if the folder holds another architecture, rotary scaling or biases.
    """
    from safetensors.torch import load_file

    config = _llama_config(json.loads((folder / "config.json").read_text("utf-8")))
    index = folder / "model.safetensors.index.json"
    parts = (
        sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        if index.is_file()
        else ["model.safetensors"]
    )
    state: dict[str, Tensor] = {}
    for part in parts:
        if Path(part).name != part:
            raise ValueError(f"{index} must name files of its own folder, got {part!r}")
        for name, weight in load_file(folder / part).items():
            state[_own_name(name, "model.layers.", _LLAMA_NAMES)] = weight.to(dtype)
    if config.tie_embedding and "lm_head.weight" in state:
        if state["lm_head.weight"].equal(state["embedding.weight"]):
            del state["lm_head.weight"]
        else:  # the tensors outrank the config, as in transformers
            config = dataclasses.replace(config, tie_embedding=False)
    return _assemble(config, state), Tokenizer.from_folder(folder)


def _own_name(name: str, layer_prefix: str, names: Mapping[str, str]) -> str:
    stem, _, kind = name.rpartition(".")
    prefix = ""
    if stem.startswith(layer_prefix):
        layer, _, stem = stem.removeprefix(layer_prefix).partition(".")
        prefix = f"blocks.{layer}."
    if kind != "weight" or stem not in names:
        raise ValueError(f"no place in a Llama-like model for the tensor {name!r}")
    return f"{prefix}{names[stem]}.weight"


def _pair_halves(weight: Tensor, head_dim: int) -> Tensor:
    """Reorder rows from llama.cpp's rotary pairs (0 1)(2 3)… to pairs of halves (0 D/2)…."""
    paired = weight.view(-1, head_dim // 2, 2, weight.shape[1])
    return paired.transpose(1, 2).reshape(weight.shape)


def _assemble(config: TransformerConfig, state: Mapping[str, Tensor]) -> Transformer:
    with torch.device("meta"):
        model = Transformer(config)
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ValueError(f"the tensors do not make up a model of {config}: {error}") from error
    return model.eval().requires_grad_(False)


def _gguf_config(metadata: Mapping[str, Any], *, tied: bool) -> TransformerConfig:
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"GGUF architecture must be 'llama', got {architecture!r}")
    scaling = metadata.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise ValueError(f"rotary scaling is not supported, got {scaling!r}")
    get = {name.removeprefix("llama."): value for name, value in metadata.items()}
    n_heads = int(get["attention.head_count"])
    head_dim = int(get.get("attention.key_length", get["embedding_length"] // n_heads))
    if int(get.get("rope.dimension_count", head_dim)) != head_dim:
        raise ValueError(
            f"RoPE must turn whole heads of {head_dim}, got {get['rope.dimension_count']} channels"
        )
    return TransformerConfig(
        d_model=int(get["embedding_length"]),
        d_ff=int(get["feed_forward_length"]),
        n_layers=int(get["block_count"]),
        n_heads=n_heads,
        n_kv_heads=int(get.get("attention.head_count_kv", n_heads)),
        head_dim=head_dim,
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        rope_base=float(get.get("rope.freq_base", 10_000.0)),
        norm_eps=float(get["attention.layer_norm_rms_epsilon"]),
        max_seq_len=int(get["context_length"]),
        tie_embedding=tied,
    )


def _llama_config(raw: Mapping[str, Any]) -> TransformerConfig:
    if raw.get("model_type") != "llama":
        raise ValueError(
            f"config.json must be of model_type 'llama', got {raw.get('model_type')!r}"
        )
    if raw.get("attention_bias") or raw.get("mlp_bias") or raw.get("hidden_act") != "silu":
        raise ValueError("config.json must have no biases and hidden_act 'silu'")
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope_type != "default":
        raise ValueError(f"rotary scaling is not supported, got {rope_type!r}")
    n_heads = int(raw["num_attention_heads"])
    return TransformerConfig(
        d_model=int(raw["hidden_size"]),
        d_ff=int(raw["intermediate_size"]),
        n_layers=int(raw["num_hidden_layers"]),
        n_heads=n_heads,
        n_kv_heads=int(raw.get("num_key_value_heads") or n_heads),
        head_dim=int(raw.get("head_dim") or raw["hidden_size"] // n_heads),
        vocab_size=int(raw["vocab_size"]),
        rope_base=float(rope.get("rope_theta", raw.get("rope_theta", 10_000.0))),
        norm_eps=float(raw["rms_norm_eps"]),
        max_seq_len=int(raw["max_position_embeddings"]),
        tie_embedding=bool(raw.get("tie_word_embeddings", False)),
    )
