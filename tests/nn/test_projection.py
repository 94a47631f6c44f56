"""A linear map, and what changes when its product is exchanged."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch

from aiexplained.nn import Projection, reference_ternary_linear

B, T, N, K = 2, 3, 5, 7


def make(*, bias: bool) -> tuple[Projection, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    projection = Projection(K, N, bias=bias).double()
    for parameter in projection.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return projection, torch.randn(B, T, K, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("bias", [False, True])
def test_it_is_torchs_linear_layer(bias):
    projection, x = make(bias=bias)
    linear = torch.nn.Linear(K, N, bias=bias).double()
    linear.load_state_dict(projection.state_dict())
    torch.testing.assert_close(projection(x), linear(x))


def test_another_product_sees_inputs_and_weight_and_the_bias_is_added_to_it():
    projection, x = make(bias=True)
    before = projection(x)
    seen = []

    def multiply(x, weight):
        seen.append((x, weight))
        return 2 * x @ weight.mT

    projection.multiply = multiply
    torch.testing.assert_close(projection(x), 2 * before - projection.bias)
    assert seen[0][0] is x
    assert seen[0][1] is projection.weight


def test_a_ternary_product_trains_the_weight_behind_it():
    projection, x = make(bias=True)
    projection.multiply = partial(reference_ternary_linear, group_size=3)
    projection(x).sum().backward()
    torch.testing.assert_close(projection.weight.grad, x.sum(dim=(0, 1)).expand(N, K))
    assert projection.bias.grad.tolist() == [B * T] * N


def test_an_exchange_stays_in_its_own_copy():
    projection, x = make(bias=False)
    other = copy.deepcopy(projection)
    other.multiply = lambda x, weight: x @ weight.sign().mT
    assert not torch.allclose(other(x), projection(x))
    torch.testing.assert_close(projection(x), x @ projection.weight.mT)
    assert set(projection.state_dict()) == {"weight"}


def test_it_draws_nothing_and_rejects_empty_widths(without_shape_checks):
    state = torch.get_rng_state()
    assert not Projection(K, N).weight.any()
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="must be positive, got 0 and 5"):
        Projection(0, N)
