"""From recorded runs to the numbers that the page shows. Plain numbers in and out.

The constants of the simulator are fitted to the steps that real engines reported, and the same
requests are then simulated: what was predicted stands beside what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np

from aiexplained.concepts.atom.real import SYSTEMS
from aiexplained.serving import Fleet, Link, Request, Run, StepCost, percentile, simulate

Entries = Sequence[Mapping[str, Any]]
NUMBERS = ("ttft_p50_s", "ttft_p99_s", "gap_p50_s", "gap_p99_s", "gap_worst_s", "tpot_mean_s")


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


def latencies(arrivals_s: Sequence[float], times_s: Sequence[Sequence[float]]) -> dict[str, float]:
    """Waiting and gaps, in seconds, of requests with the times of their tokens.

    Args:
        arrivals_s: Of each request.
        times_s: Of each request's tokens.
    """
    waits = [times[0] - arrival for arrival, times in zip(arrivals_s, times_s, strict=True)]
    gaps = [b - a for times in times_s for a, b in pairwise(times)]
    paces = [(times[-1] - times[0]) / (len(times) - 1) for times in times_s if len(times) > 1]
    return {
        "ttft_p50_s": percentile(waits, 0.5),
        "ttft_p99_s": percentile(waits, 0.99),
        "gap_p50_s": percentile(gaps, 0.5),
        "gap_p99_s": percentile(gaps, 0.99),
        "gap_worst_s": max(gaps),
        "tpot_mean_s": fmean(paces),
        "tpot_p99_s": percentile(paces, 0.99),
    }


def measured(result: Mapping[str, Any]) -> dict[str, float]:
    """:func:`latencies` of one run of real engines.

    Args:
        result: Of :func:`~aiexplained.concepts.atom.real.measure_pools`.
    """
    requests = result["requests"]
    return latencies([r["arrival_s"] for r in requests], [r["token_times_s"] for r in requests])


def fit_step_cost(results: Iterable[Mapping[str, Any]]) -> StepCost:
    """Constants of a step from real ones: those that only read, and those that only write.

    Mixed steps are left out, so that the law predicts them. Errors are relative to a step's time.

    Args:
        results: Of :func:`~aiexplained.concepts.atom.real.measure_pools`.
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
        results: Of :func:`~aiexplained.concepts.atom.real.measure_pools`.
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
        result: Of :func:`~aiexplained.concepts.atom.real.measure_pools`.
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


def predicted(run: Run) -> dict[str, float]:
    """:func:`latencies` of a simulated run.

    Args:
        run: From :func:`predict`.
    """
    return latencies([s.start_s for s in run.served], [s.token_times_s for s in run.served])


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


def longest_stall(result: Mapping[str, Any]) -> int:
    """The request that had to wait longest between two tokens.

    Args:
        result: Of :func:`~aiexplained.concepts.atom.real.measure_pools`.
    """
    worst = [max(b - a for a, b in pairwise(r["token_times_s"])) for r in result["requests"]]
    return int(np.argmax(worst))


def best_of(goodput: Mapping[str, float], kind: str) -> float:
    """The highest goodput among layouts of a kind.

    Args:
        goodput: By layout.
        kind: ``"colocated"``, ``"chunks"`` or ``"read"``, a part of the layout's name.
    """
    return max(rate for name, rate in goodput.items() if kind in name)
