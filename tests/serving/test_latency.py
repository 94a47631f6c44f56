"""Latency limits: who keeps them, and how much traffic a fleet bears under them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiexplained.serving import SLO, Request, Run, Served, attainment, goodput_rps, percentile


def make_served(times, *, start=0.0, failed=False):
    return Served(
        Request(0, [1], len(times), start),
        token_times_s=list(times),
        outputs=[0] * len(times),
        start_s=start,
        failed=failed,
    )


def make_run(n_good, n_bad):
    served = [make_served([1.0])] * n_good + [make_served([3.0])] * n_bad
    return Run(served, [], [], [])


LIMITS = SLO(ttft_s=2.0, gap_s=0.5)

values = st.lists(st.integers(-97, 97), min_size=1, max_size=211)


@given(values, st.one_of(st.floats(0, 1), st.integers(0, 100).map(lambda i: i / 100)))
def test_a_percentile_is_the_smallest_value_that_the_share_does_not_exceed(numbers, share):
    def share_up_to(limit):
        return sum(x <= limit for x in numbers) / len(numbers)

    found = percentile(numbers, share)
    assert found == min(x for x in numbers if share_up_to(x) >= share)


@pytest.mark.parametrize(("share", "rank"), [(0.07, 7), (0.55, 55), (0.95, 95), (0.0, 1), (1, 100)])
def test_of_a_hundred_values_the_rank_is_the_percentage(share, rank):
    assert percentile(range(100, 0, -1), share) == rank


@pytest.mark.parametrize(
    ("numbers", "share", "shown"), [([], 0.5, "0 and 0.5"), ([1], -0.1, "1 and"), ([1], 1.1, "1 a")]
)
def test_percentile_rejects(numbers, share, shown):
    with pytest.raises(ValueError, match=rf"needs values and a share in \[0, 1\], got {shown}"):
        percentile(numbers, share)


def test_times_are_those_that_the_client_sees():
    served = make_served([2.5, 2.75, 4.75], start=1.0)
    assert (served.ttft_s, served.gaps_s, served.tpot_s) == (1.5, [0.25, 2.0], 1.125)
    assert (make_served([2.0]).gaps_s, make_served([2.0]).tpot_s) == ([], 0.0)


@pytest.mark.parametrize(
    ("pace", "worst", "met"),
    [
        ("mean", 6.0, True),  # (29 * 0.25 + 6) / 30 < 0.5
        ("p95", 6.0, True),  # 29 of 30 are more than 95 of 100
        ("worst", 6.0, False),
        ("worst", 0.5, True),
    ],
)
def test_a_pace_says_which_gaps_count(pace, worst, met):
    gaps = [*[0.25] * 29, worst]
    times = [1.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    assert SLO(ttft_s=2.0, gap_s=0.5, pace=pace).is_met(make_served(times)) is met


def test_the_mean_can_break_a_limit_that_nineteen_of_twenty_gaps_keep():
    times = [1.0, *[1.0 + 0.25 * (i + 1) for i in range(19)], 100.0]
    served = make_served(times)
    assert SLO(ttft_s=2.0, gap_s=0.5, pace="p95").is_met(served)
    assert not SLO(ttft_s=2.0, gap_s=0.5, pace="mean").is_met(served)


def test_both_limits_hold_and_are_themselves_allowed():
    assert LIMITS.is_met(make_served([2.0, 2.5]))
    assert not LIMITS.is_met(make_served([2.125, 2.5]))  # the first token
    assert not LIMITS.is_met(make_served([2.0, 2.625]))  # the gap
    assert LIMITS.is_met(make_served([3.0], start=1.0))  # since its start, not since time 0
    assert LIMITS.is_met(make_served([2.0]))  # an answer of one token has no gap


def test_what_failed_kept_no_limit():
    assert not LIMITS.is_met(make_served([], failed=True))
    assert not LIMITS.is_met(make_served([1.0], failed=True))
    assert attainment([make_served([1.0]), make_served([], failed=True)], LIMITS) == 0.5


def test_attainment_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="attainment needs at least one request"):
        attainment([], LIMITS)


@given(st.floats(0.5, 63.5), st.integers(1, 9))
def test_bisection_stays_below_the_limit_and_comes_as_close_as_promised(limit, steps):
    tried = []

    def serve(rate):
        tried.append(rate)
        return make_run(9, 1) if rate <= limit else make_run(8, 2)

    found = goodput_rps(serve, LIMITS, steps=steps)
    assert limit - 64 / 2**steps <= found <= limit
    assert found == 0.0 or found in tried
    assert len(tried) == steps


def test_the_share_is_the_bar():
    def nine_of_ten(_):
        return make_run(9, 1)

    assert goodput_rps(nine_of_ten, LIMITS, share=0.9, steps=7) == 64 - 0.5
    assert goodput_rps(nine_of_ten, LIMITS, share=0.91, steps=7) == 0.0
    assert goodput_rps(nine_of_ten, LIMITS, share=0.91, low=3.0, steps=7) == 3.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SLO(ttft_s=0.0, gap_s=1.0), "must be positive, got 0.0 and 1.0"),
        (lambda: SLO(ttft_s=1.0, gap_s=-1.0), "must be positive, got 1.0 and -1.0"),
        (lambda: SLO(ttft_s=1.0, gap_s=1.0, pace="p99"), "got 'p99'"),
        (lambda: goodput_rps(lambda _: make_run(1, 0), LIMITS, low=2, high=2), "got 2, 2, 0.9"),
        (lambda: goodput_rps(lambda _: make_run(1, 0), LIMITS, share=0.0), "got 0.0, 64.0, 0.0"),
    ],
)
def test_rejects(call, message):
    with pytest.raises(ValueError, match=message):
        call()
