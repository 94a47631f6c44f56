"""The gated delta rule, as its definition reads."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from aiexplained.nn import check_gated_delta_rule, reference_gated_delta_rule

B, H, T, K, V = 2, 3, 7, 5, 11


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    query, key, value = (
        normal(B, H, T, K),
        normalize(normal(B, H, T, K), dim=-1),
        normal(B, H, T, V),
    )
    log_decay = -torch.rand(B, H, T, generator=generator, dtype=torch.float64)
    beta = torch.rand(B, H, T, generator=generator, dtype=torch.float64)
    return query, key, value, log_decay, beta


def test_the_last_state_is_the_product_of_matrices_that_the_paper_writes(inputs):
    _, key, value, log_decay, beta = (x[1, 2] for x in inputs)
    state = torch.zeros(K, V, dtype=torch.float64)
    for k, v, g, b in zip(key, value, log_decay, beta, strict=True):
        fade = g.exp() * (torch.eye(K, dtype=torch.float64) - b * torch.outer(k, k))
        state = fade @ state + b * torch.outer(k, v)
    _, found = reference_gated_delta_rule(*inputs)
    torch.testing.assert_close(found[1, 2], state)


def test_outputs_read_the_state_after_the_write(inputs):
    query, *rest = inputs
    out, state = reference_gated_delta_rule(query, *rest, scale=0.7)
    torch.testing.assert_close(out[:, :, -1], 0.7 * (query[:, :, -1, None] @ state)[:, :, 0])
    unscaled, _ = reference_gated_delta_rule(query, *rest, scale=1)
    default, _ = reference_gated_delta_rule(query, *rest)
    torch.testing.assert_close(default, unscaled * K**-0.5)


def test_without_beta_and_decay_it_is_causal_linear_attention(inputs):
    query, key, value, log_decay, _ = inputs
    out, _ = reference_gated_delta_rule(query, key, value, 0 * log_decay, None, scale=1)
    torch.testing.assert_close(out, (query @ key.mT).tril() @ value)


def test_a_full_beta_stores_a_value_under_its_key_exactly(inputs):
    _, key, value, log_decay, beta = inputs
    out, _ = reference_gated_delta_rule(key, key, value, log_decay, torch.ones_like(beta), scale=1)
    torch.testing.assert_close(out, value)  # reading with the key just written


def test_the_exact_storage_would_be_missed_without_the_correction(inputs):
    _, key, value, log_decay, _ = inputs
    out, _ = reference_gated_delta_rule(key, key, value, log_decay, None, scale=1)
    assert (out - value).abs().max() > 0.1


def test_a_reset_forgets_all_that_came_before(inputs):
    query, key, value, log_decay, beta = inputs
    log_decay[:, :, 4] = -torch.inf
    out, state = reference_gated_delta_rule(query, key, value, log_decay, beta)
    tail = [x[:, :, 4:] for x in inputs]
    fresh, fresh_state = reference_gated_delta_rule(*tail)
    torch.testing.assert_close(out[:, :, 4:], fresh)
    torch.testing.assert_close(state, fresh_state)


def test_gradients_match_finite_differences(inputs):
    small = [x[:1, :1, :3].requires_grad_() for x in inputs]
    state = torch.randn(1, 1, K, V, dtype=torch.float64, requires_grad=True)

    def run(query, key, value, log_decay, beta, state):
        return reference_gated_delta_rule(query, key, value, log_decay, beta, initial_state=state)

    assert torch.autograd.gradcheck(run, (*small, state))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: lambda x: x[:, 1:]}, "query and key must be alike"),
        ({2: lambda x: x[0]}, "value must be"),
        ({3: lambda x: x[..., :1]}, "log_decay must be one number a token"),
        ({4: lambda x: x[..., :1]}, "beta must be one number a token"),
    ],
)
def test_bad_shapes_are_named(inputs, change, message):
    changed = [change.get(i, lambda x: x)(x) for i, x in enumerate(inputs)]
    with pytest.raises(ValueError, match=message):
        check_gated_delta_rule(*changed, initial_state=None)
    with pytest.raises(ValueError, match=r"initial_state must be \(2, 3, 5, 11\)"):
        check_gated_delta_rule(*inputs, initial_state=torch.zeros(B, H, V, K))
