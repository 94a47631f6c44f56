"""From recorded runs to the numbers that the page shows. Plain numbers in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Entries = Sequence[Mapping[str, Any]]
Interval = tuple[float, float, float]

SWEPT = {"passages a request": "k", "session length": "session", "cache blocks": "capacity_blocks"}
MIDDLE = {"k": 5, "session": 4.0, "capacity_blocks": 3000}
"""What the recorded sweeps vary, and where the other settings stand meanwhile."""


def summarize_ttft(entries: Entries) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Recorded times to first token, an entry a seed.

    Args:
        entries: Records of the study ``"ttft"``.

    Returns:
        For each trace and order ``median_s`` and ``p90_s``; ``change`` of the median against
        retrieval order, in percent; ``oracle_share``, the part of the oracle's gain in median that
        the order reaches, in percent (seeds in which the oracle gains nothing are left out); and
        ``cached``, the percentage of prompt tokens from the cache.
    """
    out: dict[str, dict[str, dict[str, list[float]]]] = {}
    for entry in entries:
        rows = {name: row for name, row in entry["result"].items() if isinstance(row, dict)}
        medians = {name: float(np.median(row["cpu_s"])) for name, row in rows.items()}
        gain = medians["retrieval"] - medians["oracle"]
        for name, row in rows.items():
            into = out.setdefault(entry["setting"]["kind"], {}).setdefault(name, {})
            saved = medians["retrieval"] - medians[name]
            _append(into, "median_s", medians[name])
            _append(into, "p90_s", float(np.percentile(row["cpu_s"], 90)))
            _append(into, "change", -100 * saved / medians["retrieval"])
            _append(into, "cached", 100 * sum(row["cached"]) / sum(row["total"]))
            if gain > 0.01 * medians["retrieval"]:
                _append(into, "oracle_share", 100 * saved / gain)
    return out


def fit_ttft(entries: Entries) -> tuple[float, float]:
    """``(overhead_s, per_token_s)`` of the least-squares line through all recorded requests."""
    read, seconds = [], []
    for entry in entries:
        for row in entry["result"].values():
            if isinstance(row, dict):
                read += [t - c for t, c in zip(row["total"], row["cached"], strict=True)]
                seconds += row["cpu_s"]
    per_token_s, overhead_s = np.polyfit(read, seconds, 1)
    return max(float(overhead_s), 0.0), float(per_token_s)


def summarize_quality(
    entries: Entries, *, n_bootstrap: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Differences in log-probability a token against retrieval order, with 95 % intervals.

    Args:
        entries: Records of the study ``"quality"``.
        n_bootstrap: Resamples of the questions.
        seed: Seed of the resampling.

    Returns:
        ``(mean, low, high)`` in nats a token of ``woven``, of ``woven, if changed`` (questions
        whose order the walk changed), of ``without`` the passage that holds the answer, and of
        ``place 1`` … with that passage moved there.
    """
    rows = [row for entry in entries for row in entry["result"]["rows"]]
    base = np.array([row["retrieval"] for row in rows])
    columns = {name: np.array([row[name] for row in rows]) - base for name in ("woven", "without")}
    changed = np.array([row["changed"] for row in rows])
    columns["woven, if changed"] = columns["woven"][changed]
    for place, values in enumerate(zip(*(row["by_place"] for row in rows), strict=True), 1):
        columns[f"place {place}"] = np.array(values) - base
    rng = np.random.default_rng(seed)
    return {name: _bootstrap(d, n_bootstrap, rng) for name, d in columns.items() if len(d)}


def summarize_sweep(entries: Entries) -> dict[str, dict[str, dict[str, list[Interval]]]]:
    """Gain in cached share against one setting at a time, in points above retrieval order.

    Args:
        entries: Records of the study ``"sweep"``, of one kind of trace.

    Returns:
        For each swept setting and order, ``points``: ``(mean, low, high)`` over seeds at each of
        :func:`swept_values`.
    """
    out: dict[str, dict[str, dict[str, list[Interval]]]] = {}
    for label, key in SWEPT.items():
        fixed = {k: v for k, v in MIDDLE.items() if k != key}
        chosen = [e for e in entries if all(e["setting"][k] == v for k, v in fixed.items())]
        values = sorted({e["setting"][key] for e in chosen})
        for order in ("sorted", "greedy", "oracle", "look-ahead"):
            points = [_gain([e for e in chosen if e["setting"][key] == v], order) for v in values]
            out.setdefault(label, {})[order] = {"points": points}
    return out


def swept_values(entries: Entries) -> dict[str, list[float]]:
    """The values of each swept setting, in the order of :func:`summarize_sweep`."""
    return {label: sorted({e["setting"][key] for e in entries}) for label, key in SWEPT.items()}


def _gain(entries: Entries, order: str) -> Interval:
    gains = [
        100 * (e["result"][order]["cached_share"] - e["result"]["retrieval"]["cached_share"])
        for e in entries
    ]
    return float(np.mean(gains)), float(np.min(gains)), float(np.max(gains))


def _bootstrap(values: np.ndarray, n: int, rng: np.random.Generator) -> Interval:
    means = rng.choice(values, size=(n, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def _append(into: dict[str, list[float]], key: str, value: float) -> None:
    into.setdefault(key, []).append(value)
