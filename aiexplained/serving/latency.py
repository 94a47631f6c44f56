"""Latency limits, how many requests keep them, and the most traffic that a fleet bears."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Literal

from aiexplained.serving.fleet import Run, Served

Pace = Literal["mean", "p95", "worst"]
"""What must be short: the mean time between tokens, that of 95 of 100 of them, or every one."""


@dataclass(frozen=True, kw_only=True)
class SLO:
    """A service level objective: a request keeps both limits, or it does not.

    Args:
        ttft_s: Longest time to first token.
        gap_s: Longest time between tokens.
        pace: Which gaps ``gap_s`` holds for.
    """

    ttft_s: float
    gap_s: float
    pace: Pace = "p95"

    def __post_init__(self) -> None:
        if not (self.ttft_s > 0 and self.gap_s > 0):
            raise ValueError(f"SLO limits must be positive, got {self.ttft_s} and {self.gap_s}")
        if self.pace not in ("mean", "p95", "worst"):
            raise ValueError(f"SLO.pace must be 'mean', 'p95' or 'worst', got {self.pace!r}")

    def is_met(self, served: Served) -> bool:
        """Whether one request kept both limits; one that failed did not."""
        if served.failed or served.ttft_s > self.ttft_s:
            return False
        gaps = served.gaps_s
        if not gaps:
            return True
        if self.pace == "mean":
            return served.tpot_s <= self.gap_s
        return percentile(gaps, 0.95 if self.pace == "p95" else 1.0) <= self.gap_s


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed (nearest rank).

    Args:
        values: At least one.
        share: From 0 to 1.

    >>> percentile([4, 1, 3, 2], 0.5), percentile([4, 1, 3, 2], 0.51)
    (2, 3)
    """
    ordered = sorted(values)
    if not ordered or not 0 <= share <= 1:
        raise ValueError(
            f"percentile needs values and a share in [0, 1], got {len(ordered)} and {share}"
        )
    n = len(ordered)
    near = math.ceil(share * n)  # one too many for 0.07 * 100, which is a little more than 7
    rank = next(i for i in range(max(near - 1, 1), n + 1) if i / n >= share)
    return ordered[rank - 1]


def describe_latency(
    starts_s: Sequence[float], times_s: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Waiting and gaps, in seconds, over all requests and all gaps.

    Args:
        starts_s: When each request was sent.
        times_s: When the client got each of its tokens; at least one each.

    Returns:
        ``ttft_mean_s``, ``ttft_p50_s``, ``ttft_p99_s``, ``ttft_worst_s``; ``gap_p50_s``,
        ``gap_p99_s``, ``gap_worst_s`` of all gaps of all answers; ``tpot_mean_s`` and
        ``tpot_p99_s`` of the answers with two tokens or more. Where there is no gap, 0.

    Raises:
        ValueError: if there is no request, or one has no token.
    """
    if not starts_s or not all(times_s):
        raise ValueError("describe_latency needs requests with at least one token each")
    waits = [times[0] - start for start, times in zip(starts_s, times_s, strict=True)]
    gaps = [b - a for times in times_s for a, b in pairwise(times)] or [0.0]
    paces = [(t[-1] - t[0]) / (len(t) - 1) for t in times_s if len(t) > 1] or [0.0]
    return {
        "ttft_mean_s": fmean(waits),
        "ttft_p50_s": percentile(waits, 0.5),
        "ttft_p99_s": percentile(waits, 0.99),
        "ttft_worst_s": max(waits),
        "gap_p50_s": percentile(gaps, 0.5),
        "gap_p99_s": percentile(gaps, 0.99),
        "gap_worst_s": max(gaps),
        "tpot_mean_s": fmean(paces),
        "tpot_p99_s": percentile(paces, 0.99),
    }


def attainment(served: Sequence[Served], slo: SLO) -> float:
    """Share of requests that keep the limits.

    Args:
        served: At least one.
        slo: The limits.
    """
    if not served:
        raise ValueError("attainment needs at least one request, got none")
    return sum(map(slo.is_met, served)) / len(served)


def goodput_rps(
    serve: Callable[[float], Run],
    slo: SLO,
    *,
    share: float = 0.9,
    low: float = 0.0,
    high: float = 64.0,
    steps: int = 8,
) -> float:
    """The highest arrival rate at which ``share`` of the requests keep the limits, by bisection.

    Args:
        serve: Runs the fleet at an arrival rate in requests a second.
        slo: The limits.
        share: Of the requests.
        low: A rate that is known to be borne; 0 where none is.
        high: A rate that is taken to be too much.
        steps: Halvings; the answer is at most ``(high - low) / 2**steps`` too low.

    Returns:
        The highest rate tried that is borne, or ``low``.

    Raises:
        ValueError: unless ``0 <= low < high`` and ``0 < share <= 1``.
    """
    if not (0 <= low < high and 0 < share <= 1):
        raise ValueError(
            f"goodput_rps needs 0 <= low < high and share in (0, 1], got {low}, {high}, {share}"
        )
    if steps < 1:
        raise ValueError(f"goodput_rps needs at least 1 step, got {steps}")
    for _ in range(steps):
        middle = (low + high) / 2
        if attainment(serve(middle).served, slo) >= share:
            low = middle
        else:
            high = middle
    return low
