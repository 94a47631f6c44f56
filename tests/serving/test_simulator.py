"""Fleets of engines: every request gets its tokens, once, in order and in time."""

from dataclasses import replace
from types import SimpleNamespace

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

from aiexplained.serving import (
    EngineConfig,
    Failure,
    Fleet,
    Link,
    Request,
    Transfer,
    made_up_token,
    simulate,
)


@settings(deadline=None, max_examples=100)
@given(arrivals, engines, st.floats(0, 1), st.integers(1, 2))
def test_all_fleets_answer_alike(drawn, engine, memory, n):
    requests = make_requests(drawn)
    needs = blocks_of(requests, engine["block_size"])
    n_blocks = max(needs) + int(memory * (sum(needs) - max(needs)))
    for kind in KINDS:
        fleet = make_fleet(kind, n, n_blocks=n_blocks, **engine)
        run = simulate(requests, fleet)
        check(run, fleet, requests)
        assert not any(s.failed for s in run.served)
        assert [s.start_s for s in run.served] == [r.arrival_s for r in requests]
        sent = [r.id for r in requests if r.max_new_tokens > 1] if kind == "two pools" else []
        assert sorted(t.request for t in run.transfers) == sent


def simple_run():
    requests = [Request(i, [i] * 37, 5, 0.0) for i in range(3)]
    fleet = make_fleet("two pools")
    return simulate(requests, fleet), fleet, requests


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run.served[1].outputs.pop(),
        lambda run: run.served[1].outputs.insert(2, run.served[1].outputs[2]),
        lambda run: run.served[1].token_times_s.insert(0, run.served[1].token_times_s.pop()),
        lambda run: run.spans.append(run.spans[-1]),
        lambda run: run.transfers.append(run.transfers[-1]),
        lambda run: run.transfers.insert(0, run.transfers.pop()),
        lambda run: run.most_in_engine.__setitem__(0, 513),
        lambda run: run.served.reverse(),
    ],
    ids=["lost", "doubled", "early", "span", "transfer", "order", "crowded", "reversed"],
)
def test_the_check_would_catch(spoil):
    run, fleet, requests = simple_run()
    check(run, fleet, requests)
    spoil(run)
    with pytest.raises((AssertionError, ValueError)):
        check(run, fleet, requests)


def test_times_of_two_pools_by_hand():
    fleet = make_fleet("two pools", link=LINK, cost=COST)
    run = simulate([Request(0, [1] * 40, 4, 3.0)], fleet)
    (served,) = run.served
    read, moved, step = 10.0, 0.5 + 3 * 0.25, 1 + 41 / 64
    assert served.ttft_s == read + moved + step
    # The first token waits for the second; the third attends to one more.
    assert served.gaps_s == [0.0, 1 + 42 / 64, 1 + 43 / 64]
    assert run.transfers == [Transfer(0, 0, 1, 13.0, 14.25, 3, 0)]
    assert served.engines == [0, 1]
    assert run.makespan_s == served.token_times_s[-1]


def test_times_of_one_pool_by_hand():
    run = simulate([Request(0, [1] * 40, 4, 3.0)], make_fleet("prefill first", cost=COST))
    (served,) = run.served
    assert served.ttft_s == 10.0  # nothing travels, and the first token comes with the prompt
    assert served.gaps_s == [1 + 41 / 64, 1 + 42 / 64, 1 + 43 / 64]
    assert (run.transfers, served.engines) == ([], [0])


def test_the_delay_gate_goes_by_the_time_of_the_last_prompt():
    requests = [Request(0, [1] * 40, 9, 0.0), Request(1, [2] * 40, 1, 10.5)]
    ttft = {}
    for factor in (0.0, 0.25):
        fleet = Fleet(
            n_colocated=1, cost=COST, engine=EngineConfig(n_blocks=97, delay_factor=factor)
        )
        ttft[factor] = simulate(requests, fleet).served[1].ttft_s
    # Steps of 1 + n / 64 s end 1.14 s, then 2.80 s after its arrival; the gate opens after 2.5 s.
    assert ttft[0.0] == 41 / 64 + 0.5 + 10
    assert ttft[0.25] == 41 / 64 + 0.5 + 1 + 42 / 64 + 10


def test_time_to_first_token_has_the_wait_for_the_prompt_before():
    fleet = make_fleet("two pools", link=LINK, cost=COST)
    requests = [Request(0, [1] * 32, 1, 0.0), Request(1, [2] * 40, 2, 3.0)]
    first, second = simulate(requests, fleet).served
    assert (first.ttft_s, first.engines) == (8.0, [0, 1])  # one token: it never leaves the pool
    wait = 8.0 - 3.0
    assert second.ttft_s == wait + 10.0 + 1.25 + 1 + 41 / 64


def test_a_burst_is_spread_over_the_writing_pool_before_its_prompts_are_read():
    requests = [Request(i, [i] * 37, 41, i / 997) for i in range(8)]
    fleet = make_fleet("two pools", 2)
    run = simulate(requests, fleet)
    check(run, fleet, requests)
    assert [sum(t.target == i for t in run.transfers) for i in (2, 3)] == [4, 4]


def test_one_receives_one_prompt_at_a_time():
    fleet = replace(
        make_fleet("two pools", cost=COST, link=replace(LINK, bandwidth=4.0)),
        n_prefill=2,
    )
    requests = [Request(i, [i] * 40, 2, 0.0) for i in range(2)]
    run = simulate(requests, fleet)
    check(run, fleet, requests)
    assert [(t.source, t.target, t.start_s) for t in run.transfers] == [(0, 2, 10), (1, 2, 22.5)]


def test_transfers_are_listed_by_their_start():
    fleet = replace(
        make_fleet("two pools", cost=COST, link=replace(LINK, bandwidth=4.0)),
        n_prefill=3,
        n_decode=2,
    )

    class Last:
        def choose(self, request, loads, now_s=0.0):
            return 0 if request.id < 2 else 1

    requests = [Request(i, [i] * n, 2, 0.0) for i, n in enumerate([40, 44, 48])]
    run = simulate(requests, fleet, decode_policy=Last())
    check(run, fleet, requests)
    assert [t.request for t in run.transfers] == [0, 2, 1]  # the second waits for its receiver


def second_turn(**engine):
    fleet = make_fleet("two pools", **engine)
    prompt, n = list(range(50)), 23
    text = [*prompt, *alone(prompt, n), *range(30)]
    requests = [Request(0, prompt, n, 0.0), Request(1, text, 5, 97.0)]
    run = simulate(requests, fleet)
    check(run, fleet, requests)
    return run


def test_a_second_turn_moves_only_what_the_writing_engine_lacks():
    # It holds 50 + 23 - 1 = 72 tokens, four whole blocks; the new prompt has 103, seven blocks.
    _, second = second_turn().transfers
    assert (second.skipped_blocks, second.n_blocks) == (4, 3)
    _, second = second_turn(prefix_caching=False).transfers
    assert (second.skipped_blocks, second.n_blocks) == (0, 7)


def test_cached_tokens_are_those_of_the_engine_that_reads():
    first, second = second_turn().served
    assert first.cached_tokens == 0
    assert second.cached_tokens == 48  # three whole blocks of 50 tokens; the other engine has 64


def test_tokens_read_again_after_preemption_are_no_hits():
    requests = [Request(i, [i] * 33, 31, 0.0) for i in range(2)]
    fleet = Fleet(n_colocated=1, engine=EngineConfig(n_blocks=6), cost=CountedCost())
    run = simulate(requests, fleet)
    check(run, fleet, requests)
    assert sum(span.prefill_tokens for span in run.spans) > 2 * 33  # one was preempted
    assert [s.cached_tokens for s in run.served] == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_little_memory_costs_time_and_no_token(kind):
    requests = [Request(i, [i] * 33, 97, 0.0) for i in range(7)]
    runs = []
    for n_blocks in (9, 997):
        fleet = make_fleet(kind, n_blocks=n_blocks)
        runs.append(simulate(requests, fleet))
        check(runs[-1], fleet, requests)
    assert runs[0].makespan_s > runs[1].makespan_s
    assert sum(s.prefill_tokens for s in runs[1].spans) == 7 * 33


def test_writers_are_preempted_where_parked_prompts_hold_the_memory():
    requests = [Request(i, [i] * 33, 97, i / 64) for i in range(5)]
    fleet = make_fleet("two pools", n_blocks=11, prefix_caching=False)
    run = simulate(requests, fleet)
    check(run, fleet, requests)
    assert sum(s.prefill_tokens for s in run.spans if s.engine == 1) > 0  # read again there


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_full_engine_holds_the_pool_before_it_back(most):
    requests = [Request(i, [i] * 33, 23, 0.0) for i in range(7)]
    fleet = make_fleet("two pools", max_num_seqs=most)
    run = simulate(requests, fleet)
    check(run, fleet, requests)
    assert run.most_in_engine[1] == most
    ends = {s.request.id: s.token_times_s[-1] for s in run.served}
    for i, transfer in enumerate(run.transfers):
        still_there = [t for t in run.transfers[:i] if ends[t.request] > transfer.start_s]
        assert len(still_there) < most


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("concurrency", [1, 3, 97])
def test_so_many_requests_are_in_flight(kind, concurrency):
    requests = [Request(i, [i] * (11 + i), 5 + i % 3, 997.0) for i in range(13)]
    fleet = make_fleet(kind)
    run = simulate(requests, fleet, concurrency=concurrency)
    check(run, fleet, requests)
    starts = [s.start_s for s in run.served]
    ends = sorted(s.token_times_s[-1] for s in run.served)
    n_first = min(concurrency, 13)
    assert starts[:n_first] == [0.0] * n_first
    assert starts[n_first:] == ends[: 13 - n_first]  # each starts as one ends


def test_a_made_up_token_depends_on_the_last_one_and_on_the_place():
    def token(prompt, outputs):
        length = len(prompt) + len(outputs)
        return made_up_token(SimpleNamespace(prompt=prompt, outputs=outputs, length=length))

    assert token([5], []) != token([6], [])
    assert token([5], []) != token([5, 5], [])
    assert token([5], [7]) == token([5, 7], [])  # an answer that became a prompt goes on alike


REQUEST = [Request(0, [1], 1, 0.0)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simulate([], make_fleet("mixed")), "at least one request"),
        (lambda: simulate(REQUEST, make_fleet("mixed"), concurrency=0), "at least 1, got 0"),
        (
            lambda: simulate(REQUEST, make_fleet("mixed"), failures=[Failure(2, 0.0, 1.0)]),
            "engine below 2 and down_s < up_s, got",
        ),
        (
            lambda: simulate(REQUEST, make_fleet("mixed"), failures=[Failure(0, 1.0, 1.0)]),
            "engine below 2 and down_s < up_s, got",
        ),
        (
            lambda: simulate([Request(3, [1] * 33, 1, 0.0)], make_fleet("mixed", n_blocks=2)),
            "sequence 3 needs 3 blocks, the engine has 2",
        ),
        (lambda: simulate(REQUEST * 2, make_fleet("mixed")), "ids of their own, got 0 2 times"),
        (lambda: Fleet(), "n_colocated=0, n_prefill=0, n_decode=0"),
        (lambda: Fleet(n_prefill=2), "n_colocated=0, n_prefill=2, n_decode=0"),
        (lambda: Fleet(n_colocated=1, n_prefill=1, n_decode=1), "n_colocated=1, n_prefill=1"),
        (lambda: Fleet(n_colocated=1, n_decode=-1), "n_decode=-1"),
        (lambda: Link(bandwidth=0.0), "got 0.0, 0.001 and 70000.0"),
        (lambda: Link(latency_s=-1.0), "-1.0 and 70000.0"),
        (lambda: Link(kv_bytes_per_token=0.0), "0.001 and 0.0"),
    ],
)
def test_rejects(call, message):
    with pytest.raises(ValueError, match=message):
        call()
