"""Log-likelihood and perplexity on small random weights."""

from __future__ import annotations

import pytest
import torch

from aiexplained.lm import Transformer, TransformerConfig, log_likelihood, perplexity

V = 37
CONFIG = TransformerConfig(
    d_model=14, d_ff=31, n_layers=3, n_heads=6, n_kv_heads=3, head_dim=10, vocab_size=V
)
IDS = torch.randint(V, (29,), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> Transformer:
    model = Transformer(CONFIG, seed=3)
    for weight in model.requires_grad_(False).parameters():
        if weight.ndim == 2:
            weight.mul_(15)
    return model.double()


def test_log_likelihood_reads_the_logits_one_token_earlier(model):
    log_probs = model(IDS[None])[0].log_softmax(-1)
    expected = torch.stack([log_probs[i - 1, IDS[i]] for i in range(17, 29)]).float()
    scores = log_likelihood(model, IDS[:17], IDS[17:])
    torch.testing.assert_close(scores, expected)
    off_by_one = torch.stack([log_probs[i, IDS[i]] for i in range(17, 29)]).float()
    assert not torch.allclose(scores, off_by_one)


def test_the_probabilities_of_all_next_tokens_sum_to_one(model):
    scores = [log_likelihood(model, IDS[:5], torch.tensor([i])) for i in range(V)]
    assert torch.cat(scores).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_the_parts_of_an_answer_multiply(model):
    whole = log_likelihood(model, IDS[:7], IDS[7:])
    parts = log_likelihood(model, IDS[:7], IDS[7:11]), log_likelihood(model, IDS[:11], IDS[11:])
    torch.testing.assert_close(torch.cat(parts), whole)


def test_a_cached_prompt_changes_nothing_and_is_left_as_it_was(model):
    cache = model.make_cache()
    model(IDS[None, :16], cache=cache)
    before = cache.clone()
    for _ in range(2):
        scores = log_likelihood(model, IDS[16:17], IDS[17:], cache)
        torch.testing.assert_close(scores, log_likelihood(model, IDS[:17], IDS[17:]))
    assert cache.length == 16
    assert all(
        a.equal(b)
        for i in range(CONFIG.n_layers)
        for a, b in zip(cache.layer(i), before.layer(i), strict=True)
    )


def test_perplexity_is_that_of_all_tokens_but_the_first(model):
    scores = log_likelihood(model, IDS[:1], IDS[1:])
    assert perplexity(model, IDS) == pytest.approx((-scores.mean()).exp().item())


def test_perplexity_in_pieces_scores_every_token_once(model):
    pieces = [log_likelihood(model, IDS[i : i + 1], IDS[i + 1 : i + 7]) for i in range(0, 28, 6)]
    scores = torch.cat(pieces)
    assert len(scores) == 28
    assert perplexity(model, IDS, seq_len=7) == pytest.approx((-scores.mean()).exp().item())


def test_a_fresh_model_is_as_perplexed_as_guessing():
    assert perplexity(Transformer(CONFIG), IDS) == pytest.approx(V, rel=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: log_likelihood(m, IDS[:0], IDS), "a token each, got 0 and 29"),
        (lambda m: log_likelihood(m, IDS, IDS[:0]), "got 29 and 0"),
        (lambda m: perplexity(m, IDS[:1]), "needs 2 tokens"),
        (lambda m: perplexity(m, IDS, seq_len=1), "seq_len >= 2, got 29 and 1"),
    ],
)
def test_misuse_is_named(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)
