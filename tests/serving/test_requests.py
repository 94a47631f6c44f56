"""Seeded arrivals: a rate stretches time and nothing else."""

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.serving import block_hashes, poisson_requests

N, PROMPT, OUTPUT = 101, 211, 37


def draw(n=N, rate=3.0, seed=0, **options):
    return poisson_requests(
        n,
        arrival_rate_rps=rate,
        prompt_tokens=PROMPT,
        output_tokens=OUTPUT,
        seed=seed,
        **options,
    )


def lengths(requests):
    return [(len(r.prompt), r.max_new_tokens) for r in requests]


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([0.25, 1.0, 7.0, 64.0]), st.integers(0, 2**32))
def test_the_rate_only_stretches_time(rate, seed):
    slow, fast = draw(rate=1.0, seed=seed), draw(rate=rate, seed=seed)
    assert lengths(slow) == lengths(fast)
    assert [r.prompt for r in slow] == [r.prompt for r in fast]
    assert [r.arrival_s / rate for r in slow] == [r.arrival_s for r in fast]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, N - 1), st.integers(0, 2**32))
def test_more_requests_keep_the_first_ones(n, seed):
    assert draw(n, seed=seed) == draw(seed=seed)[:n]


def test_another_seed_is_another_trace():
    first, second = draw(seed=0), draw(seed=1)
    assert lengths(first) != lengths(second)
    assert [r.arrival_s for r in first] != [r.arrival_s for r in second]


@pytest.mark.parametrize("shortest", [0.01, 0.8, 1.0])
def test_lengths_fill_their_range(shortest):
    pairs = lengths(draw(9973, shortest=shortest))
    for drawn, longest in zip(zip(*pairs, strict=True), (PROMPT, OUTPUT), strict=True):
        assert min(drawn) == max(round(shortest * longest), 1)
        assert max(drawn) == longest


def test_arrivals_are_in_order_and_as_many_a_second_as_asked_for():
    n, rate = 9973, 7.0
    times = [r.arrival_s for r in draw(n, rate=rate)]
    gaps = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    assert min(gaps) >= 0
    # Of an exponential law, the mean of n gaps has a standard error of mean / sqrt(n).
    assert statistics.mean(gaps) * rate == pytest.approx(1, abs=4 / n**0.5)
    # And mean and spread are equal; the spread of the spread is about sqrt(2 / n).
    assert statistics.stdev(gaps) * rate == pytest.approx(1, abs=4 * (2 / n) ** 0.5)


def test_prompts_share_no_block():
    hashes = [block_hashes(r.prompt, block_size=1)[0] for r in draw()]
    assert len(set(hashes)) == N
    assert [r.id for r in draw()] == [r.session for r in draw()] == list(range(N))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"rate": 0.0}, "positive and finite, got 0.0"),
        ({"rate": float("inf")}, "positive and finite, got inf"),
        ({"shortest": 0.0}, r"shortest must be in \(0, 1\], got 0.0"),
        ({"shortest": 1.5}, r"shortest must be in \(0, 1\], got 1.5"),
    ],
)
def test_rejects(options, message):
    with pytest.raises(ValueError, match=message):
        draw(**options)
