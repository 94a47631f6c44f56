"""The real weights: transformers' logits and token ids, and a model that knows its prose."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aiexplained.lm import KVCache, generate, log_likelihood, perplexity

pytestmark = pytest.mark.weights

TEXTS = [
    "The capital of France is",
    "In 1987, 3,141 people — naïve or not — paid €25.90 each.\n\n  Why?\t数学 😀",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n" * 4,
]
PROSE = (
    "A good map leaves things out. The first maps of the city showed every lane and every well, "
    "and nobody could read them; the one that people carried in their pockets showed only the "
    "river, the bridges and the railway stations. It was wrong about distances, and it was wrong "
    "about angles, but it answered the question that a visitor has: where do I change trains? "
    "When the engineers proposed to correct it, the passengers complained. What they wanted was "
    "not a smaller copy of the city but a picture of the choices that they had to make."
)
SAMPLES = [
    "", " ", "\n\n\n", "\t x \r\n", "0123456789", "3.14e-10", "a1b22c333", "naïve café", "é",
    "数学は楽しい", "مرحبا", "👩‍👩‍👧‍👦", "½,Ⅳ²", "  two  spaces  ",
    "don't I'LL we've", "x\u0000y", "a\nb\n  c",
    "<|im_start|>user\nhi<|im_end|>", "CamelCase_and-kebab/path\\to?q=1&r=2",
]  # fmt: skip
# float32 logits of size 20 after 30 layers; measured differences are 5e-5.
CLOSE = {"rtol": 0.0, "atol": 1e-4}


@pytest.fixture(scope="module")
def theirs(smollm2) -> tuple[Any, Any]:
    """Model and tokenizer as transformers loads them from the same file."""
    transformers = pytest.importorskip("transformers")
    path = Path(smollm2.source)
    options = {"gguf_file": path.name, "local_files_only": True}
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **options)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, dtype=torch.float32, **options
    )
    return model.eval(), tokenizer


@pytest.mark.parametrize("text", TEXTS)
@torch.inference_mode()
def test_logits_are_those_of_transformers(smollm2, theirs, text):
    ids = smollm2.tokenizer.tensor(text)
    ours, expected = smollm2.model(ids), theirs[0](ids).logits
    torch.testing.assert_close(ours, expected, **CLOSE)
    assert ours.argmax(-1).equal(expected.argmax(-1))


@pytest.mark.parametrize("text", SAMPLES + TEXTS)
def test_token_ids_are_those_of_transformers_and_decode_to_the_text(smollm2, theirs, text):
    ids = smollm2.tokenizer.encode(text)
    assert ids == theirs[1](text)["input_ids"]
    assert smollm2.tokenizer.decode(ids) == text


# The vocabulary has no token for six control characters and for the bytes F1 and F2.
MISSING = "\x04\x06\x13\x14\x16\x1d"
KNOWN = st.characters(codec="utf-8", exclude_characters=MISSING, max_codepoint=0x3FFFF)


@given(text=st.text(KNOWN, max_size=80))
def test_decoding_undoes_encoding(smollm2, text):
    assert smollm2.tokenizer.decode(smollm2.tokenizer.encode(text)) == text


def test_bytes_without_a_token_are_dropped_as_transformers_does(smollm2, theirs):
    ids = smollm2.tokenizer.encode(f"a{MISSING}b")
    assert smollm2.tokenizer.tokens(ids) == ["a", "b"]
    assert ids == theirs[1](f"a{MISSING}b")["input_ids"]


def test_digits_of_every_script_stand_alone(smollm2, theirs):
    def n_tokens(text):
        return len(smollm2.tokenizer.encode(text))

    assert smollm2.tokenizer.tokens(smollm2.tokenizer.encode("in 1987")) == ["in", *" 1987"]
    assert n_tokens("of ٣٤") == n_tokens("of") + n_tokens(" ") + n_tokens("٣") + n_tokens("٤")
    # transformers drops this rule of the model when it reads GGUF, and joins space and digit.
    assert len(theirs[1]("of ٣٤")["input_ids"]) < n_tokens("of ٣٤")


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
def test_chat_is_the_template_of_the_model(smollm2, theirs, system):
    messages = [
        *system,
        {"role": "user", "content": "Count to 3."},
        {"role": "assistant", "content": "1, 2, 3"},
        {"role": "user", "content": "Thanks!"},
    ]
    expected = theirs[1].apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    assert smollm2.tokenizer.chat(messages) == expected
    text = smollm2.tokenizer.decode(expected)
    assert ("You are a helpful AI assistant named SmolLM" in text) == (not system)


@pytest.mark.parametrize("cuts", [[1], [2, 3, 60], [97], list(range(90, 106))])
@torch.inference_mode()
def test_a_cached_beginning_gives_the_same_logits(smollm2, cuts):
    ids = smollm2.tokenizer.tensor(PROSE)
    cache = smollm2.model.make_cache()
    bounds = list(zip([0, *cuts], [*cuts, ids.shape[1]], strict=True))
    pieces = [smollm2.model(ids[:, a:b], cache=cache) for a, b in bounds]
    torch.testing.assert_close(torch.cat(pieces, 1), smollm2.model(ids), **CLOSE)
    joined = KVCache.concat([cache.slice(0, 50), cache.slice(50, ids.shape[1] - 1)])
    last = smollm2.model(ids[:, -1:], cache=joined)
    torch.testing.assert_close(last, pieces[-1][:, -1:], **CLOSE)


def test_a_token_takes_45_kibibytes_of_cache_in_float32(smollm2):
    cache = smollm2.model.make_cache()
    with torch.inference_mode():
        smollm2.model(smollm2.tokenizer.tensor(TEXTS[0]), cache=cache)
    assert cache.nbytes / cache.length == 45 * 1024  # 2 x 30 layers x 3 heads x 64 x 4 bytes


def test_the_capital_of_france_is_paris(smollm2):
    ids = smollm2.tokenizer.tensor(TEXTS[0])
    assert smollm2.tokenizer.decode(generate(smollm2.model, ids, max_new_tokens=1)[0]) == " Paris"


def test_a_question_is_answered_and_the_answer_ends(smollm2):
    ids = smollm2.tokenizer.chat([{"role": "user", "content": "What is the capital of France?"}])
    stops = smollm2.tokenizer.stop_tokens
    new = generate(smollm2.model, torch.tensor([ids]), max_new_tokens=40, stop_tokens=stops)
    answer = smollm2.tokenizer.decode(new[0])
    assert "Paris" in answer
    assert answer.endswith("<|im_end|>")


def test_the_right_answer_is_likelier_than_a_wrong_one(smollm2):
    prompt = torch.tensor(smollm2.tokenizer.encode(TEXTS[0]))
    paris, rome = (
        log_likelihood(smollm2.model, prompt, torch.tensor(smollm2.tokenizer.encode(answer))).sum()
        for answer in (" Paris", " Rome")
    )
    assert paris > rome + math.log(10)


def test_prose_is_predictable_and_shuffled_prose_is_not(smollm2):
    ids = torch.tensor(smollm2.tokenizer.encode(PROSE))
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    plain, shuffled = (perplexity(smollm2.model, x) for x in (ids, ids[order]))
    # On 1,000 tokens of modern prose this model has 20 to 35; a short text leaves more to guess.
    assert 10 < plain < 60
    assert shuffled > 20 * plain
