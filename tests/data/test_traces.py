from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.data.traces import (
    one_off_first_trace,
    passage_lengths,
    sample_sessions,
    synthetic_trace,
    tool_schema_trace,
    zipf_probabilities,
)

SESSIONS = {"n_subjects": 13, "zipf": 1.1, "mean_session_length": 4.0}
TRACE = {
    "n_topics": 7, "passages_per_topic": 11, "k": 5, "zipf": 1.1, "mean_session_length": 3.0,
    "noise": 0.15,
}  # fmt: skip


def chi_square(counts, probabilities):
    """Pearson's statistic; its mean is the number of classes less one."""
    expected = sum(counts) * probabilities
    return float(((np.asarray(counts) - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.1])
def test_subjects_of_sessions_follow_zipfs_law(exponent):
    n = SESSIONS["n_subjects"]
    requests = sample_sessions(4000, n_subjects=n, zipf=exponent, mean_session_length=1.0, seed=2)
    counts = np.bincount([subject for subject, _ in requests], minlength=n)
    # 12 degrees of freedom: 32.9 is exceeded once in a thousand times.
    assert chi_square(counts, zipf_probabilities(n, exponent)) < 32.9
    assert chi_square(counts, zipf_probabilities(n, exponent + 0.3)) > 32.9


def test_zipf_by_hand():
    assert zipf_probabilities(3, 1.0) == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert zipf_probabilities(5, 0.0) == pytest.approx(np.full(5, 0.2))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_session_lengths_are_geometric_with_the_given_mean(concurrency):
    requests = sample_sessions(8000, seed=5, concurrency=concurrency, **SESSIONS)
    lengths = np.array(list(Counter(session for _, session in requests).values()))
    # Geometric with mean m: variance m (m - 1); four standard errors.
    error = np.sqrt(4.0 * 3.0 / len(lengths))
    assert abs(lengths.mean() - 4.0) < 4 * error
    ones = (lengths == 1).mean()
    assert abs(ones - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(lengths))


def test_a_session_keeps_its_subject_and_sessions_count_from_zero():
    requests = sample_sessions(900, seed=3, concurrency=5, **SESSIONS)
    subjects = {}
    for subject, session in requests:
        assert subjects.setdefault(session, subject) == subject
    assert list(subjects) == list(range(len(subjects)))


def test_one_session_at_a_time_runs_without_interruption_and_several_interleave():
    def changes(concurrency):
        order = [s for _, s in sample_sessions(900, seed=3, concurrency=concurrency, **SESSIONS)]
        return sum(a != b for a, b in pairwise(order)), len(set(order))

    alone, sessions = changes(1)
    assert alone == sessions - 1
    interleaved, sessions = changes(5)
    assert interleaved > 2 * sessions


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 11), st.floats(0, 2), st.integers(0, 2**32 - 1))
def test_a_request_has_k_distinct_passages_of_one_topic(n, k, noise, seed):
    trace = synthetic_trace(n, **{**TRACE, "k": k, "noise": noise}, seed=seed)
    assert len(trace) == n
    for ids in trace:
        assert len(set(ids)) == len(ids) == k
        assert len({i // 11 for i in ids}) == 1
        assert 0 <= min(ids) <= max(ids) < 77


def test_noise_makes_the_set_and_the_order_of_a_topic_vary():
    def variety(noise):
        trace = synthetic_trace(400, **{**TRACE, "noise": noise}, seed=1)
        topic = [ids for ids in trace if ids[0] < 11]
        return len(set(topic)), len(set(map(frozenset, topic)))

    assert variety(0.0) == (1, 1)
    orders, sets = variety(0.15)
    assert orders > sets > 3
    assert variety(0.6)[1] > sets


def test_relevant_passages_come_first_on_average():
    quiet = synthetic_trace(1, **{**TRACE, "n_topics": 1, "k": 11, "noise": 0.0}, seed=4)[0]
    noisy = synthetic_trace(300, **{**TRACE, "n_topics": 1, "k": 11, "noise": 0.15}, seed=4)
    first = Counter(ids[0] for ids in noisy)
    assert first[quiet[0]] > first[quiet[5]]
    assert first[quiet[0]] > 300 / 11


MAKERS = {
    "sessions": lambda seed: sample_sessions(60, seed=seed, concurrency=3, **SESSIONS),
    "synthetic": lambda seed: synthetic_trace(60, seed=seed, **TRACE),
    "one-off": lambda seed: one_off_first_trace(60, seed=seed, **TRACE),
    "tools": lambda seed: tool_schema_trace(60, seed=seed),
    "lengths": lambda seed: passage_lengths(60, mean_tokens=150, spread=0.3, seed=seed).tolist(),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_same_seed_same_trace_and_another_seed_another(make):
    assert make(7) == make(7) == make(np.random.default_rng(7))
    assert make(7) != make(8)


def test_each_request_starts_with_an_item_that_never_returns():
    for trace in (one_off_first_trace(90, seed=1, **TRACE), tool_schema_trace(90, seed=1)):
        firsts = [ids[0] for ids in trace]
        rest = {i for ids in trace for i in ids[1:]}
        assert len(set(firsts)) == 90
        assert not rest & set(firsts)
        assert len(rest) < 90


def test_after_the_one_off_item_comes_the_synthetic_trace():
    shared = synthetic_trace(50, **{**TRACE, "k": 4}, seed=6)
    assert [ids[1:] for ids in one_off_first_trace(50, **TRACE, seed=6)] == shared


def test_every_request_lists_all_common_tools_in_an_order_that_varies():
    trace = tool_schema_trace(200, seed=3, n_tools=63)
    assert len({frozenset(ids[1:]) for ids in trace}) == 1
    assert len({ids[1] for ids in trace}) > 50


def test_a_one_off_tool_may_stand_anywhere_when_sorted():
    ranks = [sorted(ids).index(ids[0]) / 63 for ids in tool_schema_trace(400, seed=3)]
    # A uniform rank has mean 1/2 and standard deviation 0.29; but all share one draw of the
    # common ids, so only the ends are asked for.
    assert min(ranks) < 0.1
    assert max(ranks) > 0.9


def test_passage_lengths_have_the_given_mean_and_spread():
    lengths = passage_lengths(5000, mean_tokens=150, spread=0.4, seed=2)
    assert lengths.dtype.kind == "i"
    assert abs(lengths.mean() - 150) < 4 * 60 / np.sqrt(5000)
    assert lengths.std() / lengths.mean() == pytest.approx(0.4, rel=0.05)
    assert passage_lengths(3, mean_tokens=150.4, spread=0.0, seed=2).tolist() == [150] * 3
    assert passage_lengths(500, mean_tokens=1, spread=3.0, seed=2).min() == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_sessions(-1, seed=0, **SESSIONS), "n_requests must be .* at least 0"),
        (lambda: sample_sessions(1, seed=0, **{**SESSIONS, "n_subjects": 0}), "subjects must be"),
        (lambda: sample_sessions(1, seed=0, **{**SESSIONS, "zipf": -1}), "zipf must be"),
        (
            lambda: sample_sessions(1, seed=0, **{**SESSIONS, "mean_session_length": 0.5}),
            "mean_session_length must be .* at least 1, got 0.5",
        ),
        (lambda: sample_sessions(1, seed=0, concurrency=0, **SESSIONS), "concurrency must be"),
        (lambda: synthetic_trace(1, seed=0, **{**TRACE, "k": 12}), "k must be from 1 to .*=11"),
        (lambda: synthetic_trace(1, seed=0, **{**TRACE, "noise": float("nan")}), "noise must be"),
        (lambda: one_off_first_trace(1, seed=0, **{**TRACE, "k": 1}), "k must be from 2 to"),
        (lambda: tool_schema_trace(1, seed=0, n_tools=0), "n_tools must be"),
        (lambda: passage_lengths(1, mean_tokens=0, spread=0.1, seed=0), "mean_tokens must be"),
        (lambda: passage_lengths(1, mean_tokens=9, spread=-0.1, seed=0), "spread must be"),
    ],
)
def test_rejects_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()
