"""From recorded runs to the numbers that the page shows. Plain numbers in and out.

A router is judged by the experts that *ran*, never by its nominal budget. Hard top-k with several
``k`` draws a curve of loss against experts, soft top-k with several budgets another, and they are
compared within a seed.
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


def hard_rules(entries: Entries) -> list[str]:
    """The runs of hard top-k that others are read against, from few experts to many.

    Where a ``k`` was run with softmax before the choice and after it, the one with the lower mean
    loss counts.

    Args:
        entries: Records of one study.
    """
    best: dict[float, tuple[float, str]] = {}
    losses, experts = by_rule(entries, "loss"), by_rule(entries, "experts")
    for rule in losses:
        if rule.startswith("hard"):
            found = (fmean(losses[rule]), rule)
            best[experts[rule][0]] = min(found, best.get(experts[rule][0], found))
    return [best[k][1] for k in sorted(best)]


def hard_curve(entries: Entries, seed: int) -> Curve:
    """Experts and loss of hard top-k in one seed, see :func:`hard_rules`.

    Args:
        entries: Records of one study.
        seed: Which runs are read.

    Raises:
        ValueError: if the seed has fewer than two of them.
    """
    rules = hard_rules(entries)
    found = sorted(
        (entry["result"]["experts"], entry["result"]["loss"])
        for entry in entries
        if entry["setting"]["rule"] in rules and entry["setting"]["seed"] == seed
    )
    if len(found) < 2:
        raise ValueError(f"seed {seed} has {len(found)} runs of hard top-k, a curve needs two")
    return found


def experts_needed(curve: Curve, loss: float) -> float:
    """Experts at which a router first has a loss, on straight lines between its points.

    Where its first point is already below the loss, that point's number, so that a saving is never
    overstated.

    Args:
        curve: Experts and loss, from few experts to many.
        loss: The loss.

    Raises:
        ValueError: if no point of the curve has so low a loss.

    >>> experts_needed([(1, 3.0), (2, 2.0), (4, 1.0)], 1.5)
    3.0
    """
    if loss >= curve[0][1]:
        return curve[0][0]
    for (x, above), (after, below) in pairwise(curve):
        if above > loss >= below:
            return x + (after - x) * (above - loss) / (above - below)
    raise ValueError(f"no point has a loss of {loss}, the lowest is {min(y for _, y in curve)}")


def loss_at(curve: Curve, experts: float) -> float:
    """Loss of hard top-k with a number of experts, on straight lines; its ends beyond them.

    Args:
        curve: From :func:`hard_curve`.
        experts: The number.

    >>> loss_at([(1, 3.0), (2, 2.0), (4, 1.0)], 3)
    1.5
    """
    if experts <= curve[0][0]:
        return curve[0][1]
    for (x, before), (after, behind) in pairwise(curve):
        if experts <= after:
            return before + (behind - before) * (experts - x) / (after - x)
    return curve[-1][1]


def gains(entries: Entries, rules: Sequence[str], counted: str) -> list[float]:
    """Loss less that of hard top-k with as many experts: a mean over ``rules`` for each seed.

    Args:
        entries: Records of one study.
        rules: The routers that are judged.
        counted: A key of :data:`COUNTED`.
    """
    found: dict[int, list[float]] = {}
    for rule in rules:
        for entry in _of(entries, rule):
            seed, result = entry["setting"]["seed"], entry["result"]
            hard = loss_at(hard_curve(entries, seed), result[COUNTED[counted]])
            found.setdefault(seed, []).append(result["loss"] - hard)
    return [fmean(found[seed]) for seed in sorted(found)]


def savings(entries: Entries, rules: Sequence[str], counted: str, *, baseline: str) -> list[float]:
    """Change of the experts that run for the loss of a baseline, in percent, one a seed.

    The rules, one router with several budgets, draw a curve for each seed; what counts is where it
    reaches the loss that the baseline has in that seed.

    Args:
        entries: Records of one study.
        rules: The router with several budgets.
        counted: A key of :data:`COUNTED`.
        baseline: Name of the rule that it is compared with.

    Raises:
        ValueError: if there is no record of a rule, or the curve never gets so low.
    """
    curves: dict[int, Curve] = {}
    for rule in rules:
        for entry in _of(entries, rule):
            result = entry["result"]
            point = (result[COUNTED[counted]], result["loss"])
            curves.setdefault(entry["setting"]["seed"], []).append(point)
    found = []
    for entry in _of(entries, baseline):
        result, seed = entry["result"], entry["setting"]["seed"]
        if seed in curves:
            needed = experts_needed(sorted(curves[seed]), result["loss"])
            found.append(100 * (needed / result[COUNTED[counted]] - 1))
    return found


def gaps(
    entries: Entries, rule: str, baseline: str, *, others: Entries | None = None
) -> list[float]:
    """Loss of one rule less that of another, one for each seed that both have.

    Args:
        entries: Records of one study.
        rule: The router that is judged.
        baseline: The other.
        others: Records with the baseline; default: the same.
    """
    baselines = _of(entries if others is None else others, baseline)
    losses = {e["setting"]["seed"]: e["result"]["loss"] for e in baselines}
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
