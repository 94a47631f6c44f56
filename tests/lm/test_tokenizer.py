"""Tokenizer without real weights: the byte-level BPE of a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from aiexplained.lm import Tokenizer, encode_characters, encode_documents, train_tokenizer

MESSAGES = [{"role": "user", "content": "the cat?"}, {"role": "assistant", "content": "sat\n"}]
DEFAULT = "{{ '<|im_start|>system\nYou are a cat<|im_end|>\n' }}"


@pytest.fixture(scope="module")
def tokenizer(tiny_llama) -> Tokenizer:
    return Tokenizer.from_folder(tiny_llama)


@given(text=st.text())
def test_decoding_undoes_encoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert tokenizer.decode(tokenizer.encode(text)) == f"<|endoftext|>{text}"


def test_a_text_is_framed_as_the_model_expects(tokenizer):
    plain = tokenizer.encode("the cat", add_special_tokens=False)
    assert tokenizer.encode("the cat") == [0, *plain]
    assert tokenizer.decode(tokenizer.encode("the cat"), skip_special_tokens=True) == "the cat"
    assert tokenizer.tensor("the cat").equal(torch.tensor([[0, *plain]]))


def test_tokens_label_each_id_and_join_to_the_text(tokenizer):
    ids = tokenizer.encode("the cat sat", add_special_tokens=False)
    labels = tokenizer.tokens(torch.tensor(ids))
    assert len(labels) == len(ids) < len("the cat sat")
    assert "".join(labels) == "the cat sat"


@pytest.mark.parametrize("add_generation_prompt", [False, True])
def test_chat_equals_the_template_run_by_transformers(tiny_llama, tokenizer, add_generation_prompt):
    theirs = AutoTokenizer.from_pretrained(tiny_llama).apply_chat_template(
        MESSAGES, add_generation_prompt=add_generation_prompt, return_dict=False
    )
    assert tokenizer.chat(MESSAGES, add_generation_prompt=add_generation_prompt) == theirs


@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja"])
def test_the_default_system_prompt_comes_from_the_template(tiny_llama, tmp_path, place):
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "copy"))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    if place == "chat_template.jinja":
        (folder / place).write_text(DEFAULT, "utf-8")
    else:
        config = json.loads((folder / place).read_text("utf-8"))
        (folder / place).write_text(json.dumps(config | {"chat_template": DEFAULT}), "utf-8")
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.default_system_prompt == "You are a cat"
    own = {"role": "system", "content": "You are a rat"}
    assert tokenizer.decode(tokenizer.chat(MESSAGES[:1])).startswith(
        "<|im_start|>system\nYou are a cat<|im_end|>\n<|im_start|>user\nthe cat?<|im_end|>"
    )
    assert "You are a cat" not in tokenizer.decode(tokenizer.chat([own, *MESSAGES]))


def test_markers_of_a_conversation_are_single_tokens(tokenizer):
    ids = tokenizer.chat(MESSAGES)
    assert ids.count(tokenizer.token_id("<|im_start|>")) == 3
    assert tokenizer.stop_tokens == (tokenizer.token_id("<|im_end|>"),)
    assert ids.count(tokenizer.stop_tokens[0]) == 2


def test_a_model_without_an_end_token_has_no_stop_tokens(tiny_llama, tmp_path):
    shutil.copy(tiny_llama / "tokenizer.json", tmp_path)
    bare = Tokenizer.from_folder(tmp_path)
    assert bare.stop_tokens == ()
    with pytest.raises(ValueError, match="no ChatML template"):
        bare.chat(MESSAGES)


@pytest.mark.usefixtures("without_shape_checks")
def test_misuse_is_named(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="at least one message"):
        tokenizer.chat([])
    with pytest.raises(ValueError, match="no token '<pad>'"):
        tokenizer.token_id("<pad>")
    with pytest.raises(ValueError, match=r"one row of ids, got shape \(1, 2\)"):
        tokenizer.decode(torch.tensor([[1, 2]]))
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json in"):
        Tokenizer.from_folder(tmp_path)


TEXTS = ["the cat sat on the mat", "the rat sat on the cat", "naïve café 42"] * 3


def test_a_trained_tokenizer_gives_any_text_back() -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=271)
    assert tokenizer.vocab_size == 271
    for text in (*TEXTS, "never seen: ß€😀\n\t"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("the cat sat")) < len("the cat sat")


def test_the_same_texts_train_the_same_tokenizer() -> None:
    first, second = (train_tokenizer(TEXTS, vocab_size=271) for _ in range(2))
    assert first.tokens(range(271)) == second.tokens(range(271))


def test_documents_are_joined_by_the_token_that_ends_a_text() -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=271)
    ids = encode_documents(tokenizer, ["the cat", "the mat"]).tolist()
    end = tokenizer.token_id("<|endoftext|>")
    assert ids == [*tokenizer.encode("the cat"), end, *tokenizer.encode("the mat"), end]
    assert ids.count(end) == 2


def test_a_vocabulary_without_room_for_merges_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 257, got 257"):
        train_tokenizer(TEXTS, vocab_size=257)


def test_characters_share_one_alphabet_and_documents_keep_apart():
    train, validation, alphabet = encode_characters(["abc", "cab"], ["bad"])
    assert alphabet == "\nabcd"
    assert "".join(alphabet[i] for i in train) == "abc\n\ncab"
    assert "".join(alphabet[i] for i in validation) == "bad"


def test_characters_need_text_on_both_sides():
    with pytest.raises(ValueError, match="both sides need at least one character"):
        encode_characters(["a"], [])
