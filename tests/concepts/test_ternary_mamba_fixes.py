"""Ternary Mamba: what rounding without training promises, rule by rule."""

from __future__ import annotations

import itertools

import pytest
import torch

from aiexplained.concepts.ternary_mamba.fixes import (
    FIXES,
    output_error,
    second_moments,
)
from aiexplained.nn import ternarize

N, K, GROUP, T = 5, 59, 13, 211
EXACT = {"rtol": 0, "atol": 0}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def weight():
    return normal(N, K)


@pytest.fixture
def gram():
    """Moments of inputs that share a few directions."""
    return second_moments(normal(T, 7, seed=1) @ normal(7, K, seed=2) + 0.3 * normal(T, K, seed=3))


def squares(x):
    return x.square().sum(dim=1)


@pytest.mark.parametrize("name", FIXES)
@pytest.mark.parametrize("size", [2, GROUP, K, 128])
def test_every_group_has_three_values_of_one_magnitude(weight, gram, name, size):
    rounded = FIXES[name](weight, gram, size)
    assert rounded.shape == weight.shape
    assert rounded.dtype == weight.dtype
    assert not torch.equal(rounded, weight)
    for group in rounded.abs().split(size, dim=1):
        largest = group.amax(dim=1, keepdim=True)
        assert torch.minimum(group, (group - largest).abs()).max() < 1e-12


@pytest.mark.parametrize("name", FIXES)
def test_a_row_does_not_depend_on_others_and_zeros_stay_zeros(weight, gram, name):
    weight[2] = 0
    rounded = FIXES[name](weight, gram, GROUP)
    assert not rounded[2].any()
    torch.testing.assert_close(FIXES[name](weight[3:4], gram, GROUP), rounded[3:4])


@pytest.mark.parametrize("name", FIXES)
def test_the_scale_of_the_weight_is_the_scale_of_the_result(weight, gram, name):
    rounded = FIXES[name](weight, gram, GROUP)
    torch.testing.assert_close(FIXES[name](-8 * weight, gram, GROUP), -8 * rounded)
    assert FIXES[name](weight.float(), gram, GROUP).dtype == torch.float32


def test_absmean_is_what_the_layer_multiplies_by(weight):
    ternary, scale = ternarize(weight, GROUP)
    each = torch.stack([scale[:, k // GROUP] for k in range(K)], dim=1)
    torch.testing.assert_close(FIXES["absmean"](weight, None, GROUP), ternary * each, **EXACT)


def test_least_squares_finds_the_best_of_all_codes():
    weight, best = normal(N, 7), torch.full((N,), float("inf"), dtype=torch.float64)
    for codes in itertools.product((-1.0, 0.0, 1.0), repeat=7):
        t = torch.tensor(codes, dtype=torch.float64)
        scale = (weight @ t) / max(1.0, float(t @ t))
        best = torch.minimum(best, squares(weight - scale[:, None] * t))
    found = squares(weight - FIXES["least squares"](weight, None, 7))
    torch.testing.assert_close(found, best)
    absmean = squares(weight - FIXES["absmean"](weight, None, 7))
    assert (absmean > 1.02 * best).any()  # the search would tell


def test_least_squares_is_never_farther_from_the_weight_than_absmean(weight):
    for size in (1, 3, GROUP, K):
        near, far = (weight - FIXES[f](weight, None, size) for f in ("least squares", "absmean"))
        assert (squares(near) <= squares(far) + 1e-12).all()


def test_shrinkage_moves_scales_toward_the_mean_of_their_row_by_stein_s_factor(weight):
    weight[:, 26:39] *= 4
    rounded = FIXES["shrinkage"](weight, None, GROUP)
    for row, shrunk in zip(weight, rounded, strict=True):
        groups = [group.abs() for group in row.split(GROUP)]
        scales = torch.stack([group.mean() for group in groups])
        noise = torch.stack([group.var() / len(group) for group in groups]).mean()
        middle = scales.mean()
        keep = 1 - (len(groups) - 3) * noise / (scales - middle).square().sum()
        assert 0 < keep < 1
        found = torch.stack([group.abs().amax() for group in shrunk.split(GROUP)])
        torch.testing.assert_close(found, middle + keep * (scales - middle))


def test_shrinkage_changes_nothing_where_groups_are_alike_or_few(weight):
    alike = weight[:, :GROUP].repeat(1, 5)
    torch.testing.assert_close(*(FIXES[f](alike, None, GROUP) for f in ("shrinkage", "absmean")))
    few = weight[:, : 3 * GROUP]
    torch.testing.assert_close(
        *(FIXES[f](few, None, GROUP) for f in ("shrinkage", "absmean")), **EXACT
    )
    changed = (
        FIXES["shrinkage"](weight, None, GROUP) - FIXES["absmean"](weight, None, GROUP)
    ).abs()
    assert changed.max() > 0.01


def test_shrinkage_gives_one_scale_where_groups_differ_by_chance_only():
    """Scales that vary less than chance would have them: the factor would be negative."""
    weight = torch.cat([normal(1, 5) + 1e-3 * normal(1, 5, seed=s) for s in range(7)], dim=1)
    magnitudes = FIXES["shrinkage"](weight, None, 5).abs()
    assert len(magnitudes[magnitudes > 0].unique()) == 1


def test_sigma_delta_keeps_running_sums(weight):
    """What is carried obeys ``|e_k| <= max(s / 2, |e_(k-1)| + |w_k| - s)``."""
    scale = ternarize(weight, GROUP)[1].repeat_interleave(GROUP, dim=1)[:, :K]

    def keeps(rounded):
        carried = (weight - rounded).cumsum(dim=1)
        before = torch.cat([torch.zeros(N, 1), carried[:, :-1]], dim=1).abs()
        bound = torch.maximum(scale / 2, before + weight.abs() - scale)
        return (carried.abs() <= bound + 1e-12).all()

    assert keeps(FIXES["sigma-delta"](weight, None, GROUP))
    assert not keeps(FIXES["absmean"](weight, None, GROUP))


def test_sigma_delta_is_nearly_exact_on_constant_inputs_and_worse_on_independent_ones():
    weight = normal(N, 1009)
    constant = torch.ones(1009, 1009, dtype=torch.float64)
    error = {
        (name, moments): float(output_error(weight, FIXES[name](weight, None, 101), gram))
        for name in ("sigma-delta", "absmean")
        for moments, gram in (("same", constant), ("independent", torch.eye(1009)))
    }
    assert error["sigma-delta", "same"] < 0.05 * error["absmean", "same"]
    assert error["sigma-delta", "independent"] > 1.3 * error["absmean", "independent"]


def test_error_feedback_follows_the_inverse_recomputed_at_every_column(weight, gram):
    """The original form: after each column the best change of all later ones, solved anew."""
    damped = gram + 0.01 * gram.diagonal().mean() * torch.eye(K, dtype=torch.float64)
    moved, expected, scale = weight.clone(), torch.empty_like(weight), None
    for k in range(K):
        if k % GROUP == 0:
            scale = moved[:, k : k + GROUP].abs().mean(dim=1)
        expected[:, k] = scale * (moved[:, k] / scale).clamp(-1, 1).round()
        later = torch.linalg.solve(damped[k + 1 :, k + 1 :], damped[k + 1 :, k])
        moved[:, k + 1 :] += (moved[:, k] - expected[:, k])[:, None] * later
    torch.testing.assert_close(FIXES["error feedback"](weight, gram, GROUP), expected)


def test_error_feedback_lowers_the_error_of_outputs_on_inputs_that_go_together(gram):
    for seed in range(5):
        weight = normal(N, K, seed=seed)
        error = {f: output_error(weight, FIXES[f](weight, gram, GROUP), gram) for f in FIXES}
        assert error["error feedback"] < 0.5 * error["absmean"]
        plain = squares(weight - FIXES["absmean"](weight, gram, GROUP)).sum()
        assert squares(weight - FIXES["error feedback"](weight, gram, GROUP)).sum() > plain


@pytest.mark.parametrize("diagonal", [torch.ones(K), torch.arange(K)])
def test_error_feedback_is_absmean_where_inputs_do_not_go_together(weight, gram, diagonal):
    rounded = FIXES["absmean"](weight, None, GROUP)
    alone = FIXES["error feedback"](weight, torch.diag(diagonal.double()), GROUP)
    torch.testing.assert_close(alone, rounded)
    assert (FIXES["error feedback"](weight, gram, GROUP) - rounded).abs().max() > 0.1


def test_the_output_scale_is_the_best_factor_of_each_row(weight, gram):
    scaled = FIXES["output scale"](weight, gram, GROUP)
    plain = FIXES["absmean"](weight, None, GROUP)

    def errors(rounded):
        left = weight - rounded
        return ((left @ gram) * left).sum(dim=1)

    assert (errors(scaled) < errors(plain)).all()
    for factor in (0.98, 1.02):
        assert (errors(factor * scaled) > errors(scaled)).all()
    ratio = (scaled / plain)[plain != 0].reshape(-1)
    assert ratio.std() > 0.01  # rows have factors of their own


def test_moments_and_errors_are_those_of_the_inputs(weight):
    x = normal(3, T, K)
    rounded = FIXES["absmean"](weight, None, GROUP)
    whole, error = x @ weight.mT, x @ (weight - rounded).mT
    expected = error.square().sum() / whole.square().sum()
    torch.testing.assert_close(output_error(weight, rounded, second_moments(x)), expected)


@pytest.mark.parametrize("name", FIXES)
def test_input_that_does_not_fit_is_refused(weight, gram, name):
    with pytest.raises(ValueError, match="at least"):
        FIXES[name](weight, gram, 0)
    with pytest.raises(ValueError, match="weight must be"):
        FIXES[name](weight[0], gram, GROUP)


def test_a_group_of_one_weight_has_no_spread_to_shrink_by(weight):
    with pytest.raises(ValueError, match="at least 2 weights, got 1"):
        FIXES["shrinkage"](weight, None, 1)


@pytest.mark.parametrize("name", ["error feedback", "output scale"])
def test_rules_that_look_at_inputs_say_so(weight, gram, name):
    for moments, said in (
        (None, "got None"), (gram[:, 1:], "gram must be"), (0 * gram, "not all zero")
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            FIXES[name](weight, moments, GROUP)


def test_measures_refuse_what_they_cannot_measure(weight, gram):
    with pytest.raises(ValueError, match="at least one row"):
        second_moments(torch.empty(0, K))
    with pytest.raises(ValueError, match="shaped like"):
        output_error(weight, weight[1:], gram)
    with pytest.raises(ValueError, match="not all zero"):
        output_error(0 * weight, weight, gram)
