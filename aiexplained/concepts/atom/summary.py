"""From recorded runs to the numbers that the page shows. Plain numbers in and out.

The constants of the simulator are fitted to the steps that real engines reported, and the same
requests are then simulated: what was predicted stands beside what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from aiexplained.concepts.atom.real import SYSTEMS
from aiexplained.serving import (
    Fleet,
    Link,
    Request,
    Run,
    StepCost,
    describe_latency,
    simulate,
)

Entries = Sequence[Mapping[str, Any]]


def by_setting(entries: Entries, key: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Results by one item of their settings, seeds in order.

    Args:
        entries: Records of one study.
        key: Of the settings, e.g. ``"system"``.
    """
    out: dict[Any, list[Mapping[str, Any]]] = {}
    for entry in sorted(entries, key=lambda e: e["setting"]["seed"]):
        out.setdefault(entry["setting"][key], []).append(entry["result"])
    return out


def measured(result: Mapping[str, Any]) -> dict[str, float]:
    """:func:`~aiexplained.serving.describe_latency` of one run of real engines.

    Args:
        result: Of :func:`~aiexplained.concepts.atom.measure_pools`.
    """
    requests = result["requests"]
    return describe_latency(
        [r["arrival_s"] for r in requests], [r["token_times_s"] for r in requests]
    )


def fit_step_cost(results: Iterable[Mapping[str, Any]]) -> StepCost:
    """Constants of a step from real ones: those that only read, and those that only write.

    Mixed steps are left out, so that the law predicts them. Errors are relative to a step's time.

    Args:
        results: Of :func:`~aiexplained.concepts.atom.measure_pools`.
    """
    read: list[list[float]] = []
    write: list[list[float]] = []
    for result in results:
        for _, start, end, pieces, contexts in result["steps"]:
            if pieces and not contexts:
                pairs = sum(count * before + count * (count + 1) // 2 for before, count in pieces)
                read.append([1, sum(count for _, count in pieces), pairs, end - start])
            elif contexts and not pieces:
                write.append([1, len(contexts), sum(contexts), end - start])
    overhead, token, pair = _fit(read)
    once, sequence, kv_token = _fit(write)
    return StepCost(
        overhead_s=min(overhead, once),
        token_s=token,
        pair_s=pair,
        weights_s=max(once - overhead, 0.0),
        kv_token_s=kv_token,
        sequence_s=sequence,
    )


def _fit(rows: Sequence[Sequence[float]]) -> list[float]:
    """Least squares on relative errors; what would come out negative is 0."""
    table = np.asarray(rows, dtype=np.float64)
    x, y = table[:, :-1] / table[:, -1:], np.ones(len(table))
    kept = list(range(x.shape[1]))
    while True:
        found = np.linalg.lstsq(x[:, kept], y, rcond=None)[0]
        if (found >= 0).all():
            break
        kept.pop(int(np.argmin(found)))
    out = [0.0] * x.shape[1]
    for i, value in zip(kept, found, strict=True):
        out[i] = float(value)
    return out


def fit_link(results: Iterable[Mapping[str, Any]], *, kv_bytes_per_token: float) -> Link:
    """A link from real transfers: a fixed time, and a time for each block.

    Args:
        results: Of :func:`~aiexplained.concepts.atom.measure_pools`.
        kv_bytes_per_token: Of the model.
    """
    rows = [
        [1, n_blocks, end - start]
        for result in results
        for start, end, n_blocks in result["transfers"]
    ]
    fixed, block = _fit(rows)
    return Link(bandwidth=16 * kv_bytes_per_token / block, latency_s=fixed,
                kv_bytes_per_token=kv_bytes_per_token)  # fmt: skip


def predict(result: Mapping[str, Any], system: str, *, cost: StepCost, link: Link) -> Run:
    """Simulate the requests of a real run.

    Args:
        result: Of :func:`~aiexplained.concepts.atom.measure_pools`.
        system: Which system it was.
        cost: From :func:`fit_step_cost`.
        link: From :func:`fit_link`.
    """
    sizes, engine = SYSTEMS[system]
    requests = [
        Request(i, [i, *[0] * (r["prompt_tokens"] - 1)], len(r["outputs"]), r["arrival_s"], i)
        for i, r in enumerate(result["requests"])
    ]
    return simulate(requests, Fleet(**sizes, engine=engine, cost=cost, link=link))


def same_tokens(runs: Entries, alone: Entries) -> tuple[int, int]:
    """Answers of real systems that equal those given alone, and all answers.

    Args:
        runs: Records of the systems.
        alone: Records of the same requests, each alone.
    """
    wanted = {entry["setting"]["seed"]: entry["result"]["outputs"] for entry in alone}
    pairs = [
        (request["outputs"], answer)
        for entry in runs
        if entry["setting"]["seed"] in wanted
        for request, answer in zip(
            entry["result"]["requests"], wanted[entry["setting"]["seed"]], strict=True
        )
    ]
    return sum(a == b for a, b in pairs), len(pairs)


def longest_stall(result: Mapping[str, Any], *, after: int = 0) -> int:
    """The request that had to wait longest between two tokens.

    Args:
        result: Of :func:`~aiexplained.concepts.atom.measure_pools`.
        after: Stalls before so many tokens do not count.
    """
    times = [r["token_times_s"][after:] for r in result["requests"]]
    worst = [max((b - a for a, b in pairwise(t)), default=0.0) for t in times]
    return int(np.argmax(worst))


def goodput_rps(
    rates_rps: Sequence[float], rows: Sequence[Mapping[str, Any]], pace: str, share: float = 0.9
) -> float:
    """The arrival rate up to which enough requests keep the limits, between measured rates.

    Args:
        rates_rps: From the lowest.
        rows: Of one layout, one a rate, see :func:`~aiexplained.concepts.atom.measure_rates`.
        pace: Which gaps must keep the limit.
        share: Of the requests.

    Returns:
        The rate, on a straight line between the last that is borne and the next; 0 where even the
        lowest is too much.
    """
    borne = 0.0
    for i, (rate, row) in enumerate(zip(rates_rps, rows, strict=True)):
        within = float(row["within"][pace])
        if within < share:
            if i == 0:
                return 0.0
            before = float(rows[i - 1]["within"][pace])
            return borne + (rate - borne) * (before - share) / (before - within)
        borne = rate
    return borne


def kind_of(layout: str) -> str:
    """Which of three systems a layout belongs to.

    Args:
        layout: Its name.

    >>> kind_of("3 read, 1 write"), kind_of("chunks of 512")
    ('two pools', 'chunked prefill')
    """
    if "read" in layout:
        return "two pools"
    return "chunked prefill" if "chunks" in layout else "colocated"


def best_of(numbers: Mapping[str, float]) -> dict[str, tuple[str, float]]:
    """The best layout of each system, with its number: more is better.

    Args:
        numbers: By layout.
    """
    best: dict[str, tuple[str, float]] = {}
    for layout, number in numbers.items():
        kind = kind_of(layout)
        if kind not in best or number > best[kind][1]:
            best[kind] = (layout, number)
    return best
