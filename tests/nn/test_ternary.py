"""The ternary linear layer, as its definition reads."""

from __future__ import annotations

import math

import pytest
import torch

from aiexplained.nn import reference_ternary_linear, ternarize

M, N, K, GROUP = 3, 5, 23, 7


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal(2, M, K), normal(N, K)


@pytest.mark.parametrize("group_size", [1, GROUP, K, 128, None])
def test_weights_are_ternary_and_a_scale_is_the_mean_magnitude_of_its_group(inputs, group_size):
    _, weight = inputs
    ternary, scale = ternarize(weight, group_size)
    size = group_size or K
    assert set(ternary.unique().tolist()) <= {-1, 0, 1}
    assert scale.shape == (N, math.ceil(K / size))
    for g in range(scale.shape[1]):
        group = weight[:, g * size : (g + 1) * size]
        torch.testing.assert_close(scale[:, g], group.abs().sum(dim=1) / group.shape[1])
        part = ternary[:, g * size : (g + 1) * size]
        assert part.equal(group.sign() * (group.abs() > scale[:, g, None] / 2))


def test_a_group_of_zeros_stays_zero(inputs):
    x, weight = inputs
    weight[:, :GROUP] = 0
    weight[2] = 0
    ternary, scale = ternarize(weight, GROUP)
    assert not ternary[:, :GROUP].any()
    assert not scale[:, 0].any()
    assert not ternary[2].any()
    out = reference_ternary_linear(x, weight, group_size=GROUP)
    assert out.isfinite().all()
    assert not out[..., 2].any()


def test_about_31_percent_of_normal_weights_become_zero():
    """P(|w| < E|w| / 2) with E|w| = sqrt(2 / pi) is erf(1 / (2 sqrt(pi))) = 0.3101."""
    weight = torch.randn(512, 1024, generator=torch.Generator().manual_seed(0))
    share = math.erf(0.5 / math.sqrt(math.pi))
    deviation = math.sqrt(share * (1 - share) / weight.numel())
    ternary, _ = ternarize(weight, None)
    assert share == pytest.approx(0.3101, abs=1e-4)
    assert abs((ternary == 0).double().mean() - share) < 4 * deviation
    # A threshold of the whole mean instead of the half would be seen: it makes 0.575 zeros.
    assert abs((weight.abs() < weight.abs().mean()).double().mean() - share) > 100 * deviation


def test_an_output_sums_scale_times_sign_times_input(inputs):
    x, weight = inputs
    out = reference_ternary_linear(x, weight, group_size=GROUP)
    ternary, scale = ternarize(weight, GROUP)
    expected = sum(
        float(scale[4, k // GROUP]) * float(ternary[4, k]) * x[1, 2, k] for k in range(K)
    )
    torch.testing.assert_close(out[1, 2, 4], expected)


def test_int8_activations_are_whole_numbers_of_which_the_largest_is_127(inputs):
    x, weight = inputs
    x[0, 1] = 0
    ternary, scale = ternarize(weight, None)
    out = reference_ternary_linear(x, weight, group_size=None, activations="int8")
    largest = x.abs().amax(dim=-1, keepdim=True)
    sums = out / scale[:, 0] * 127 / largest.clamp_min(1e-30)
    torch.testing.assert_close(sums, sums.round())
    assert (out - x @ (scale * ternary).mT).abs().max() > 1e-6  # the rounding is there
    error = (largest / 127 / 2) * (scale * ternary.abs()).sum(dim=1)
    assert ((out - x @ (scale * ternary).mT).abs() <= error + 1e-12).all()
    assert not out[0, 1].any()


@pytest.mark.parametrize("activations", ["native", "int8"])
def test_gradients_pass_the_rounding(inputs, activations):
    x, weight = (tensor.requires_grad_() for tensor in inputs)
    group_size = GROUP if activations == "native" else None
    out = reference_ternary_linear(x, weight, group_size=group_size, activations=activations)
    slope = torch.randn_like(out)
    grad_x, grad_weight = torch.autograd.grad(out, (x, weight), slope)
    ternary, scale = ternarize(weight.detach(), group_size)
    rounded = ternary * scale.repeat_interleave(group_size or K, dim=1)[:, :K]
    torch.testing.assert_close(grad_x, slope @ rounded)
    seen = x.detach()
    if activations == "int8":
        factor = 127 / seen.abs().amax(dim=-1, keepdim=True)
        seen = (factor * seen).round() / factor
    torch.testing.assert_close(grad_weight, torch.einsum("bmn,bmk->nk", slope, seen))


def test_the_rounding_alone_would_train_nothing(inputs):
    """The check above means something: without the straight-through rule the gradient differs."""
    x, weight = inputs
    weight.requires_grad_()
    ternary, scale = ternarize(weight, None)
    (grad,) = torch.autograd.grad((x @ (scale * ternary).mT).sum(), weight)
    (through,) = torch.autograd.grad(
        reference_ternary_linear(x, weight, group_size=None).sum(), weight
    )
    assert not torch.allclose(grad, through)


def test_a_few_steps_on_the_grid_lower_a_loss():
    generator = torch.Generator().manual_seed(0)
    x, goal = (torch.randn(*shape, generator=generator) for shape in ((64, 32), (8, 32)))
    target = reference_ternary_linear(x, goal)
    weight = torch.randn(8, 32, generator=generator, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.02)
    losses = []
    for _ in range(200):
        loss = (reference_ternary_linear(x, weight) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_size": 0}, "group_size must be at least 1, got 0"),
        ({"group_size": GROUP, "activations": "int8"}, "one scale a row, got 4"),
        ({"activations": "int4"}, "must be 'native' or 'int8', got 'int4'"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_bad_options_are_named(inputs, options, message):
    with pytest.raises(ValueError, match=message):
        reference_ternary_linear(*inputs, **options)


@pytest.mark.usefixtures("without_shape_checks")
def test_bad_shapes_are_named(inputs):
    x, weight = inputs
    with pytest.raises(ValueError, match=r"got \(2, 3, 22\) and \(5, 23\)"):
        reference_ternary_linear(x[..., 1:], weight)
