"""Mamba-2's recurrence: both forms, a state that is carried on, and what it is in other words."""

from __future__ import annotations

import pytest
import torch

from aiexplained.nn import chunk_ssd, recurrent_ssd, reference_gated_delta_rule

BATCH, H, T, P, N = 2, 3, 23, 5, 7


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    dt = torch.nn.functional.softplus(normal(BATCH, H, T))
    return normal(BATCH, H, T, P), dt, -normal(H).exp(), normal(BATCH, T, N), normal(BATCH, T, N)


@pytest.mark.parametrize("chunk_size", [1, 4, 23, 64])
def test_chunks_compute_the_recurrence(inputs, chunk_size):
    generator = torch.Generator().manual_seed(1)
    state = torch.randn(BATCH, H, N, P, dtype=torch.float64, generator=generator)
    slow = recurrent_ssd(*inputs, initial_state=state)
    fast = chunk_ssd(*inputs, initial_state=state, chunk_size=chunk_size)
    torch.testing.assert_close(fast, slow)


def test_a_text_in_two_parts_gives_what_it_gives_whole(inputs):
    x, dt, A, B, C = inputs
    first, second = slice(None, 11), slice(11, None)
    for form in (recurrent_ssd, chunk_ssd):
        whole, end = form(*inputs)
        y1, state = form(x[:, :, first], dt[:, :, first], A, B[:, first], C[:, first])
        y2, last = form(
            x[:, :, second], dt[:, :, second], A, B[:, second], C[:, second], initial_state=state
        )
        torch.testing.assert_close(torch.cat([y1, y2], dim=2), whole)
        torch.testing.assert_close(last, end)


def test_it_is_the_gated_delta_rule_that_corrects_nothing(inputs):
    x, dt, A, B, C = inputs
    query, key = (v[:, None].expand(-1, H, -1, -1) for v in (C, B))
    log_decay = dt * A[:, None]
    other = reference_gated_delta_rule(query, key, dt[..., None] * x, log_decay, None, scale=1.0)
    torch.testing.assert_close(recurrent_ssd(*inputs), other)
    without_step = reference_gated_delta_rule(query, key, x, log_decay, None, scale=1.0)
    assert not torch.allclose(recurrent_ssd(*inputs)[0], without_step[0])


def test_gradients_of_both_forms_agree(inputs):
    leaves = [v.requires_grad_() for v in inputs]
    out = torch.randn(
        BATCH, H, T, P, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    slow, fast = (
        torch.autograd.grad((form(*leaves)[0] * out).sum(), leaves)
        for form in (recurrent_ssd, chunk_ssd)
    )
    torch.testing.assert_close(fast, slow)


def test_an_output_does_not_depend_on_later_tokens(inputs):
    x, dt, A, B, C = inputs
    later = x.clone()
    later[:, :, 13:] += 1
    for form in (recurrent_ssd, chunk_ssd):
        before, after = form(x, dt, A, B, C)[0], form(later, dt, A, B, C)[0]
        torch.testing.assert_close(after[:, :, :13], before[:, :, :13], rtol=0, atol=0)
        assert not torch.allclose(after[:, :, 13:], before[:, :, 13:])


def test_strong_decay_neither_overflows_nor_spoils_gradients(inputs):
    x, dt, A, B, C = (v.float() for v in inputs)
    A = (1000 * A).requires_grad_()
    y, state = chunk_ssd(x, dt, A, B, C)
    y.sum().backward()
    assert y.isfinite().all()
    assert state.isfinite().all()
    assert A.grad.isfinite().all()


@pytest.mark.parametrize(
    ("place", "shape", "rule"),
    [
        (0, (BATCH, H, T), r"x must be \(B, H, T, P\)"),
        (1, (BATCH, T, H), "dt must be"),
        (2, (H + 1,), "A"),
        (3, (BATCH, T + 1, N), "B and C must be alike"),
        (4, (BATCH, T, N + 1), "B and C must be alike"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_shapes_that_do_not_fit_are_named(inputs, place, shape, rule):
    wrong = [*inputs]
    wrong[place] = torch.ones(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=rule):
        chunk_ssd(*wrong)


@pytest.mark.usefixtures("without_shape_checks")
def test_other_bad_arguments_are_named(inputs):
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        chunk_ssd(*inputs, chunk_size=0)
    with pytest.raises(ValueError, match=r"initial_state must be \(2, 3, 7, 5\)"):
        recurrent_ssd(*inputs, initial_state=torch.zeros(BATCH, H, P, N))
