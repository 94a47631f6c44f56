"""SoftMoE's layer: the cut, the rules beside it, budgets of layers, experts that run or do not."""

import itertools
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.concepts.softmoe.lapsum import hard_top_k, soft_top_k
from aiexplained.concepts.softmoe.layer import Experts, MixtureOfExperts, Routing
from aiexplained.concepts.softmoe.routing import (
    HardTopK,
    LayerBudgets,
    ReLURouter,
    SoftmaxAll,
    SoftTopK,
    Told,
    anneal,
    load_balance_loss,
    truncate,
)

B, T, E, D, F = 2, 11, 7, 5, 3
N = B * T
CUTS = [(2.0, 1.8), (2.0, 0.0), (4.0, 1.0), (0.1, 1.8), (1.0, 0.0), (3.5, 50.0)]


def make_randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make_experts(seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return Experts(E, D, F, generator=generator, **options).double()


def make_layer(router, *, seed=0, **options):
    return MixtureOfExperts(make_experts(), router, seed=seed, **options).double()


def naive_truncate(row, k, expansion, cut):
    ordered = sorted(row, reverse=True)
    most = min(max(1, math.ceil(expansion * k)), len(row))
    threshold = min(max(cut * k / len(row), ordered[most - 1]), ordered[0])
    return [p if p >= threshold else 0.0 for p in row]


# The cut


@pytest.mark.parametrize(("expansion", "cut"), CUTS)
@pytest.mark.parametrize("k", [0.3, 1.5, 2.0, 5.25])
def test_the_cut_follows_its_rule_row_by_row(k, expansion, cut):
    weights = soft_top_k(make_randn(B, T, E), k)
    expected = [naive_truncate(row, k, expansion, cut) for row in weights.flatten(0, 1).tolist()]
    kept = truncate(weights, k, expansion=expansion, cut=cut)
    assert kept.flatten(0, 1).tolist() == expected


@pytest.mark.parametrize(("expansion", "cut"), CUTS)
def test_a_budget_for_each_token_cuts_each_by_its_own(expansion, cut):
    scores = make_randn(T, E)
    k = torch.linspace(0.3, 6.1, T, dtype=torch.float64)
    weights = soft_top_k(scores, k)
    kept = truncate(weights, k, expansion=expansion, cut=cut)
    expected = [
        naive_truncate(row, budget, expansion, cut)
        for row, budget in zip(weights.tolist(), k.tolist(), strict=True)
    ]
    assert kept.tolist() == expected
    if cut == 1.8 and expansion == 2:
        assert not torch.equal(kept, truncate(weights, 0.3, expansion=expansion, cut=cut))


@settings(deadline=None)
@given(
    st.lists(st.floats(-5, 5), min_size=2, max_size=23, unique=True),
    st.floats(0.01, 0.99),
    st.floats(0.1, 9),
    st.floats(0, 99),
)
def test_the_highest_weight_survives_and_no_more_than_the_most(scores, share, expansion, cut):
    k = share * len(scores)
    weights = soft_top_k(torch.tensor(scores, dtype=torch.float64), k, temperature=0.5)
    kept = truncate(weights, k, expansion=expansion, cut=cut)
    survive = kept != 0
    assert survive[weights.argmax()]
    tied = len(weights) - len(weights.unique())
    assert survive.sum() <= max(1, math.ceil(expansion * k)) + tied
    assert torch.equal(kept[survive], weights[survive])
    assert (weights[survive].min() > weights[~survive]).all()


def test_a_budget_that_was_rounded_upward_keeps_no_expert_more():
    weights = soft_top_k(make_randn(T, E), 2.0)
    for k in (2.0, 2.0000001, torch.tensor(2.0000002), torch.full((T,), 2.0000002)):
        assert ((truncate(weights, k, cut=0) > 0).sum(dim=-1) == 4).all()
    assert ((truncate(weights, 2.1, cut=0) > 0).sum(dim=-1) == 5).all()


def test_the_cut_passes_gradients_to_what_it_keeps_and_to_nothing_else():
    weights = soft_top_k(make_randn(T, E), 2.5).requires_grad_()
    k = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    kept = truncate(weights, k, cut=1.0)
    upstream = make_randn(T, E, seed=1)
    kept.backward(upstream)
    assert 0 < int((kept == 0).sum()) < kept.numel()
    assert torch.equal(weights.grad, upstream * (kept != 0))
    assert k.grad is None


def test_the_score_of_an_expert_that_was_cut_still_moves_those_that_run():
    scores = make_randn(E).requires_grad_()
    kept = SoftTopK(2.0)(scores[None])[0]
    (grad,) = torch.autograd.grad(kept.sum(), scores)
    assert (kept == 0).any()
    assert (grad[kept == 0] < 0).all()


@pytest.mark.parametrize("k", [0.0, -1.0, math.nan])
def test_the_cut_rejects_budgets_that_are_not_positive(k):
    with pytest.raises(ValueError, match=f"k must be positive, got {k}"):
        truncate(torch.ones(2, 3), k)


def test_the_balance_loss_rejects_choices_of_other_tokens(without_shape_checks):
    with pytest.raises(ValueError, match=r"like the scores \(3, 2\), got \(2, 2\)"):
        load_balance_loss(torch.zeros(3, 2), torch.ones(2, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("expansion", "cut"), [(0.0, 1.0), (-2.0, 1.0), (2.0, -0.1), (2.0, math.nan)]
)
def test_the_cut_rejects_what_would_keep_nothing_or_mean_nothing(expansion, cut):
    with pytest.raises(ValueError, match=f"got {expansion} and {cut}"):
        truncate(torch.zeros(T, E), 2.0, expansion=expansion, cut=cut)


def test_the_temperature_falls_from_start_to_end_and_stays():
    found = [anneal(step, steps=40, start=5.0, end=0.5) for step in range(60)]
    assert found[0] == 5.0
    assert found[20] == pytest.approx(2.75)
    assert found[40:] == [0.5] * 20
    assert all(a > b for a, b in itertools.pairwise(found[:41]))
    # A cosine: slow at both ends.
    assert found[0] - found[1] < (found[19] - found[20]) / 10


# The balance of loads


def test_the_balance_loss_is_its_formula():
    scores = make_randn(N, E)
    active = make_randn(N, E, seed=1) > 0.3
    probability = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    mean_active = float(active.double().sum()) / N
    total = sum(float(probability[:, e].sum()) * int(active[:, e].sum()) for e in range(E))
    expected = E / (N**2 * mean_active) * total
    assert float(load_balance_loss(scores, active)) == pytest.approx(expected, rel=1e-13)
    assert float(load_balance_loss(scores, active & False)) == 0


@pytest.mark.parametrize("n_active", [1, 3])
def test_the_balance_loss_is_one_where_loads_are_even_and_more_where_scores_pull(n_active):
    scores = make_randn(E, E)
    turns = torch.arange(E)[:, None] + torch.arange(n_active)
    even = torch.zeros(E, E, dtype=torch.bool).scatter_(1, turns % E, True)
    assert float(load_balance_loss(scores, even)) == pytest.approx(1, rel=1e-13)
    pulled = make_randn(N, E) + torch.linspace(0, 3, E)
    losses = [float(load_balance_loss(s, hard_top_k(s, n_active))) for s in (pulled, 3 * pulled)]
    assert 1 < losses[0] < losses[1]


def test_the_balance_loss_makes_the_busiest_expert_less_likely():
    scores = (make_randn(N, E) + torch.linspace(0, 2, E)).requires_grad_()
    active = hard_top_k(scores, 2)
    runs = active.sum(dim=0)
    (grad,) = torch.autograd.grad(load_balance_loss(scores, active), scores)
    change = (scores - 10 * grad).softmax(dim=-1).sum(dim=0) - scores.softmax(dim=-1).sum(dim=0)
    assert change[runs.argmax()] < 0 < change[runs.argmin()]


# Routers


def test_hard_top_k_weighs_the_chosen_before_or_after_choosing():
    scores = make_randn(N, E)
    mask = hard_top_k(scores, 3)
    before, after = HardTopK(3)(scores), HardTopK(3, renormalize=True)(scores)
    assert torch.equal(before != 0, mask)
    assert torch.equal(before[mask], scores.softmax(dim=-1)[mask])
    assert (before.sum(dim=-1) < 1).all()
    torch.testing.assert_close(after, scores.masked_fill(~mask, -math.inf).softmax(dim=-1))


def test_all_experts_run_where_none_is_chosen():
    scores = make_randn(N, E)
    weights = SoftmaxAll()(scores)
    assert torch.equal(weights, scores.softmax(dim=-1))
    assert (Routing(scores, weights).active_experts == E).all()


def test_a_relu_router_is_penalized_more_until_it_runs_fewer():
    router = ReLURouter(2.0, penalty=0.5, rate=1.5)
    scores = make_randn(N, E)
    assert torch.equal(router(scores), scores.clamp(min=0))
    for active, expected in ((2.1, 0.75), (7, 1.125), (1.9, 0.75), (2.0, 0.5), (0, 1 / 3)):
        router.adapt(active)
        assert router.penalty == pytest.approx(expected)


def test_told_runs_what_it_is_told_and_refuses_what_is_not_for_these_tokens():
    scores, router = make_randn(N, E), Told()
    with pytest.raises(ValueError, match=r"like the scores \(22, 7\), got None"):
        router(scores)
    router.needed = hard_top_k(scores, 2).double()
    assert router(scores) is router.needed
    router.needed = router.needed[1:]
    with pytest.raises(ValueError, match=r"like the scores \(22, 7\), got \(21, 7\)"):
        router(scores)


def test_the_soft_router_is_soft_top_k_and_the_cut_and_asks_for_its_budget_each_time():
    scores = make_randn(N, E)
    budgets = iter([torch.tensor(1.5), torch.tensor(3.0)])
    router = SoftTopK(lambda: next(budgets), temperature=0.5, expansion=3.0, cut=1.0)
    for k in (1.5, 3.0):
        expected = truncate(soft_top_k(scores, k, temperature=0.5), k, expansion=3.0, cut=1.0)
        assert torch.equal(router(scores), expected)
        assert torch.equal(SoftTopK(k, 0.5, 3.0, 1.0)(scores), expected)


# Budgets of layers


@settings(deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=13), st.floats(1, 4))
def test_budgets_sum_to_what_there_is_and_no_layer_falls_below_one(eta, mean):
    n_layers = len(eta)
    n_experts = math.ceil(n_layers * (mean - 1)) + 2
    budgets = LayerBudgets(n_layers, mean, n_experts)
    assert budgets().tolist() == pytest.approx([mean] * n_layers, rel=1e-6)
    budgets.eta.data = torch.tensor(eta)
    found = budgets().detach()
    assert float(found.sum()) == pytest.approx(n_layers * mean, rel=1e-6)
    assert (found >= 1).all()
    assert (found < n_experts).all()
    assert found[budgets.eta.argmax()] == found.max()
    assert [budgets.budget(layer).item() for layer in range(n_layers)] == found.tolist()


def test_a_loss_moves_budget_to_the_layer_that_can_use_it():
    budgets = LayerBudgets(3, 1.7, E)
    scores = make_randn(3, N, E)
    value = torch.tensor([0.1, 1.0, 0.3])
    routers = [SoftTopK(partial(budgets.budget, layer), cut=0) for layer in range(3)]
    weights = [router(row) for router, row in zip(routers, scores, strict=True)]
    gain = sum(v * w.sum(dim=-1).mean() for v, w in zip(value, weights, strict=True))
    (-gain).backward()
    before = budgets().detach()
    budgets.eta.data -= 0.1 * budgets.eta.grad
    change = budgets().detach() - before
    assert change[1] > 0 > change[0]
    assert float(change.sum()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("n_layers", "mean", "n_experts"), [(0, 2.0, 8), (3, 0.9, 8), (7, 2.0, 8), (2, 4.0, 7)]
)
def test_budgets_that_cannot_be_are_refused(n_layers, mean, n_experts):
    message = f"got {n_layers} layers of {mean} and {n_experts} experts"
    with pytest.raises(ValueError, match=message):
        LayerBudgets(n_layers, mean, n_experts)


# Experts


def dense_sum(experts, x, weights):
    rows = []
    for token, row in zip(x, weights, strict=True):
        parts = [
            row[e] * (experts.down[e] @ torch.nn.functional.gelu(experts.up[e] @ token))
            for e in range(E)
        ]
        rows.append(torch.stack(parts).sum(dim=0))
    return torch.stack(rows)


def test_experts_give_the_weighted_sum_over_all_and_its_gradients():
    experts, upstream = make_experts(), make_randn(N, D, seed=2)
    x, p = make_randn(N, D).requires_grad_(), make_randn(N, E, seed=1).requires_grad_()
    weights = p.where(p > 0.4, 0.0)
    inputs = (x, p, experts.up, experts.down)
    found, expected = experts(x, weights), dense_sum(experts, x, weights)
    torch.testing.assert_close(found, expected)
    grads, dense_grads = (
        torch.autograd.grad((out * upstream).sum(), inputs, retain_graph=True)
        for out in (found, expected)
    )
    for grad, dense in zip(grads, dense_grads, strict=True):
        assert dense.abs().max() > 0
        torch.testing.assert_close(grad, dense)


def test_an_expert_reads_only_the_tokens_that_give_it_weight(monkeypatch):
    experts, x = make_experts(), make_randn(N, D)
    mask = make_randn(N, E, seed=1) > 0.4
    mask[:, 3] = False
    run, read = experts.run, {}

    def counted(expert, tokens):
        read[expert] = tokens
        return run(expert, tokens)

    monkeypatch.setattr(experts, "run", counted)
    experts(x, mask.double())
    assert sorted(read) == [0, 1, 2, 4, 5, 6]
    assert all(torch.equal(tokens, x[mask[:, e]]) for e, tokens in read.items())


def test_an_expert_that_nobody_chose_is_not_run_and_learns_nothing():
    experts, x = make_experts(), make_randn(N, D)
    with torch.no_grad():
        experts.up[3], experts.down[3] = math.nan, math.nan
    weights = torch.ones(N, E, dtype=torch.float64)
    assert experts(x, weights).isnan().all()
    weights[:, 3] = 0
    out = experts(x, weights)
    assert out.isfinite().all()
    out.square().sum().backward()
    for grad in (experts.up.grad, experts.down.grad):
        assert (grad[3] == 0).all()
        assert (grad[:3].abs().amax(dim=(1, 2)) > 0).all()
    assert torch.equal(experts(x, 0 * weights), torch.zeros_like(x))


def test_deeper_models_write_less_into_the_stream():
    shallow, deep = make_experts(), make_experts(depth=4)
    assert torch.equal(shallow.up, deep.up)
    torch.testing.assert_close(deep.down, shallow.down / 2)
    wide = Experts(11, 97, 53, generator=torch.Generator().manual_seed(0))
    assert float(wide.up.detach().std()) == pytest.approx(97**-0.5, rel=0.02)
    assert float(wide.down.detach().std()) == pytest.approx((2 * 53) ** -0.5, rel=0.02)


@pytest.mark.parametrize("shape", [(N, E - 1), (N - 1, E), (1, E), (E,)])
def test_experts_reject_weights_that_are_not_for_these_tokens(shape):
    found = ", ".join(map(str, shape))
    with pytest.raises(ValueError, match=rf"must be \[22, 7\], got \({found},?\)"):
        make_experts()(make_randn(N, D), torch.ones(shape))


# The layer


@pytest.mark.parametrize("router", [HardTopK(2), SoftTopK(1.5), ReLURouter(2.0), SoftmaxAll()])
def test_the_layer_is_its_router_and_its_experts_for_any_batch(router):
    layer, x = make_layer(router), make_randn(B, T, D)
    out = layer(x)
    flat = x.flatten(0, 1)
    weights = router(flat @ layer.weight.mT)
    torch.testing.assert_close(out, dense_sum(layer.experts, flat, weights).view_as(x))
    assert torch.equal(layer.routing.active, weights != 0)
    assert torch.equal(layer.routing.active_experts, (weights != 0).sum(dim=-1).double())
    expected = load_balance_loss(layer.routing.logits, weights != 0)
    assert torch.equal(layer.routing.load_balance, expected)
    torch.testing.assert_close(layer(flat), out.flatten(0, 1))
    torch.testing.assert_close(layer(x[1, 3]), out[1, 3])


def test_scores_are_noisy_while_training_only_and_the_noise_follows_the_seed():
    x = make_randn(N, D)
    layer, same, other = (make_layer(HardTopK(2), seed=s, noise=0.5) for s in (3, 3, 4))
    clean = x @ layer.weight.mT
    layer(x), same(x), other(x)
    noise = layer.routing.logits - clean
    assert float(noise.detach().std()) == pytest.approx(0.5, rel=4 / math.sqrt(2 * N * E))
    assert torch.equal(same.routing.logits, layer.routing.logits)
    assert not torch.equal(layer.weight, other.weight)
    layer(x)
    assert not torch.equal(layer.routing.logits, clean + noise)
    layer.eval()(x)
    assert torch.equal(layer.routing.logits, clean)
    quiet = make_layer(HardTopK(2), seed=3)
    quiet(x)
    assert torch.equal(quiet.routing.logits, clean)


def test_a_router_of_another_number_of_experts_is_refused():
    layer = make_layer(lambda scores: scores[:, 1:])
    with pytest.raises(ValueError, match=r"must be \[22, 7\], got \(22, 6\)"):
        layer(make_randn(N, D))
