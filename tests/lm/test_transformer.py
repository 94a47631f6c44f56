"""The model on small random weights: cache, causality, positions, operators, training."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.lm import KVCache, Transformer, TransformerConfig
from aiexplained.nn import reference_attention, scaled_dot_product_attention

B, T = 2, 23
CONFIG = TransformerConfig(
    d_model=14, d_ff=31, n_layers=3, n_heads=6, n_kv_heads=3, head_dim=10, vocab_size=37
)
# float64 throughout: only the order of sums differs, over at most some hundred terms of size 1.
EXACT = {"rtol": 1e-9, "atol": 1e-12}


def make_model(seed: int = 0, **changes) -> Transformer:
    """A float64 model whose weights are large enough for every part to matter."""
    model = Transformer(dataclasses.replace(CONFIG, **changes), seed=seed).double()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(15)
    return model.requires_grad_(False)


def make_ids(batch: int = B, length: int = T, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(CONFIG.vocab_size, (batch, length), generator=generator)


@settings(deadline=None, max_examples=40)
@given(cuts=st.sets(st.integers(1, T - 1), max_size=T - 1))
def test_reading_in_pieces_equals_reading_at_once(cuts):
    model, ids = make_model(), make_ids()
    cache = model.make_cache()
    bounds = [0, *sorted(cuts), T]
    pieces = [model(ids[:, a:b], cache=cache) for a, b in itertools.pairwise(bounds)]
    torch.testing.assert_close(torch.cat(pieces, 1), model(ids), **EXACT)
    assert cache.length == T


def test_token_by_token_equals_reading_at_once():
    model, ids = make_model(), make_ids()
    cache = model.make_cache()
    steps = [model(ids[:, i : i + 1], cache=cache) for i in range(T)]
    torch.testing.assert_close(torch.cat(steps, 1), model(ids), **EXACT)


def test_a_reused_prefix_is_exact():
    model, ids = make_model(), make_ids()
    whole = model.make_cache()
    expected = model(ids, cache=whole)
    joined = KVCache.concat([whole.slice(0, 5), whole.slice(5, 17)])
    torch.testing.assert_close(model(ids[:, 17:], cache=joined), expected[:, 17:], **EXACT)
    for i in range(CONFIG.n_layers):
        for mine, theirs in zip(joined.layer(i), whole.layer(i), strict=True):
            torch.testing.assert_close(mine, theirs, **EXACT)
    wrong = KVCache.concat([whole.slice(5, 17), whole.slice(0, 5)])  # right tokens, wrong mask
    wrong.crop(12)
    assert not torch.allclose(model(ids[:, 17:], cache=wrong), expected[:, 17:])


def test_the_future_cannot_be_seen():
    model, ids = make_model(), make_ids()
    changed = ids.clone()
    changed[:, 11:] = (ids[:, 11:] + 1) % CONFIG.vocab_size
    before, after = model(ids), model(changed)
    torch.testing.assert_close(after[:, :11], before[:, :11], **EXACT)
    assert not torch.allclose(after[:, 11:], before[:, 11:])


def test_rows_of_a_batch_are_independent():
    model, ids = make_model(), make_ids()
    rows = [model(ids[i : i + 1]) for i in range(B)]
    torch.testing.assert_close(torch.cat(rows), model(ids), **EXACT)


def test_last_only_gives_the_last_logits():
    model, ids = make_model(), make_ids()
    last = model(ids, last_only=True)
    assert last.shape == (B, 1, CONFIG.vocab_size)
    torch.testing.assert_close(last, model(ids)[:, -1:], **EXACT)


def test_logits_depend_on_distances_between_tokens_alone():
    model, ids = make_model(), make_ids()
    shifted = model(ids, positions=torch.arange(T) + 100)
    # Angles are float32: 122 * 2**-24 radians, amplified by the large random weights.
    torch.testing.assert_close(shifted, model(ids), rtol=0, atol=1e-2)
    stretched = model(ids, positions=3 * torch.arange(T))
    assert (stretched - model(ids)).abs().max() > 1


def test_true_positions_survive_an_eviction():
    model, ids = make_model(), make_ids()
    cache = model.make_cache()
    model(ids[:, :-1], cache=cache)
    kept = KVCache.concat([cache.slice(0, 4), cache.slice(15, T - 1)])
    mask = torch.ones(1, T, dtype=torch.bool)
    mask[:, 4:15] = False

    def without_the_evicted(query, key, value, **_):
        return reference_attention(query, key, value, mask=mask)

    last = ids[:, -1:]
    evicted = model(last, cache=kept, positions=torch.tensor([T - 1]))
    with model.attending_with(without_the_evicted):
        expected = model(last, cache=cache)
    torch.testing.assert_close(evicted, expected, **EXACT)
    kept.crop(kept.length - 1)
    assert not torch.allclose(model(last, cache=kept), expected)  # renumbered from 12


def test_one_operator_can_stand_in_for_another_and_is_put_back():
    model, ids, called = make_model(), make_ids(), []

    def counting(*args, **options):
        called.append(options)
        return reference_attention(*args, **options)

    with model.attending_with([reference_attention, counting, scaled_dot_product_attention]):
        inside = model(ids)
    torch.testing.assert_close(inside, model(ids), **EXACT)
    assert called == [{"mask": None, "is_causal": True}]
    assert all(x.operator is scaled_dot_product_attention for x in model.attention_layers)


def test_a_tied_head_is_the_embedding_and_an_untied_one_is_not():
    assert make_model().lm_head is None
    untied = make_model(tie_embedding=False)
    assert untied.lm_head.weight.shape == untied.embedding.weight.shape
    assert not untied.lm_head.weight.equal(untied.embedding.weight)
    assert not torch.allclose(untied(make_ids()), make_model()(make_ids()))


def test_the_seed_decides_the_weights_and_the_global_one_does_not_move():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = Transformer(CONFIG, seed=5)
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    again, other = Transformer(CONFIG, seed=5), Transformer(CONFIG, seed=6)
    assert first.state_dict().keys() == again.state_dict().keys()
    assert all(a.equal(b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not first.embedding.weight.equal(other.embedding.weight)


def test_a_fresh_model_is_as_good_as_guessing():
    logits = Transformer(CONFIG)(make_ids())
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    assert (entropy - torch.tensor(CONFIG.vocab_size).log()).abs().max() < 0.02


def test_initial_weights_have_the_stated_spread():
    model = Transformer(dataclasses.replace(CONFIG, d_model=64, d_ff=256, n_layers=8))
    block = model.blocks[0]
    # 64 * 256 draws: the standard deviation of a sample's is below 1 %; five of them.
    assert block.feed_forward.up.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.feed_forward.down.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)


def test_a_small_model_learns_to_copy():
    model = Transformer(CONFIG, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(120):
        half = make_ids(16, 6, seed=step) % 5
        ids = torch.cat((half, half), 1)
        logits = model(ids[:, :-1])[:, 5:]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 6:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    guessing = torch.tensor(5.0).log().item()
    assert sum(losses[-10:]) / 10 < 0.5 * guessing
    assert losses[0] > guessing


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(torch.zeros(B, 0, dtype=torch.long)), r"\[B, T\] with T >= 1, got \(2, 0\)"),
        (lambda m: m(torch.zeros(T, dtype=torch.long)), r"got \(23,\)"),
        (lambda m: m(torch.tensor([[1, 37]])), r"must be in \[0, 37\), got 1 to 37"),
        (lambda m: m(torch.tensor([[-1, 3]])), "got -1 to 3"),
        (lambda m: m(make_ids(), cache=KVCache(2)), "the cache has 2 layers, the model 3"),
        (lambda m: m(make_ids(1, 2049)), "2049 tokens exceeds max_seq_len 2048"),
        (lambda m: m(make_ids(), positions=torch.arange(3)), r"positions must be \[23\]"),
        (lambda m: m.attending_with([reference_attention]).__enter__(), "need 3 operators, got 1"),
        (lambda _: dataclasses.replace(CONFIG, n_layers=0), "n_layers must be positive, got 0"),
        (lambda _: dataclasses.replace(CONFIG, n_kv_heads=4), "must divide n_heads, got 4 and 6"),
        (
            lambda _: dataclasses.replace(CONFIG, head_dim=5),
            "head_dim must be even for RoPE, got 5",
        ),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(make_model())


def test_a_full_cache_counts_towards_the_longest_sequence():
    model = make_model(max_seq_len=29)
    cache = model.make_cache()
    model(make_ids(), cache=cache)
    with pytest.raises(ValueError, match="sequence of 30 tokens exceeds max_seq_len 29"):
        model(make_ids(length=7), cache=cache)
    assert cache.length == T
