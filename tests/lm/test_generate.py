"""Decoding: greedy, sampled, stopped."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.lm import (
    Transformer,
    TransformerConfig,
    generate,
    next_token,
    nucleus_probabilities,
)

CONFIG = TransformerConfig(
    d_model=14, d_ff=31, n_layers=3, n_heads=6, n_kv_heads=3, head_dim=10, vocab_size=37
)
PROMPT = torch.tensor([[3, 1, 4, 1, 5], [2, 7, 1, 8, 2]])


@pytest.fixture(scope="module")
def model() -> Transformer:
    model = Transformer(CONFIG, seed=3)
    for weight in model.requires_grad_(False).parameters():
        if weight.ndim == 2:
            weight.mul_(15)
    return model


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_greedy_takes_the_likeliest_token_every_time(model):
    ids = PROMPT
    for _ in range(13):
        ids = torch.cat((ids, model(ids)[:, -1:].argmax(-1)), 1)  # no cache
    new = generate(model, PROMPT, max_new_tokens=13)
    assert new.equal(ids[:, 5:])
    assert len(new.unique()) > 3


def test_a_cached_beginning_changes_nothing(model):
    cache = model.make_cache()
    model(PROMPT[:, :3], cache=cache)
    new = generate(model, PROMPT[:, 3:], max_new_tokens=7, cache=cache)
    assert new.equal(generate(model, PROMPT, max_new_tokens=7))
    assert cache.length == 5 + 7 - 1  # the last token has not been read


def test_rows_end_at_their_stop_token(model):
    free = generate(model, PROMPT, max_new_tokens=13)
    stop = int(free[0, 4])
    first = [row.tolist().index(stop) if stop in row else 13 for row in free]
    assert first[0] != first[1]
    new = generate(model, PROMPT, max_new_tokens=13, stop_tokens=[stop])
    assert new.shape[1] == min(13, max(first) + 1)
    for row, whole, end in zip(new, free, first, strict=True):
        assert row[: end + 1].equal(whole[: end + 1])
        assert row[end:].eq(stop).all()


def test_generation_ends_when_every_row_has(model):
    free = generate(model, PROMPT[:1], max_new_tokens=13)
    new = generate(model, PROMPT[:1], max_new_tokens=13, stop_tokens=[int(free[0, 2])])
    assert new.equal(free[:, : free[0].tolist().index(int(free[0, 2])) + 1])


def test_a_seed_decides_a_sample(model):
    def draw(seed):
        return generate(
            model, PROMPT, max_new_tokens=13, temperature=1.0, generator=generator(seed)
        )

    assert draw(1).equal(draw(1))
    assert not draw(1).equal(draw(2))


def test_samples_follow_the_distribution():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    n = 20_000
    tokens = next_token(logits.expand(n, 4), temperature=0.7, generator=generator())
    share = tokens.flatten().bincount(minlength=4) / n
    expected = (logits / 0.7).softmax(-1)
    spread = (expected * (1 - expected) / n).sqrt()
    assert ((share - expected).abs() < 4.5 * spread).all()
    assert not ((share - logits.softmax(-1)).abs() < 4.5 * spread).all()  # temperature 1


def test_a_low_temperature_approaches_greedy(model):
    cold = generate(model, PROMPT, max_new_tokens=7, temperature=1e-4, generator=generator())
    assert cold.equal(generate(model, PROMPT, max_new_tokens=7))


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), top_p=st.floats(0.01, 1.0), temperature=st.floats(0.2, 3.0))
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(seed, top_p, temperature):
    logits = 2 * torch.randn(2, 3, 17, generator=generator(seed))
    full = (logits / temperature).softmax(-1)
    kept = nucleus_probabilities(logits, temperature=temperature, top_p=top_p)
    torch.testing.assert_close(kept.sum(-1), torch.ones(2, 3))
    inside = kept > 0
    mass = (full * inside).sum(-1)
    smallest = torch.where(inside, full, torch.inf).amin(-1)
    eps = 1e-5  # float32 sums of 17 terms
    assert (mass >= top_p - eps).all()
    assert (mass - smallest < top_p + eps).all()
    assert (torch.where(inside, -torch.inf, full).amax(-1) <= smallest + eps).all()
    torch.testing.assert_close(kept, torch.where(inside, full / mass[..., None], 0.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"temperature": -0.5}, "temperature must not be negative, got -0.5"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0.0"),
        ({"temperature": 1.0}, r"needs a torch.Generator"),
    ],
)
def test_misuse_is_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        generate(model, PROMPT, **({"max_new_tokens": 3} | options))
