"""Normalization, rotary positions and the gated feed-forward layer."""

from __future__ import annotations

import math

import jaxtyping
import pytest
import torch

from aiexplained.nn import apply_rotary, rms_norm, rotary_cos_sin, swiglu

T, D = 13, 22


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rotate(x, positions, base=10_000.0):
    return apply_rotary(x, *rotary_cos_sin(positions, x.shape[-1], base=base))


def test_rms_norm_is_its_formula():
    x, weight = randn(3, 5, D), randn(D, seed=1)
    expected = weight * x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt()
    torch.testing.assert_close(rms_norm(x, weight, eps=0.1), expected)


def test_rms_norm_forgets_the_scale_but_not_the_mean():
    x, weight = randn(7, D), torch.ones(D, dtype=torch.float64)
    normed = rms_norm(x, weight, eps=0.0)
    torch.testing.assert_close(rms_norm(17 * x, weight, eps=0.0), normed)
    assert not torch.allclose(rms_norm(x + 1, weight, eps=0.0), normed)  # LayerNorm would agree


def test_rms_norm_in_bfloat16_is_as_good_as_the_type():
    x, weight = 100 * randn(7, D), randn(D, seed=1)
    low = rms_norm(x.bfloat16(), weight.bfloat16(), eps=1e-5).double()
    high = rms_norm(x.bfloat16().double(), weight.bfloat16().double(), eps=1e-5)
    # Rounding the normalized value and its product with the gain: at most 2 roundings of eps / 2.
    torch.testing.assert_close(low, high, rtol=torch.finfo(torch.bfloat16).eps, atol=0)


def test_rotary_scores_depend_on_the_distance_alone():
    query, key = randn(1, D).expand(T, D), randn(1, D, seed=1).expand(T, D)
    here, there = torch.arange(T), torch.arange(T) + 1000
    scores = [rotate(query, p) @ rotate(key, p).T for p in (here, there)]
    # Angles are float32: 1012 * 2**-24 is about 6e-5 radians.
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=2e-3)
    for distance in range(-T + 1, T):
        diagonal = scores[0].diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-4)
    assert scores[0][0].std() > 0.1  # they do depend on it


def test_rotary_keeps_lengths_and_leaves_position_zero():
    x = randn(3, T, D)
    turned = rotate(x, torch.arange(T))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)
    assert turned[:, 0].equal(x[:, 0])


def test_rotary_pairs_the_halves_of_a_head():
    x = torch.zeros(1, 6)
    x[0, 1] = 1.0
    turned = rotate(x, torch.tensor([2]), base=1000.0)
    angle = 2 * 1000 ** (-2 / 6)
    expected = torch.tensor([[0, math.cos(angle), 0, 0, math.sin(angle), 0]])
    torch.testing.assert_close(turned, expected)


def test_rotary_takes_any_positions():
    x, positions = randn(4, D), torch.tensor([5, 2, 2, 90])
    whole = rotate(randn(1, D).expand(91, D), torch.arange(91))
    picked = rotate(randn(1, D).expand(4, D), positions)
    assert picked.equal(whole[positions])
    assert rotate(x.bfloat16(), positions).dtype is torch.bfloat16


def test_swiglu_is_its_formula():
    x, gate, up, down = (
        randn(3, D),
        randn(31, D, seed=1),
        randn(31, D, seed=2),
        randn(D, 31, seed=3),
    )
    gated = x @ gate.T
    expected = (gated * gated.sigmoid() * (x @ up.T)) @ down.T
    torch.testing.assert_close(swiglu(x, gate, up, down), expected)
    assert not torch.allclose(swiglu(x, up, gate, down), expected)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rms_norm(torch.ones(D), torch.ones(D), eps=-1.0), "eps must not be negative"),
        (lambda: rms_norm(torch.ones(2, D), torch.ones(D + 1), eps=0.0), f"must have {D} channels"),
        (lambda: rotary_cos_sin(torch.arange(3), 7), "head_dim must be even and positive, got 7"),
        (lambda: rotary_cos_sin(torch.arange(3), 8, base=1.0), "base must be above 1, got 1"),
        (lambda: rotate(torch.ones(T, D), torch.arange(T - 1)), "cos and sin must be"),
        (lambda: swiglu(torch.ones(D), *[torch.ones(31, D)] * 3), "swiglu needs"),
    ],
)
def test_arguments_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_shapes_in_signatures_are_enforced_under_test():
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'weight'"):
        rms_norm(torch.ones(2, D), torch.ones(D + 1), eps=0.0)
