"""From recorded runs to the numbers that the page shows. Plain numbers in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np

from aiexplained.concepts.subq.cost import VENDOR_TABLE

Entries = Sequence[Mapping[str, Any]]
Point = dict[str, float]


def recall_of(entries: Entries) -> dict[tuple[str, int, int], list[list[float]]]:
    """Recall by ``(selector, n_tokens, budget)``: for each cosine, a number a seed.

    Args:
        entries: Records of the study ``"needles"``.
    """
    found: dict[tuple[str, int, int], list[list[float]]] = {}
    for entry in entries:
        for row in entry["result"]["rows"]:
            cell = found.setdefault(_cell(row), [])
            cell.append(row["recall"])
    return {key: [list(seeds) for seeds in zip(*cell, strict=True)] for key, cell in found.items()}


def cost_to_find(
    entries: Entries, selector: str, *, cosine: float, recall: float
) -> dict[int, float | None]:
    """Least vector products a token, choosing and reading, that find a needle often enough.

    A key that is read costs two products: its score and its value.

    Args:
        entries: Records of the study ``"needles"``; shares are means over them.
        selector: Name of the selector.
        cosine: How alike needle and query are, one of those recorded.
        recall: Share of the needles that must be found.

    Returns:
        For each length the cost with the smallest budget that is enough; None where none is.
    """
    which = entries[0]["result"]["cosines"].index(cosine)
    found = recall_of(entries)
    costs: dict[int, float | None] = {}
    for row in entries[0]["result"]["rows"]:
        if row["selector"] != selector:
            continue
        enough = fmean(found[_cell(row)][which]) >= recall
        cost = row["dots"] + 2 * row["budget"]
        known = costs.setdefault(row["n_tokens"], None)
        if enough and (known is None or cost < known):
            costs[row["n_tokens"]] = cost
    return costs


def growth(costs: Mapping[int, float | None]) -> float:
    """Exponent of the cost of a whole text: 1 is linear, 2 quadratic.

    Least squares through the logarithms of a token's cost, plus one for the number of tokens.

    Raises:
        ValueError: with fewer than two lengths that have a cost.
    """
    known = {n: cost for n, cost in costs.items() if cost}
    if len(known) < 2:
        raise ValueError(f"growth needs costs at two lengths, got {len(known)}")
    slope, _ = np.polyfit(np.log(list(known)), np.log(list(known.values())), 1)
    return 1 + float(slope)


def summarize_real(entries: Entries, n_tokens: int) -> dict[str, list[Point]]:
    """What the real model loses, a point for each budget of each selector, dense among them.

    Args:
        entries: Records of the study ``"real"``.
        n_tokens: Length of the texts.

    Returns:
        Means over the texts of ``read``, ``mass``, ``dots``, ``copy_nll``, ``first_nll``, and of
        ``perplexity`` (geometric), in order of the budget; ``copy_low`` and ``copy_high`` over the
        texts.
    """
    cells: dict[tuple[str, int], list[Mapping[str, float]]] = {}
    for entry in entries:
        setting = entry["setting"]
        if setting["n_tokens"] == n_tokens:
            cells.setdefault((setting["selector"], setting["budget"]), []).append(entry["result"])
    out: dict[str, list[Point]] = {}
    for (selector, budget), runs in sorted(cells.items()):
        point = {name: fmean(run[name] for run in runs) for name in runs[0]}
        point["perplexity"] = float(np.exp(fmean(np.log(run["perplexity"]) for run in runs)))
        copies = [run["copy_nll"] for run in runs]
        point |= {
            "budget": budget, "texts": len(runs), "copy_low": min(copies), "copy_high": max(copies),
        }  # fmt: skip
        out.setdefault(selector, []).append(point)
    return out


def summarize_vote(entries: Entries) -> tuple[list[int], dict[str, list[float]]]:
    """Numbers of votes, and the share of right answers of each selector, over all seeds."""
    votes = entries[0]["result"]["n_votes"]
    right = {
        name: [
            fmean(values)
            for values in zip(*(e["result"]["right"][name] for e in entries), strict=True)
        ]
        for name in entries[0]["result"]["right"]
    }
    return list(votes), right


def summarize_time(entries: Entries, budget: int) -> list[dict[str, Any]]:
    """Recorded times with one budget, by rising length; each row is the record's result."""
    rows = [
        {"n_tokens": entry["setting"]["n_tokens"], **entry["result"]}
        for entry in entries
        if entry["setting"]["budget"] == budget
    ]
    return sorted(rows, key=lambda row: row["n_tokens"])


def slope(rows: Sequence[Mapping[str, Any]], what: str, *, at_least: int = 0) -> float:
    """Exponent of the time of ``what`` over length, from ``at_least`` tokens on."""
    known = [(r["n_tokens"], r["seconds"][what]) for r in rows if r["n_tokens"] >= at_least]
    lengths, seconds = zip(*known, strict=True)
    return float(np.polyfit(np.log(lengths), np.log(seconds), 1)[0])


def crossover(rows: Sequence[Mapping[str, Any]]) -> float:
    """Tokens from which on the sparse way is faster, between the recorded lengths by power law.

    Raises:
        ValueError: if it is faster everywhere or nowhere.
    """
    for before, after in pairwise(rows):
        low, high = (np.log(r["seconds"]["ours"] / r["seconds"]["dense"]) for r in (before, after))
        if low >= 0 > high:
            ends = np.log([before["n_tokens"], after["n_tokens"]])
            return float(np.exp(ends[0] + (ends[1] - ends[0]) * low / (low - high)))
    raise ValueError("the sparse way is faster everywhere or nowhere in these records")


def needle_cells(
    entries: Entries,
) -> dict[tuple[int, int, float], dict[str, tuple[float, float]]]:
    """Share of needles found, in percent, and vector products a token, of selectors and of dense.

    A key that is read counts two products. Where the budget covers the text, all is read.

    Args:
        entries: Records of the study ``"needles"``; shares are means over the seeds.

    Returns:
        By length, budget and cosine, all combinations.
    """
    found = recall_of(entries)
    dots = {_cell(row): row["dots"] for row in entries[0]["result"]["rows"]}
    names = list(dict.fromkeys(name for name, _, _ in found))
    cells = {}
    for n_tokens in sorted({n for _, n, _ in found}):
        for budget in sorted({b for _, _, b in found}):
            for which, cosine in enumerate(entries[0]["result"]["cosines"]):
                cells[n_tokens, budget, cosine] = {
                    name: (100.0, 2.0 * n_tokens)
                    if budget >= n_tokens
                    else (
                        100 * fmean(found[name, n_tokens, budget][which]),
                        dots[name, n_tokens, budget] + 2 * budget,
                    )
                    for name in names
                }
                cells[n_tokens, budget, cosine]["dense"] = (100.0, 2.0 * n_tokens)
    return cells


def _cell(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return str(row["selector"]), int(row["n_tokens"]), int(row["budget"])


Curves = dict[str, tuple[list[float], list[float]]]


def real_curves(real: Mapping[str, Sequence[Point]], dense: Point, key: str) -> Curves:
    """One measure over the share of pairs read, in percent; dense attention as a level line.

    Args:
        real: From :func:`summarize_real`, without dense attention.
        dense: Its point.
        key: ``"copy_nll"``, ``"perplexity"`` or ``"mass"``, the last in percent.
    """
    factor = 100 if key == "mass" else 1
    curves = {
        name: ([100 * p["read"] for p in points], [factor * p[key] for p in points])
        for name, points in real.items()
    }
    ends = [min(min(x) for x, _ in curves.values()), max(max(x) for x, _ in curves.values())]
    curves["dense"] = (ends, [factor * dense[key]] * 2)
    return curves


def tell_real(curves: Curves, what: str) -> str:
    """The curves of one measure in a sentence, at the largest budget."""
    said = ", ".join(f"{name} {y[-1]:.2f}" for name, (_, y) in curves.items())
    return f"Largest budget, {what}: {said}."


def cost_curves(entries: Entries, *, cosine: float, recall: float) -> Curves:
    """:func:`cost_to_find` over the length for every selector that reaches it, and dense attention.

    Points where a selector finds too few needles with every recorded budget are left out.
    """
    curves: Curves = {}
    names = dict.fromkeys(name for name, _, _ in recall_of(entries))
    for name in names:
        costs = cost_to_find(entries, name, cosine=cosine, recall=recall)
        known = [(float(n), cost) for n, cost in costs.items() if cost is not None]
        curves[name] = ([n for n, _ in known], [cost for _, cost in known])
    lengths = [float(n) for n in costs]
    curves["dense"] = (lengths, [2 * n for n in lengths])
    return curves


def time_curves(rows: Sequence[Mapping[str, Any]]) -> Curves:
    """Speed-up over dense attention and saving in work by length, the vendor's beside ours.

    Args:
        rows: From :func:`summarize_time`.
    """
    lengths = [float(row["n_tokens"]) for row in rows]
    theirs = [(float(r.n_tokens), r.speedup) for r in VENDOR_TABLE if r.speedup]
    return {
        "saving in work": (lengths, [row["work"] for row in rows]),
        "ours": (lengths, [row["speedup"] for row in rows]),
        "the company": ([n for n, _ in theirs], [speedup for _, speedup in theirs]),
    }


LEARNERS = {
    "dense": "dense", "learned hash": "learned", "random hash": "centered", "window": "window",
}  # fmt: skip
"""Names of curves, and of what is recorded; the random hash goes through the mean of the keys."""


def recall_by_length(entries: Entries, *, span: int) -> dict[str, dict[int, list[float]]]:
    """Right answers in percent by name and length, a number a seed.

    Args:
        entries: Records of the study ``"recall"``.
        span: Positions below which the planes were trained.
    """
    runs = [entry["result"] for entry in entries if entry["setting"]["plane_span"] == span]
    return {
        name: {
            n: [100 * run["accuracy"][key][i] for run in runs]
            for i, n in enumerate(runs[0]["lengths"])
        }
        for name, key in LEARNERS.items()
    }


def recall_curves(recall: Mapping[str, Mapping[int, Sequence[float]]]) -> Curves:
    """Means over the seeds of :func:`recall_by_length`."""
    return {
        name: ([float(n) for n in by_length], [fmean(seeds) for seeds in by_length.values()])
        for name, by_length in recall.items()
    }
