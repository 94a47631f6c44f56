"""From recorded runs to the numbers that the page shows. Plain numbers in and out.

A router is judged by the experts that *ran*, never by its nominal budget. Hard top-k with several
``k`` draws a curve of loss against experts, and other routers are read against the curve of the
same seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

Entries = Sequence[Mapping[str, Any]]
Curve = list[tuple[float, float]]

COUNTED = {"in training": "train_experts", "in use": "experts"}
"""Where experts are counted: averaged over all steps of training, or on held-out data after it."""
BASELINE = ("hard, 1", "hard, 2", "hard, 3", "hard, 4", "hard, 6", "all")


def by_rule(entries: Entries, key: str) -> dict[str, list[Any]]:
    """One number of the results, by rule, an entry a seed, seeds in their order.

    Args:
        entries: Records of one study.
        key: Of the result, e.g. ``"loss"``.
    """
    out: dict[str, list[Any]] = {}
    for entry in sorted(entries, key=lambda e: e["setting"]["seed"]):
        out.setdefault(entry["setting"]["rule"], []).append(entry["result"][key])
    return out


def read_points(
    entries: Entries, counted: str, rules: Sequence[str]
) -> tuple[list[float], list[float]]:
    """Mean experts and mean loss of some rules, over all seeds, from fewer to more experts.

    Args:
        entries: Records of one study.
        counted: A key of :data:`COUNTED`.
        rules: Names; those without a record are left out.
    """
    losses, experts = by_rule(entries, "loss"), by_rule(entries, COUNTED[counted])
    points = sorted((fmean(experts[rule]), fmean(losses[rule])) for rule in rules if rule in losses)
    return [x for x, _ in points], [y for _, y in points]


def hard_curve(entries: Entries, seed: int) -> Curve:
    """Experts and loss of hard top-k in one seed, from few experts to all.

    Args:
        entries: Records of one study.
        seed: Which runs are read.

    Raises:
        ValueError: if the seed has fewer than two of them, or a loss is not below the one before
            (then no number of experts belongs to a loss).
    """
    found = sorted(
        (entry["result"]["experts"], entry["result"]["loss"])
        for entry in entries
        if entry["setting"]["rule"] in BASELINE and entry["setting"]["seed"] == seed
    )
    if len(found) < 2:
        raise ValueError(f"seed {seed} has {len(found)} runs of hard top-k, a curve needs two")
    return found


def experts_needed(curve: Curve, loss: float) -> float:
    """Experts at which hard top-k first has a loss, on straight lines between its points.

    Beyond the ends of the curve it is the number at that end, so that a saving is never overstated.

    Args:
        curve: From :func:`hard_curve`.
        loss: The loss.

    >>> experts_needed([(1, 3.0), (2, 2.0), (4, 1.0)], 1.5)
    3.0
    """
    if loss >= curve[0][1]:
        return curve[0][0]
    for (x, above), (after, below) in pairwise(curve):
        if above > loss >= below:
            return x + (after - x) * (above - loss) / (above - below)
    return curve[-1][0]


def savings(entries: Entries, rule: str, counted: str) -> list[float]:
    """Change of the experts that run, against hard top-k at the same loss, in percent, one a seed.

    Args:
        entries: Records of one study.
        rule: The router that is judged.
        counted: A key of :data:`COUNTED`.

    Raises:
        ValueError: as :func:`hard_curve`.
    """
    return [
        100 * (entry["result"][COUNTED[counted]] / needed - 1)
        for entry in _of(entries, rule)
        for needed in [
            experts_needed(hard_curve(entries, entry["setting"]["seed"]), entry["result"]["loss"])
        ]
    ]


def gaps(entries: Entries, rule: str, baseline: str) -> list[float]:
    """Loss of one rule less that of another, one a seed."""
    losses = {e["setting"]["seed"]: e["result"]["loss"] for e in _of(entries, baseline)}
    return [
        entry["result"]["loss"] - losses[entry["setting"]["seed"]]
        for entry in _of(entries, rule)
        if entry["setting"]["seed"] in losses
    ]


def last_share(budgets: Sequence[float], part: float = 0.3) -> float:
    """Share of all budgets that the last ``part`` of the layers holds, in percent.

    >>> last_share([1, 1, 1, 1, 1, 1, 1, 1, 1, 11])
    65.0
    """
    n_last = max(1, round(part * len(budgets)))
    return 100 * sum(budgets[-n_last:]) / sum(budgets)


def _of(entries: Entries, rule: str) -> list[Mapping[str, Any]]:
    found = [entry for entry in entries if entry["setting"]["rule"] == rule]
    if not found:
        raise ValueError(f"no record of the rule {rule!r}")
    return sorted(found, key=lambda e: e["setting"]["seed"])
