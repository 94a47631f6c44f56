"""SubQ in a real language model: the operator is exact, and copying tells selectors apart."""

import pytest
import torch

from aiexplained import records
from aiexplained.concepts import subq
from aiexplained.concepts.subq import real
from aiexplained.nn import reference_attention

B, H, H_KV, T, D = 1, 6, 3, 331, 11


def make_inputs():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(B, H, T, D, generator=generator)
    key, value = torch.randn(2, B, H_KV, T, D, generator=generator).unbind()
    return query, key, value


def test_a_full_budget_is_dense_attention_and_the_account_says_so():
    query, key, value = make_inputs()
    operator = real.SelectiveAttention(subq.make_selector("oracle", budget=T + 1))
    out = operator(query, key, value, is_causal=True)
    torch.testing.assert_close(out, reference_attention(query, key, value, is_causal=True))
    assert operator.pairs == operator.all_pairs == H * T * (T + 1) // 2


def test_the_operator_reads_the_choice_and_the_sinks_and_adds_up_their_weight(monkeypatch):
    monkeypatch.setattr(real, "QUERIES_AT_ONCE", 67)
    monkeypatch.setattr(real, "MASS_EVERY", 1)
    query, key, value = make_inputs()
    select = subq.make_selector("hash", budget=120)
    operator = real.SelectiveAttention(select, sink_tokens=5)
    out = operator(query, key, value, is_causal=True)
    positions, group = torch.arange(T), H // H_KV
    full = key.repeat_interleave(group, dim=1)
    mask = subq.selection_mask(select(query, full, positions), positions, T)
    mask |= (positions < 5) & torch.ones(T, T, dtype=torch.bool).tril()
    torch.testing.assert_close(out, reference_attention(query, key, value, mask=mask))
    assert operator.pairs == int(mask.sum())
    scores = query @ full.transpose(-1, -2) * D**-0.5
    dense = scores.masked_fill(positions > positions[:, None], -torch.inf).softmax(-1)
    assert operator.mass / operator.queries == pytest.approx(
        float((dense * mask).sum() / (H * T)), rel=1e-5
    )


def test_centering_keys_changes_the_choice_of_a_hash_and_no_attention_weight():
    query, key, value = make_inputs()
    key = key + 3.0
    center = key[0].mean(dim=1)
    everything = subq.make_selector("oracle", budget=T + 1)
    dense = reference_attention(query, key, value, is_causal=True)
    same = real.SelectiveAttention(everything, center)(query, key, value, is_causal=True)
    torch.testing.assert_close(same, dense)
    hashed = subq.make_selector("hash", budget=160)
    plain, centered = (real.SelectiveAttention(hashed, c) for c in (None, center))
    for operator in (plain, centered):
        operator(query, key, value, is_causal=True)
    assert plain.pairs != centered.pairs


def test_the_operator_refuses_what_is_no_whole_sequence():
    query, key, value = make_inputs()
    operator = real.SelectiveAttention(subq.make_selector("window", budget=30))
    with pytest.raises(ValueError, match=f"got {T - 1} queries, {T} keys"):
        operator(query[:, :, 1:], key, value, is_causal=True)
    with pytest.raises(ValueError, match="is_causal=False"):
        operator(query, key, value)


@pytest.mark.weights
@pytest.mark.usefixtures("smollm2")
def test_the_copy_text_says_its_passage_twice():
    text = real.make_copy_text(3000, 1)
    first = text[-real.DISTANCE - real.COPIED : -real.DISTANCE]
    assert len(text) == 3000
    assert torch.equal(first, text[-real.COPIED :])
    assert not torch.equal(first, text[: real.COPIED])
    with pytest.raises(ValueError, match="got 2559 and part 0"):
        real.make_copy_text(2559, 0)
    with pytest.raises(ValueError, match="part 99"):
        real.make_copy_text(4096, 99)


@pytest.mark.weights
def test_the_real_model_with_a_budget_for_all_is_the_real_model(smollm2):
    model, token_ids = smollm2.model, real.load_tokens()[None, :300]
    with torch.inference_mode():
        dense = model(token_ids)
        centers = real.key_centers(model, token_ids[0, :100])
        select = subq.make_selector("oracle", budget=301)
        with model.attending_with([real.SelectiveAttention(select, c) for c in centers]):
            found = model(token_ids)
    torch.testing.assert_close(found, dense, rtol=1e-3, atol=2e-3)


@pytest.mark.weights
@pytest.mark.usefixtures("smollm2")
def test_a_small_real_run_adds_up(monkeypatch):
    monkeypatch.setattr(real, "DISTANCE", 200)
    monkeypatch.setattr(real, "COPIED", 60)
    monkeypatch.setattr(real, "QUERIES_AT_ONCE", 64)
    monkeypatch.setattr(real, "MASS_EVERY", 1)
    run = {"n_tokens": 300, "part": 0}
    dense = real.measure_real(selector="dense", budget=0, **run)
    window, best = (
        real.measure_real(selector=name, budget=96, **run) for name in ("window", "oracle")
    )
    assert dense["read"] == dense["mass"] == 1
    assert 0.3 < window["read"] < 0.6
    assert window["mass"] < best["mass"] < 1
    assert best["copy_nll"] < window["copy_nll"]
    assert dense["copy_nll"] < dense["first_nll"]
    assert window["dots"] == 0 < best["dots"] < 1


def test_the_recorded_runs_show_that_looking_is_what_copies():
    found = subq.summarize_real(records.load("subq", "real"), 4096)
    dense = found["dense"][0]
    gap = dense["first_nll"] - dense["copy_nll"]
    best, window = (found[name][-1] for name in ("oracle", "window"))
    assert best["copy_high"] < window["copy_low"]
    assert best["copy_nll"] - dense["copy_nll"] < 0.2 * gap
    assert window["copy_nll"] > dense["first_nll"] - 0.2 * gap
    assert window["perplexity"] < 1.2 * dense["perplexity"]
