"""SoftMoE's soft top-k: what its weights sum to, its gradients, limits, errors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.concepts.softmoe.lapsum import (
    hard_top_k,
    laplace_cdf,
    soft_threshold,
    soft_top_k,
)

B, T, E = 2, 3, 7
EPS = torch.finfo(torch.float64).eps


def make_scores(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rounding(scores, temperature):
    """Bound of a sum's error: up to E weights, from sums of E terms and logarithms this large."""
    n_experts = scores.shape[-1]
    return 4 * EPS * n_experts * (n_experts + float(scores.abs().max()) / temperature)


def naive_threshold(row, k, temperature):
    """By halving an interval, with the distribution function of torch."""
    laplace = torch.distributions.Laplace(
        torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    )
    low, high = row.min() - 60 * temperature, row.max() + 60 * temperature
    for _ in range(200):
        middle = (low + high) / 2
        if laplace.cdf((row - middle) / temperature).sum() > k:
            low = middle
        else:
            high = middle
    return low, laplace.cdf((row - low) / temperature)


def is_reference(weights, scores, k, temperature):
    rows = zip(weights.flatten(0, -2), scores.flatten(0, -2), strict=True)
    return all(
        torch.allclose(found, naive_threshold(row, k, temperature)[1], rtol=0, atol=1e-9)
        for found, row in rows
    )


score_lists = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(-1e3, 1e3)), min_size=1, max_size=43
)
shares = st.floats(1e-9, 1 - 1e-9)
temperatures = st.floats(1e-3, 1e3)


# Weights


@settings(deadline=None)
@given(score_lists, shares, temperatures)
def test_weights_sum_to_the_budget_whatever_the_scores(scores, share, temperature):
    r = torch.tensor(scores, dtype=torch.float64)
    k = share * len(scores)
    weights = soft_top_k(r, k, temperature=temperature)
    assert float(weights.sum()) == pytest.approx(k, rel=0, abs=rounding(r, temperature))
    assert ((weights >= 0) & (weights <= 1)).all()


@settings(deadline=None)
@given(score_lists, shares, temperatures)
def test_a_higher_score_has_a_higher_weight_and_equal_scores_have_the_same(scores, share, alpha):
    r = torch.tensor(scores, dtype=torch.float64)
    order = r.argsort(descending=True)
    weights = soft_top_k(r, share * len(scores), temperature=alpha)[order]
    fall = weights[:-1] - weights[1:]
    # Vector and scalar code may round an exponential differently.
    assert (fall >= -2 * EPS).all()
    assert (fall[r[order][:-1] == r[order][1:]].abs() <= 2 * EPS).all()


@pytest.mark.parametrize("k", [1e-6, 0.3, 1.0, 2.5, 4, 6.7, E - 1e-6])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
def test_a_search_by_halves_finds_the_same_weights(k, temperature):
    scores = 2 * make_scores(B, T, E)
    weights = soft_top_k(scores, k, temperature=temperature)
    assert is_reference(weights, scores, k, temperature)


def test_a_softmax_times_the_budget_would_be_caught():
    scores = 2 * make_scores(B, T, E)
    scaled = 2.5 * scores.softmax(dim=-1)
    assert scaled.max() > 1
    assert not is_reference(scaled, scores, 2.5, 1.0)


@pytest.mark.parametrize("n_tied", [2, 5, E])
def test_ties_share_what_is_left_evenly(n_tied):
    scores = torch.cat([torch.zeros(n_tied), -torch.full((E - n_tied,), 50.0)]).double()
    weights = soft_top_k(scores, 1.5)
    rest = (E - n_tied) * math.exp(-49)
    torch.testing.assert_close(
        weights[:n_tied], torch.full_like(weights[:n_tied], 1.5 / n_tied), rtol=0, atol=rest + 1e-14
    )


@pytest.mark.parametrize("k", [1e-9, 0.25, 0.5, 0.999])
def test_one_expert_alone_has_the_whole_budget(k):
    score = torch.tensor([[3.7]], dtype=torch.float64)
    assert float(soft_top_k(score, k)) == pytest.approx(k, rel=1e-12)


def test_every_weight_rises_with_the_budget():
    scores = make_scores(T, E)
    by_budget = torch.stack([soft_top_k(scores, k) for k in (0.01, 0.5, 1, 1.5, 3, 5.5, 6.99)])
    assert (by_budget.diff(dim=0) > 0).all()


def test_neither_a_shift_nor_a_common_scale_of_scores_and_temperature_matters():
    scores = (64 * make_scores(T, E)).round() / 64
    weights = soft_top_k(scores, 2.3, temperature=0.5)
    shifted = soft_top_k(scores + 1024, 2.3, temperature=0.5)
    torch.testing.assert_close(
        shifted, weights, rtol=0, atol=rounding(scores + 1024, temperature=0.5)
    )
    assert torch.equal(soft_top_k(scores * 8, 2.3, temperature=4.0), weights)
    assert not torch.allclose(soft_top_k(scores * 8, 2.3, temperature=0.5), weights, atol=1e-3)


def test_the_order_of_the_experts_does_not_matter():
    scores = make_scores(T, E)
    order = torch.randperm(E, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        soft_top_k(scores[:, order], 2.3), soft_top_k(scores, 2.3)[:, order], rtol=0, atol=2 * EPS
    )


def test_a_batch_is_its_rows_and_a_budget_for_each_is_theirs():
    scores = make_scores(B, T, E)
    k = torch.tensor([[0.4, 1.0, 1.5], [2.0, 3.3, 6.5]], dtype=torch.float64)
    weights = soft_top_k(scores, k, temperature=0.7)
    thresholds = soft_threshold(scores, k, temperature=0.7)
    for b in range(B):
        for t in range(T):
            row, budget = scores[b, t], float(k[b, t])
            alone = soft_top_k(row, budget, temperature=0.7)
            torch.testing.assert_close(weights[b, t], alone, rtol=0, atol=1e-14)
            alone = soft_threshold(row, budget, temperature=0.7)
            torch.testing.assert_close(thresholds[b, t], alone, rtol=0, atol=1e-14)
    assert soft_top_k(scores[:0], 2.0).shape == (0, T, E)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_lower_precision_gets_the_weights_of_float64_rounded_once(dtype):
    scores = make_scores(T, E, dtype=torch.float32).to(dtype).requires_grad_()
    k = torch.tensor([1.5, 2.0, 3.25], dtype=dtype, requires_grad=True)
    weights = soft_top_k(scores, k)
    assert weights.dtype == dtype
    assert torch.equal(weights, soft_top_k(scores.detach().double(), k.detach()).to(dtype))
    assert soft_threshold(scores, k).dtype == dtype
    weights.square().sum().backward()
    assert scores.grad.dtype == k.grad.dtype == dtype


def test_a_whole_budget_may_be_an_integer_tensor():
    scores = make_scores(T, E).requires_grad_()
    weights = soft_top_k(scores, torch.tensor(2))
    assert torch.equal(weights, soft_top_k(scores, 2))
    assert torch.autograd.grad(weights.square().sum(), scores)[0].abs().max() > 0


# Limits


@pytest.mark.parametrize("k", range(1, E))
def test_a_falling_temperature_gives_the_mask_of_hard_top_k(k):
    scores = make_scores(T, E, seed=2)
    ordered = scores.sort(dim=-1, descending=True).values
    gap = float((ordered[:, k - 1] - ordered[:, k]).min())
    mask = hard_top_k(scores, k).double()
    for width in (10, 20, 40):
        # Half of the gap or more separates the curve's center from all on one side of it.
        bound = E / 2 * math.exp(-width / 2)
        weights = soft_top_k(scores, k, temperature=gap / width)
        assert (weights - mask).abs().max() <= bound
    assert (soft_top_k(scores, k) - mask).abs().max() > bound


def test_a_falling_temperature_leaves_the_fraction_of_a_budget_to_one_expert():
    scores = torch.tensor([0.3, 2.0, -1.0, 1.0, 0.0], dtype=torch.float64)
    weights = soft_top_k(scores, 2.25, temperature=1e-3)
    expected = torch.tensor([0.25, 1, 0, 1, 0], dtype=torch.float64)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-13)


def test_a_rising_temperature_gives_all_experts_the_same():
    scores = make_scores(T, E)
    spread = float((scores.amax(dim=-1) - scores.amin(dim=-1)).max())
    for temperature in (1.0, 100.0, 1e6):
        weights = soft_top_k(scores, 2.3, temperature=temperature)
        # No curve is steeper than 1 / (2 α).
        assert (weights - 2.3 / E).abs().max() <= spread / (2 * temperature)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("k", [1e-6, 1.5, 5000.0, 9999.5])
def test_ten_thousand_large_scores_have_finite_weights_and_gradients(dtype, temperature, k):
    scores = (1000 * make_scores(10_000, dtype=dtype)).requires_grad_()
    budget = torch.tensor(k, dtype=torch.float64, requires_grad=True)
    weights = soft_top_k(scores, budget, temperature=temperature)
    found = float(weights.detach().double().sum())
    # What rounding to the type may add: half an eps of each weight.
    atol = rounding(scores.detach(), temperature) + k * torch.finfo(dtype).eps
    assert found == pytest.approx(k, rel=0, abs=atol)
    upstream = torch.linspace(-1, 1, 10_000, dtype=dtype)
    grads = torch.autograd.grad((weights * upstream).sum(), (scores, budget))
    assert all(grad.isfinite().all() for grad in grads)


# Gradients


@pytest.mark.parametrize("shape", [(), (1,), (T,), (1, 1), (B, 1), (1, T), (B, T)])
def test_gradients_for_scores_and_budgets_match_finite_differences(shape):
    scores = make_scores(B, T, E).requires_grad_()
    k = 1 + 4 * torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    k.requires_grad_()
    for temperature in (0.3, 2.0):
        assert torch.autograd.gradcheck(
            lambda r, k, alpha=temperature: soft_top_k(r, k, temperature=alpha), (scores, k)
        )


def test_a_threshold_held_fixed_would_be_caught_by_finite_differences():
    def leaky(scores):
        return laplace_cdf(scores - soft_threshold(scores, 2.3)[..., None])

    scores = make_scores(T, E).requires_grad_()
    torch.testing.assert_close(leaky(scores), soft_top_k(scores, 2.3))
    assert not torch.autograd.gradcheck(leaky, (scores,), raise_exception=False)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_more_budget_is_shared_out_in_whole_and_scores_only_move_it(temperature):
    scores, k = make_scores(E), torch.tensor(2.3, dtype=torch.float64)
    by_score, by_budget = torch.autograd.functional.jacobian(
        lambda r, k: soft_top_k(r, k, temperature=temperature), (scores, k)
    )
    assert float(by_budget.sum()) == pytest.approx(1, rel=1e-14)
    assert (by_budget > 0).all()
    zeros = torch.zeros(E, dtype=torch.float64)
    atol = E * EPS / temperature
    torch.testing.assert_close(by_score.sum(dim=0), zeros, rtol=0, atol=atol)
    torch.testing.assert_close(by_score.sum(dim=1), zeros, rtol=0, atol=atol)
    assert (by_score.diagonal() > 0).all()
    assert (by_score - by_score.diagonal().diag() <= 0).all()


def test_a_budget_that_is_shared_gathers_the_gradients_of_its_tokens():
    scores, upstream = make_scores(B, T, E), make_scores(B, T, E, seed=1)
    one = torch.tensor([1.7], dtype=torch.float64, requires_grad=True)
    each = torch.full((B, T), 1.7, dtype=torch.float64, requires_grad=True)
    for k in (one, each):
        (soft_top_k(scores, k) * upstream).sum().backward()
    torch.testing.assert_close(one.grad, each.grad.sum().reshape(1))


def test_a_second_derivative_is_refused_and_not_wrong():
    scores = make_scores(E).requires_grad_()
    loss = soft_top_k(scores, 2.3).square().sum()
    (grad,) = torch.autograd.grad(loss, scores, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


# The curve and its threshold


def test_the_curve_is_the_distribution_function_of_torch():
    u = torch.linspace(-9, 9, 181, dtype=torch.float64)
    zero, one = torch.zeros_like(u), torch.ones_like(u)
    expected = torch.distributions.Laplace(zero, one).cdf(u)
    torch.testing.assert_close(laplace_cdf(u), expected, rtol=0, atol=2 * EPS)
    assert float(laplace_cdf(torch.tensor(-700.0, dtype=torch.float64))) > 0


@pytest.mark.parametrize("k", [0.01, 1.0, 2.5, 6.9])
def test_the_threshold_is_where_the_heights_of_the_curve_sum_to_the_budget(k):
    scores = make_scores(T, E).requires_grad_()
    threshold = soft_threshold(scores, k, temperature=0.4)
    assert not threshold.requires_grad
    heights = laplace_cdf((scores - threshold[:, None]) / 0.4)
    torch.testing.assert_close(heights, soft_top_k(scores, k, temperature=0.4))
    for row, found in zip(scores.detach(), threshold, strict=True):
        assert float(found) == pytest.approx(float(naive_threshold(row, k, 0.4)[0]), abs=1e-9)


@pytest.mark.parametrize("k", [1, 3, E, 3.0])
def test_hard_top_k_chooses_as_many_as_asked_and_the_highest(k):
    scores = make_scores(B, T, E)
    mask = hard_top_k(scores, k)
    assert mask.shape == scores.shape
    assert mask.dtype == torch.bool
    assert (mask.sum(dim=-1) == k).all()
    for row, chosen in zip(scores.flatten(0, 1), mask.flatten(0, 1), strict=True):
        assert row[chosen].tolist() == [r for r in row.tolist() if r in sorted(row)[-int(k) :]]
    assert (hard_top_k(torch.zeros(T, E), k).sum(dim=-1) == k).all()


# Errors


@pytest.mark.parametrize("call", [soft_top_k, soft_threshold])
@pytest.mark.parametrize(
    ("scores", "k", "temperature", "message"),
    [
        (torch.zeros(T, E), 0, 1.0, "strictly between 0 and the number of experts 7, got 0.0 to"),
        (torch.zeros(T, E), E, 1.0, "strictly between 0 and the number of experts 7, got 7.0 to"),
        (torch.zeros(T, E), math.nan, 1.0, "got nan to nan"),
        (torch.zeros(T, E), torch.tensor([1.0, 2.0, 7.5]), 1.0, "got 1.0 to 7.5"),
        (torch.zeros(T, E), torch.tensor([1.0, -0.5, 2.0]), 1.0, "got -0.5 to 2.0"),
        (torch.zeros(T, E), torch.ones(B), 1.0, r"one a token \(3,\); got shape \(2,\)"),
        (torch.zeros(E), torch.ones(1), 1.0, r"one a token \(\); got shape \(1,\)"),
        (torch.zeros(T, E), 2.0, 0.0, "temperature must be positive and finite, got 0.0"),
        (torch.zeros(T, E), 2.0, -1.0, "temperature must be positive and finite, got -1.0"),
        (torch.zeros(T, E), 2.0, math.inf, "temperature must be positive and finite, got inf"),
        (torch.zeros(T, E), 2.0, math.nan, "temperature must be positive and finite, got nan"),
        (torch.zeros(T, E).long(), 2.0, 1.0, r"floating-point .* got \(3, 7\) of torch.int64"),
        (torch.zeros(()), 0.5, 1.0, r"at least one expert, got \(\) of torch.float32"),
        (torch.zeros(T, 0), 0.5, 1.0, r"at least one expert, got \(3, 0\)"),
        (torch.tensor([0.0, math.inf, 1.0]), 2.0, 1.0, "router_logits must be finite"),
        (torch.tensor([0.0, math.nan, 1.0]), 2.0, 1.0, "router_logits must be finite"),
    ],
)
def test_soft_top_k_rejects_what_has_no_answer(call, scores, k, temperature, message):
    with pytest.raises(ValueError, match=message):
        call(scores, k, temperature=temperature)


@pytest.mark.parametrize("k", [0, -1, 8, 1.5])
def test_hard_top_k_rejects_budgets_that_are_no_number_of_experts(k):
    with pytest.raises(ValueError, match=f"takes whole k from 1 to 7 experts, got {k}"):
        hard_top_k(torch.zeros(T, E), k)
