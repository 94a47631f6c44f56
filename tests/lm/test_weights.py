"""Reading weights: the same logits as transformers, from both formats, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from aiexplained.lm import load_gguf, load_safetensors

TEXT = "the cat sat on 1999 mats — naïve?"
# float32 sums of at most 60 terms of size up to 10, through 3 layers.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def ids_of(folder: Path) -> torch.Tensor:
    return AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")["input_ids"]


@torch.inference_mode()
def expected_logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model(ids_of(folder)).logits


def edited_copy(folder: Path, target: Path, **config) -> Path:
    copy = Path(shutil.copytree(folder, target / "copy"))
    raw = json.loads((copy / "config.json").read_text("utf-8"))
    (copy / "config.json").write_text(json.dumps(raw | config), "utf-8")
    return copy


def write_gguf(folder: Path, path: Path, *, like_llama_cpp: bool = True, **fields) -> Path:
    """The tiny Llama as a GGUF file, written by the rules of llama.cpp's converter."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config, backend = model.config, AutoTokenizer.from_pretrained(folder).backend_tokenizer
    vocabulary = sorted(backend.get_vocab(), key=backend.token_to_id)
    merges = json.loads(backend.to_str())["model"]["merges"]
    writer = gguf.GGUFWriter(path, fields.get("architecture", "llama"))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_rope_dimension_count(fields.get("rope_dimension_count", config.head_dim))
    writer.add_rope_freq_base(777.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if "scaling" in fields:
        writer.add_rope_scaling_type(fields["scaling"])
    writer.add_tokenizer_model(fields.get("tokenizer", "gpt2"))
    writer.add_tokenizer_pre(fields.get("pre", "gpt-2"))
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        array = weight.numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        n_heads = heads.get(name.split(".")[-2])
        if n_heads and like_llama_cpp:
            split = array.reshape(n_heads, 2, config.head_dim // 2, array.shape[1])
            array = split.swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@torch.inference_mode()
def test_safetensors_give_the_logits_of_transformers(tiny_llama):
    model, tokenizer = load_safetensors(tiny_llama)
    ids = ids_of(tiny_llama)
    torch.testing.assert_close(model(ids), expected_logits(tiny_llama), **CLOSE)
    assert tokenizer.encode(TEXT) == ids[0].tolist()


@pytest.mark.parametrize(("says_tied", "tied"), [(False, False), (True, True), (True, False)])
@torch.inference_mode()
def test_shards_and_tied_embeddings_are_read(tiny_llama, tmp_path, says_tied, tied):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model.config.tie_word_embeddings = says_tied
    if tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.save_pretrained(tmp_path, max_shard_size="30KB")
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    loaded, _ = load_safetensors(tmp_path)
    assert loaded.config.tie_embedding is tied
    torch.testing.assert_close(loaded(ids_of(tmp_path)), expected_logits(tmp_path), **CLOSE)


@torch.inference_mode()
def test_gguf_gives_the_logits_of_transformers(tiny_llama, tmp_path):
    model, tokenizer = load_gguf(write_gguf(tiny_llama, tmp_path / "tiny.gguf"))
    ids = ids_of(tiny_llama)
    torch.testing.assert_close(model(ids), expected_logits(tiny_llama), **CLOSE)
    assert tokenizer.encode(TEXT) == ids[0, 1:].tolist()  # the file asks for no first token
    assert tokenizer.stop_tokens == (2,)


@torch.inference_mode()
def test_the_logits_would_tell_if_rotary_rows_were_left_in_llama_cpp_order(tiny_llama, tmp_path):
    path = write_gguf(tiny_llama, tmp_path / "tiny.gguf", like_llama_cpp=False)
    wrong = load_gguf(path)[0](ids_of(tiny_llama))
    assert (wrong - expected_logits(tiny_llama)).abs().max() > 0.1


def test_a_loaded_model_is_ready_for_inference_in_the_type_asked_for(tiny_llama):
    model, _ = load_safetensors(tiny_llama, dtype=torch.bfloat16)
    assert not model.training
    for weight in model.parameters():
        assert weight.dtype is torch.bfloat16
        assert not weight.requires_grad


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "qwen2"}, "architecture must be 'llama', got 'qwen2'"),
        ({"scaling": gguf.RopeScalingType.YARN}, "rotary scaling is not supported, got 'yarn'"),
        ({"rope_dimension_count": 6}, "RoPE must turn whole heads of 10, got 6 channels"),
        ({"tokenizer": "llama"}, "tokenizers must be 'gpt2' .* got 'llama'"),
        ({"pre": "llama-bpe"}, "got 'gpt2' with 'llama-bpe'"),
    ],
)
def test_other_gguf_models_are_refused(tiny_llama, tmp_path, fields, message):
    path = write_gguf(tiny_llama, tmp_path / "other.gguf", **fields)
    with pytest.raises(ValueError, match=message):
        load_gguf(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gpt2"}, "must be of model_type 'llama', got 'gpt2'"),
        ({"attention_bias": True}, "no biases"),
        ({"hidden_act": "gelu"}, "hidden_act 'silu'"),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 777.0}},
            "rotary scaling is not supported, got 'llama3'",
        ),
        ({"num_hidden_layers": 4}, "do not make up a model"),
        ({"num_hidden_layers": 2}, "do not make up a model"),
        ({"intermediate_size": 32}, "do not make up a model"),
    ],
)
def test_other_folders_are_refused(tiny_llama, tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        load_safetensors(edited_copy(tiny_llama, tmp_path, **config))


def test_an_index_cannot_point_outside_its_folder(tiny_llama, tmp_path):
    copy = edited_copy(tiny_llama, tmp_path)
    outside = (copy / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"model.norm.weight": f"../{outside.name}"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(ValueError, match=r"files of its own folder, got '\.\./outside"):
        load_safetensors(copy)
