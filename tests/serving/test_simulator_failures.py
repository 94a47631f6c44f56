"""Engines that are lost: no request with them, and no token twice."""

import pytest
from fleets import (
    COST,
    KINDS,
    LINK,
    CountedCost,
    alone,
    arrivals,
    blocks_of,
    check,
    engines,
    make_fleet,
    make_requests,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.serving import Failure, Fleet, Link, Request, Retries, simulate


@settings(deadline=None, max_examples=100)
@given(
    arrivals,
    engines,
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 0.5), st.floats(0.001, 0.5)), max_size=5),
    st.integers(0, 5),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([0.001, 0.1]),
)
def test_failures_lose_no_request_and_repeat_no_token(
    drawn, engine, lost, retries, concurrency, latency_s
):
    requests = make_requests(drawn)
    needs = blocks_of(requests, engine["block_size"])
    for kind in KINDS:
        link = Link(latency_s=latency_s)
        fleet = make_fleet(kind, 2, link=link, n_blocks=max(needs) + 3, **engine)
        failures = [Failure(i, down, down + length) for i, down, length in lost]
        run = simulate(
            requests,
            fleet,
            failures=failures,
            retries=Retries(max_retries=retries),
            concurrency=concurrency,
        )
        check(run, fleet, requests)
        assert failures or not any(s.failed for s in run.served)


def test_failed_requests_make_room_for_the_next():
    requests = [Request(i, [i] * 37, 5, 0.0) for i in range(3)]
    fleet = Fleet(n_colocated=1, cost=CountedCost())
    run = simulate(
        requests,
        fleet,
        failures=[Failure(0, 0.001, 0.5)],
        retries=Retries(max_retries=1, first_wait_s=0.25, jitter=0.0),
        concurrency=1,
    )
    check(run, fleet, requests)
    assert [s.failed for s in run.served] == [True, False, False]
    assert run.served[1].start_s == 0.251


@pytest.mark.parametrize(("kind", "lost"), [("mixed", 0), ("two pools", 0), ("two pools", 2)])
def test_what_an_engine_loses_is_answered_by_others_from_where_it_was(kind, lost):
    requests = [Request(i, [i] * 37, 41, 0.0) for i in range(5)]
    fleet = make_fleet(kind, 2)
    calm = simulate(requests, fleet)
    down = 0.001 if (kind, lost) == ("two pools", 0) else calm.makespan_s / 2
    run = simulate(requests, fleet, failures=[Failure(lost, down, 97.0)])
    check(run, fleet, requests)
    assert not any(s.failed for s in run.served)
    again = [s for s in run.served if s.attempts == 2]
    assert 0 < len(again) < 5
    assert all(lost in s.engines for s in again)
    assert run.makespan_s > calm.makespan_s
    if down > 0.1:  # tokens that the client has are kept, and not written again
        assert any(s.token_times_s[0] < down < s.token_times_s[-1] for s in again)


def test_a_router_gives_up_after_its_last_try():
    requests = [Request(0, [1] * 37, 5, 0.0), Request(1, [2] * 37, 5, 200.0)]
    fleet = Fleet(n_colocated=1, cost=CountedCost())
    failures = [Failure(0, 0.01, 100.0)]
    run = simulate(requests, fleet, failures=failures, retries=Retries(max_retries=3))
    check(run, fleet, requests)
    assert [s.failed for s in run.served] == [True, False]
    assert run.served[0].attempts == 1  # the tries after it found no engine
    assert run.served[0].outputs == alone([1] * 37, 5)[: len(run.served[0].outputs)]


def test_engines_that_a_failure_elsewhere_frees_go_on():
    # The first prompt stays pinned while it travels, and the second finds no block to be read.
    requests = [Request(i, [i] * 33, 2, 0.0) for i in range(2)]
    fleet = make_fleet("two pools", n_blocks=4, link=Link(latency_s=5.0))
    failures = [Failure(1, 1.0, 1.001)]  # back before the second is read
    run = simulate(requests, fleet, failures=failures, retries=Retries(max_retries=0))
    check(run, fleet, requests)
    assert [s.failed for s in run.served] == [True, False]


def test_what_a_lost_engine_was_doing_ends_with_it():
    requests = [Request(0, [1] * 40, 2, 0.0)]
    retries = Retries(first_wait_s=1.0, jitter=0.0)
    fleet = make_fleet("two pools", link=LINK, cost=COST)
    run = simulate(requests, fleet, failures=[Failure(0, 4.0, 4.5)], retries=retries)
    check(run, fleet, requests)
    assert [(s.start_s, s.end_s) for s in run.spans[:2]] == [(0.0, 4.0), (5.0, 15.0)]
    assert run.transfers[0].start_s == 15.0  # the end planned for the lost step ends no other
    run = simulate(requests, fleet, failures=[Failure(1, 10.5, 10.75)], retries=retries)
    check(run, fleet, requests)
    assert [(t.start_s, t.end_s) for t in run.transfers] == [(10.0, 10.5), (14.0, 15.25)]
