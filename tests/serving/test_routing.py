"""Routing policies: which engine they choose, and the reason they give."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiexplained.serving import (
    CacheAware,
    CircuitBreaker,
    EngineConfig,
    Fleet,
    LeastLoaded,
    PowerOfTwo,
    PrefixHash,
    RandomChoice,
    Request,
    Retries,
    RoundRobin,
    Sticky,
    WorkerLoad,
    conversation_requests,
    simulate,
)
from aiexplained.serving.policies import token_hash

N = 5
POLICIES = {
    "random": lambda: RandomChoice(3),
    "in turn": RoundRobin,
    "two": lambda: PowerOfTwo(3),
    "least": LeastLoaded,
    "cache": lambda: CacheAware(balance_abs=2),
    "hash": lambda: PrefixHash(prefix_tokens=2, n_points=7),
    "sticky": lambda: Sticky(idle_timeout_s=11.0),
}
one_load = st.none() | st.builds(WorkerLoad, st.integers(0, 7), st.integers(0, 97))
all_loads = st.lists(one_load, min_size=N, max_size=N).filter(any)
calls = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=7), st.integers(-1, 3), all_loads),
    min_size=1,
    max_size=13,
)


def request(prompt=(1,), session=-1):
    return Request(0, list(prompt), 1, 0.0, session)


def load(*requests):
    """Loads by number of requests; the tokens run the other way, so that a mix-up shows."""
    return [None if n is None else WorkerLoad(n, 1000 - n) for n in requests]


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
@given(calls=calls)
def test_only_an_engine_that_can_be_used_is_chosen_and_a_replay_agrees(make, calls):
    policy, again = make(), make()
    for now_s, (prompt, session, loads) in enumerate(calls):
        chosen = policy.choose(request(prompt, session), loads, 7.0 * now_s)
        assert loads[chosen] is not None
        assert policy.last.engine == chosen
        assert 0 <= policy.last.matched_share <= 1
        assert again.choose(request(prompt, session), loads, 7.0 * now_s) == chosen


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
def test_rejects_a_pool_without_a_usable_engine(make):
    with pytest.raises(ValueError, match="at least one"):
        make().choose(request(), [None] * N)


def test_in_turn_passes_over_what_cannot_be_used():
    policy = RoundRobin()
    loads = load(0, None, 0, 0)
    assert [policy.choose(request(), loads) for _ in range(5)] == [0, 2, 3, 0, 2]


def test_random_choice_is_even_and_two_choices_never_take_the_fullest():
    loads = load(1, 2, 3)
    picks = [policy.choose(request(), loads) for policy in [RandomChoice(7)] for _ in range(3000)]
    # Three standard deviations of a binomial count, sqrt(3000 * 2/9) = 26.
    assert all(abs(picks.count(i) - 1000) < 3 * 26 for i in range(3))
    pairs = [policy.choose(request(), loads) for policy in [PowerOfTwo(7)] for _ in range(300)]
    assert set(pairs) == {1, 2}  # engine 0 has the most tokens
    assert pairs.count(2) > pairs.count(1)


def test_cache_aware_follows_a_match_above_the_threshold_only():
    policy = CacheAware()
    policy.choose(request([1, 2, 3, 4]), load(3, 0, 1))
    assert policy.last == (1, "low match: fewest requests", 0.0)
    policy.choose(request([1, 2, 3, 7, 8]), load(0, 9, 0))
    assert policy.last == (1, "saw most of the prompt", 3 / 5)
    policy.choose(request([1, 2, 3, 7, 9, 9, 9, 9]), load(0, 9, 0))  # 4 of 8 is not more than half
    assert policy.last == (2, "low match: fewest requests", 0.0)
    eager = CacheAware(match_threshold=0.49)
    for prompt in ([1, 2, 3, 4], [1, 2, 3, 7, 8], [1, 2, 3, 7, 9, 9, 9, 9]):
        eager.choose(request(prompt), load(3, 0, 1))
    assert eager.last == (1, "saw most of the prompt", 0.5)


@pytest.mark.parametrize(
    ("requests", "differ"),
    [
        ((33, 0), True),
        ((32, 0), False),
        ((363, 330), False),
        ((364, 330), True),
        ((400, 363), True),
    ],
)
def test_loads_differ_by_more_than_32_and_by_more_than_a_tenth(requests, differ):
    policy = CacheAware()
    policy.choose(request([1, 2]), load(0, 1))
    policy.choose(request([1, 2]), load(*requests))
    assert policy.last.reason.startswith("loads differ" if differ else "saw most")
    assert policy.last.engine == (1 if differ else 0)
    assert policy.tree.match([1, 2])[policy.last.engine] == 2  # learned in either case


def test_cache_aware_forgets_an_engine_that_could_not_be_used():
    policy = CacheAware()
    policy.choose(request([1, 2, 3]), load(0, 5))
    policy.choose(request([9, 9]), load(None, 5))
    policy.choose(request([1, 2, 3]), load(0, 5))
    assert policy.last == (0, "low match: fewest requests", 0.0)


def test_cache_aware_evicts_when_its_time_has_come():
    policy = CacheAware(max_nodes=3, evict_every_s=30.0)
    for i in range(7):
        policy.choose(request([i]), load(0, 0), 29.0)
    assert policy.tree.n_nodes == 7
    policy.choose(request([0]), load(0, 0), 30.0)
    assert policy.tree.n_nodes == 4  # three kept, and the new one


def test_prefix_hash_sees_the_opening_only_and_spreads_openings():
    policy, loads = PrefixHash(prefix_tokens=3), load(*[0] * N)
    owners = [policy.choose(request([i, i, i]), loads) for i in range(500)]
    assert owners == [policy.choose(request([i, i, i, 7, i]), loads) for i in range(500)]
    assert owners != [policy.choose(request([i, i, i + 1]), loads) for i in range(500)]
    # 160 points an engine: a share varies by about 1/sqrt(160) = 8 %, and 100 draws by 9 %.
    assert all(60 <= owners.count(i) <= 140 for i in range(N))


def test_a_lost_engine_moves_only_the_openings_that_it_owned():
    policy = PrefixHash()
    before = [policy.owner([i], load(*[0] * N)) for i in range(200)]
    after = [policy.owner([i], load(0, 0, None, 0, 0)) for i in range(200)]
    assert all(b == a for b, a in zip(before, after, strict=True) if b != 2)
    assert 2 in before
    assert 2 not in after
    modulo = [[token_hash([i]) % n for i in range(200)] for n in (N, N - 1)]
    assert sum(b != a for b, a in zip(*modulo, strict=True)) > 100  # what the ring avoids


def test_prefix_hash_passes_over_an_owner_with_more_than_its_share():
    policy = PrefixHash()
    owner = policy.owner([1], load(0, 0, 0))
    others = [i for i in range(3) if i != owner]
    counts = {owner: 5, others[0]: 4, others[1]: 2}  # limit: 1.25 * 12 / 3 = 5
    policy.choose(request([1]), load(*(counts[i] for i in range(3))))
    assert policy.last.engine == owner
    counts[owner] = 7  # limit: 1.25 * 14 / 3 = 5.8
    policy.choose(request([1]), load(*(counts[i] for i in range(3))))
    assert policy.last == (others[1], "owner is busy: fewest requests", 0.0)


def test_a_session_stays_until_it_was_idle_for_too_long():
    policy = Sticky()
    hour = 3600.0
    chosen = [
        policy.choose(request(session=7), loads, now_s)
        for loads, now_s in [
            (load(1, 0), 0.0), (load(0, 9), 2 * hour), (load(0, 9), 4 * hour),
            (load(0, 9), 6 * hour + 1),
        ]
    ]  # fmt: skip
    assert chosen == [1, 1, 1, 0]
    assert policy.last.reason == "new session: fewest requests"


def test_a_session_moves_for_good_when_its_engine_cannot_be_used():
    policy = Sticky()
    loads = [load(1, 0), load(1, None), load(1, 0)]
    assert [policy.choose(request(session=7), each) for each in loads] == [1, 0, 0]


def test_requests_without_session_are_not_remembered():
    policy = Sticky()
    assert [policy.choose(request(), each) for each in (load(1, 0), load(0, 1))] == [1, 0]


def test_equal_loads_are_given_out_in_turn():
    policy = Sticky()
    assert [policy.choose(request(), load(2, 0, 0, 0)) for _ in range(4)] == [1, 2, 3, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CacheAware(match_threshold=1.5), "match_threshold must be in"),
        (lambda: CacheAware(balance_rel=0.9), "balance_rel >= 1, got 32 and 0.9"),
        (lambda: CacheAware(max_nodes=0), "max_nodes >= 1"),
        (lambda: PrefixHash(n_points=0), "got 256, 0 and 1.25"),
        (lambda: Sticky(idle_timeout_s=0), "idle_timeout_s must be positive, got 0"),
    ],
)
def test_rejects_thresholds_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_breaker_opens_tries_and_closes():
    breaker = CircuitBreaker(Retries(failure_threshold=3, success_threshold=2, open_s=5.0))
    for now_s in (0.0, 1.0):
        breaker.failed(now_s)
    breaker.succeeded()  # failures must come in a row
    for now_s in (2.0, 3.0, 4.0):
        assert breaker.allows(now_s)
        breaker.failed(now_s)
    assert not breaker.allows(8.9)
    assert breaker.allows(9.0)
    breaker.failed(9.0)  # half open: one is enough
    assert not breaker.allows(13.9)
    assert breaker.allows(14.0)
    breaker.succeeded()
    assert breaker.state == "half open"
    breaker.succeeded()
    assert breaker.state == "closed"


def talk(**changes):
    sizes = {
        "session_rate_rps": 2.0, "think_s": 3.0, "system_tokens": 61, "question_tokens": 31,
        "output_tokens": 17, "seed": 5, "n_system_prompts": 2,
    }  # fmt: skip
    return conversation_requests(7, 5, **{**sizes, **changes})


def test_each_prompt_repeats_the_one_before_and_the_answer_to_it():
    requests = talk()
    assert [r.id for r in requests] == list(range(7 * 5))
    assert all(a.arrival_s <= b.arrival_s for a, b in itertools.pairwise(requests))
    openings = {tuple(r.prompt[:61]) for r in requests}
    assert len(openings) == 2
    for session in range(7):
        turns = [r for r in requests if r.session == session]
        assert len(turns) == 5
        for before, after in itertools.pairwise(turns):
            assert after.prompt[: len(before.prompt)] == before.prompt
            asked = len(after.prompt) - len(before.prompt) - before.max_new_tokens
            assert 25 <= asked <= 31  # 0.8 * 31 = 24.8
            assert after.arrival_s - before.arrival_s >= 1.5
    assert len({tuple(r.prompt[:93]) for r in requests}) >= 7  # sessions part after the opening


def test_the_rate_moves_the_beginnings_only():
    slow, fast = talk(), talk(session_rate_rps=4.0)
    by_session = [{(r.session, len(r.prompt)): r for r in trace} for trace in (slow, fast)]
    for key, request_ in by_session[0].items():
        assert by_session[1][key].prompt == request_.prompt
    begins = [min(r.arrival_s for r in trace) for trace in (slow, fast)]
    assert begins[0] == pytest.approx(2 * begins[1], rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system_tokens": 0}, "at least 1, got"),
        ({"session_rate_rps": 0.0}, "positive and finite"),
        ({"think_s": -1.0}, "not negative, got 2.0 and -1.0"),
        ({"shortest": 0.0}, "shortest must be in"),
    ],
)
def test_rejects_conversations_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        talk(**change)


def test_cached_tokens_are_those_of_the_reading_engine():
    requests = talk()
    engine = EngineConfig(prefix_caching=True)
    run = simulate(
        requests,
        Fleet(n_prefill=3, n_decode=1, engine=engine),
        prefill_policy=RoundRobin(),
    )
    read = sum(span.prefill_tokens for span in run.spans)
    found = sum(served.cached_tokens for served in run.served)
    assert found == sum(len(r.prompt) for r in requests) - read
    writing = sum(t.skipped_blocks for t in run.transfers) * engine.block_size
    assert writing > found  # the one writing engine saw all turns: a mix-up would show


def test_answers_do_not_depend_on_the_policy():
    requests = talk()
    outputs = [
        [
            served.outputs
            for served in simulate(requests, Fleet(n_colocated=3), prefill_policy=make()).served
        ]
        for make in (POLICIES["cache"], POLICIES["random"])
    ]
    assert outputs[0] == outputs[1]
    other = [dataclasses.replace(r, prompt=[*r.prompt[:-1], 1 + r.prompt[-1]]) for r in requests]
    assert [s.outputs for s in simulate(other, Fleet(n_colocated=3)).served] != outputs[0]
