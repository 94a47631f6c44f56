"""Requests from given draws, and what a run says of how prompts were read."""

import numpy as np
import pytest

from aiexplained.serving import (
    EngineConfig,
    Fleet,
    StepCost,
    drawn_requests,
    poisson_requests,
    simulate,
    unit_draws,
)

LOAD = {"arrival_rate_rps": 23.0, "prompt_tokens": 631, "output_tokens": 53}
COST = StepCost(token_s=1 / 9_000)


def draws_of(n, seed=3):
    return np.random.default_rng(seed).random((n, 3))


def test_draws_of_a_seed_give_the_requests_of_that_seed():
    assert drawn_requests(draws_of(37), **LOAD) == poisson_requests(37, seed=3, **LOAD)
    assert drawn_requests(draws_of(37, seed=5), **LOAD) != poisson_requests(37, seed=3, **LOAD)
    assert drawn_requests(draws_of(41)[:37], **LOAD) == poisson_requests(37, seed=3, **LOAD)


def test_times_are_those_of_a_rate_of_one_and_lengths_stay_as_drawn():
    draws = draws_of(37)
    units = unit_draws(draws)
    np.testing.assert_array_equal(units[:, 1:], draws[:, 1:])
    times = [request.arrival_s for request in drawn_requests(draws, **LOAD)]
    np.testing.assert_array_equal(np.cumsum(units[:, 0]) / 23.0, times)
    assert (draws == draws_of(37)).all()  # the caller's array is left alone


@pytest.mark.parametrize("pools", [{"n_colocated": 3}, {"n_prefill": 2, "n_decode": 1}])
@pytest.mark.parametrize("policy", ["prefill first", "mixed"])
def test_readings_add_up_to_the_prompt_and_to_the_steps(pools, policy):
    engine = EngineConfig(policy=policy, max_num_batched_tokens=191, prefix_caching=False)
    run = simulate(drawn_requests(draws_of(37), **LOAD), Fleet(**pools, engine=engine, cost=COST))
    steps = {span[:3]: span.prefill_tokens for span in run.spans if span.prefill_tokens}
    read = dict.fromkeys(steps, 0)
    for served in run.served:
        assert sum(r.tokens for r in served.readings) == len(served.request.prompt)
        assert {r.engine for r in served.readings} == {served.engines[0]}
        assert len(served.readings) > 1
        for reading in served.readings:
            read[reading[:3]] += reading.tokens
    assert read == steps


def test_who_is_preempted_is_read_again():
    engine = EngineConfig(n_blocks=113, block_size=7, prefix_caching=False)
    load = {"arrival_rate_rps": 23.0, "prompt_tokens": 131, "output_tokens": 211}
    run = simulate(
        drawn_requests(draws_of(37), **load), Fleet(n_colocated=1, engine=engine, cost=COST)
    )
    again = [s for s in run.served if len(s.readings) > 1]
    assert again
    assert all(s.readings[-1].tokens > len(s.request.prompt) for s in again)
