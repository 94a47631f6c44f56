"""How errors travel through the recurrence, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from aiexplained.concepts.ternary_mamba import (
    HOW,
    WHAT,
    HeadInput,
    Mamba2,
    Mamba2Shape,
    compare_states,
    head_inputs,
    make_noise,
    measure_travel,
    perturb,
    relative_error,
    run_states,
)
from aiexplained.nn import recurrent_ssd

T, N = 41, 7
A = -0.3


@pytest.fixture
def head():
    generator = torch.Generator().manual_seed(0)
    dt, x = (torch.rand(T, generator=generator, dtype=torch.float64) + 0.5 for _ in range(2))
    return HeadInput(A, dt, torch.randn(T, N, generator=generator, dtype=torch.float64), x)


@pytest.fixture
def noise():
    return make_noise(T, N, seed=1).double()


def test_the_states_are_those_of_the_recurrence(head):
    _, state = recurrent_ssd(
        head.x[None, None, :, None], head.dt[None, None], torch.tensor([A]).double(),
        head.B[None], head.B[None],
    )  # fmt: skip
    torch.testing.assert_close(run_states(head)[-1], state[0, 0, :, 0])


@pytest.mark.parametrize("what", ["B", "x", "dt"])
def test_an_error_at_one_token_fades_as_the_state_does(head, noise, what):
    """From the token after it on, the difference of two states is e^{A sum dt} times itself."""
    at = 11
    off = perturb(head, what=what, how="once", size=0.2, noise=noise, at=at)
    apart = run_states(off) - run_states(head)
    assert not apart[:at].any()
    kept = (A * head.dt[at + 1 :].cumsum(0)).exp()
    torch.testing.assert_close(apart[at + 1 :], kept[:, None] * apart[at])


def test_what_is_written_and_where_count_alike(head, noise):
    by_x, by_B = (perturb(head, what=w, how="always", size=0.2, noise=noise) for w in ("x", "B"))
    torch.testing.assert_close(run_states(by_x), 1.2 * run_states(head))
    torch.testing.assert_close(run_states(by_B), run_states(by_x))


def test_a_time_step_that_is_always_longer_writes_more_and_forgets_more():
    """For equal tokens the state ends at dt / (1 - e^{dt A}), which hardly depends on dt."""
    ones = torch.ones(400, dtype=torch.float64)
    head = HeadInput(A, 0.1 * ones, ones[:, None], ones)
    off = perturb(head, what="dt", how="always", size=0.2, noise=ones[:, None])
    for recurrence, dt in ((head, 0.1), (off, 0.12)):
        end = dt / (1 - math.exp(dt * A))
        assert run_states(recurrence)[-1].item() == pytest.approx(end, rel=1e-5)
    error = relative_error(run_states(head), run_states(off))
    assert error[-1] < 0.01 < 0.2 < relative_error(run_states(head), 1.21 * run_states(head))[-1]


def test_half_of_a_trace_is_gone_after_the_half_life():
    ones = torch.ones(9, dtype=torch.float64)
    head = HeadInput(-math.log(2) / 4, ones, ones[:, None], torch.eye(9, dtype=torch.float64)[0])
    assert head.half_life == pytest.approx(4)
    assert run_states(head)[4].item() == pytest.approx(0.5)


def test_noise_has_unit_variance_and_keeps_steps_positive():
    noise = make_noise(2000, 16, seed=0)
    assert noise.square().mean() == pytest.approx(1, abs=0.02)
    assert noise.abs().max() < 2
    assert noise.equal(make_noise(2000, 16, seed=0))


def test_comparison_tells_lengths_and_distance(head, noise):
    off = perturb(head, what="x", how="always", size=0.5, noise=noise)
    told = compare_states(head, off)
    norm, away = torch.tensor(told["norm"]), torch.tensor(told["error"])
    torch.testing.assert_close(torch.tensor(told["perturbed"]), 1.5 * norm)
    torch.testing.assert_close(away, 0.5 * norm / norm.square().mean().sqrt())


def test_heads_of_a_model_are_read_as_the_model_runs_them():
    model = Mamba2(Mamba2Shape(16, 2, d_state=5, head_dim=8, vocab_size=11), seed=0)
    tokens = torch.randint(11, (23,), generator=torch.Generator().manual_seed(0))
    state = model.make_state(1)
    model(tokens[None], state)
    found = head_inputs(model, tokens)
    assert set(found) == {(layer, head) for layer in range(2) for head in range(4)}
    for (layer, number), (decay, dt, B, x) in found.items():
        own = torch.stack([run_states(HeadInput(decay, dt, B, x[:, c]))[-1] for c in range(8)], 1)
        torch.testing.assert_close(own, state[layer].ssm[0, number], rtol=1e-4, atol=1e-5)


def test_every_kind_of_error_is_told_for_every_head():
    model = Mamba2(Mamba2Shape(16, 1, d_state=5, head_dim=8, vocab_size=11), seed=0)
    tokens = torch.randint(11, (64,), generator=torch.Generator().manual_seed(0))
    rows = measure_travel(model, tokens, size=0.1, seed=0)
    assert len(rows) == 4
    for row in rows:
        assert set(row) == {"layer", "head", "half_life", *(f"{w} {h}" for w in WHAT for h in HOW)}
        assert row["B always"] == pytest.approx(row["x always"], rel=1e-3)


def test_unknown_errors_are_named(head, noise):
    with pytest.raises(ValueError, match="got 'C', 'once', 0"):
        perturb(head, what="C", how="once", size=0.1, noise=noise)
    with pytest.raises(ValueError, match="size >= 0"):
        perturb(head, what="B", how="once", size=-0.1, noise=noise)
