"""From recorded runs to the numbers that the page shows. Plain numbers in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from aiexplained.concepts.variable_width.measure import ARMS, SEQ_LEN
from aiexplained.concepts.variable_width.schedule import count_flops

Entries = Sequence[Mapping[str, Any]]
Interval = tuple[float, float, float]


def summarize_losses(entries: Entries) -> dict[str, dict[int, float]]:
    """Held-out loss in nats a character of each arm, by seed.

    Args:
        entries: Records of one training study; all but arm and seed is the same.

    Raises:
        ValueError: if two settings differ in anything else.
    """
    kinds = {
        tuple(v for k, v in sorted(e["setting"].items()) if k not in ("arm", "seed"))
        for e in entries
    }
    if len(kinds) > 1:
        raise ValueError(f"losses of different settings cannot be compared: {sorted(kinds)}")
    out: dict[str, dict[int, float]] = {}
    for entry in sorted(entries, key=lambda e: e["setting"]["seed"]):
        setting = entry["setting"]
        out.setdefault(setting["arm"], {})[setting["seed"]] = entry["result"]["loss"]
    return out


def differences(
    losses: Mapping[str, Mapping[int, float]], arm: str, baseline: str = "uniform"
) -> list[float]:
    """Loss of ``arm`` less that of ``baseline``, for every seed that both have."""
    seeds = sorted(set(losses[arm]) & set(losses[baseline]))
    return [losses[arm][seed] - losses[baseline][seed] for seed in seeds]


def gaps_by(entries: Entries, *, by: str, baseline: Entries = ()) -> dict[Any, list[float]]:
    """Loss of the paper's shape less that of the uniform model, for each value of a setting.

    Args:
        entries: Records of the paper's shape and of uniform models at several values of ``by``.
        by: Key of the setting.
        baseline: Records with uniform models for where ``entries`` has none.

    Returns:
        Differences by value, an entry a seed; values without a uniform model are left out.
    """
    near = {(_run(e), e["setting"][by]): _loss(e) for e in entries if _arm(e) == "uniform"}
    far = {_run(e): _loss(e) for e in baseline if _arm(e) == "uniform"}
    out: dict[Any, list[float]] = {}
    for entry in sorted(entries, key=lambda e: e["setting"]["seed"]):
        value = entry["setting"][by]
        base = near.get((_run(entry), value), far.get(_run(entry)))
        if _arm(entry) == "paper" and base is not None:
            out.setdefault(value, []).append(_loss(entry) - base)
    return out


def _arm(entry: Mapping[str, Any]) -> str:
    return str(entry["setting"]["arm"])


def _loss(entry: Mapping[str, Any]) -> float:
    return float(entry["result"]["loss"])


def _run(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two runs must share to be compared."""
    return tuple(entry["setting"][key] for key in ("width", "layers", "steps", "lr", "seed"))


def price(entry: Mapping[str, Any]) -> dict[str, float]:
    """What a recorded model costs a character.

    Returns:
        ``flops`` at the length that it was trained on, and ``cache``, the values kept.
    """
    widths, result = entry["result"]["widths"], entry["result"]
    flops = count_flops(
        widths, widths[0], result["vocab_size"], SEQ_LEN, own_ends=True,
        learned_resize=ARMS[entry["setting"]["arm"]].resize.startswith("learned"),
    )  # fmt: skip
    return {"flops": flops / SEQ_LEN, "cache": 2 * sum(widths)}


@dataclass(frozen=True)
class Curve:
    """Loss against cost of uniform models, ``scale * cost ** -power``."""

    scale: float
    power: float

    def loss(self, cost: float) -> float:
        """Loss at a cost."""
        return float(self.scale * cost**-self.power)

    def cost(self, loss: float) -> float:
        """Cost at which a uniform model has this loss."""
        return float((loss / self.scale) ** (-1 / self.power))


def fit_curve(costs: ArrayLike, losses: ArrayLike) -> Curve:
    """The power law that is nearest to the points, a straight line through their logarithms.

    Args:
        costs: Costs of models of two or more sizes, positive.
        losses: Their losses, positive.

    Raises:
        ValueError: if there are fewer than two different costs, or loss does not fall with cost.
    """
    x, y = np.asarray(costs, dtype=float), np.asarray(losses, dtype=float)
    if len(np.unique(x)) < 2 or min(x.min(), y.min()) <= 0:
        raise ValueError(f"a curve needs two different costs, all positive, got {x} and {y}")
    slope, start = np.polyfit(np.log(x), np.log(y), 1)
    if slope >= 0:
        raise ValueError(f"loss does not fall with cost: {y} at {x}")
    return Curve(scale=float(np.exp(start)), power=float(-slope))


def match_losses(
    uniform: Entries, others: Entries, *, by: str, n_bootstrap: int = 1000, seed: int = 0
) -> Interval:
    """Cost of ``others`` against a uniform model *of the same loss*, in percent.

    A curve is fitted to all uniform models and read at the mean loss of the others. Negative means
    that they are cheaper.

    Args:
        uniform: Records of uniform models of two or more sizes.
        others: Records of the model to place, one a seed.
        by: ``"flops"`` or ``"cache"``.
        n_bootstrap: Resamples of the seeds, for each size of the uniform models and for the others.
        seed: Seed of the resampling.

    Returns:
        The reading and the ends of its 95 % bootstrap interval.

    Raises:
        ValueError: if ``uniform`` holds another arm, or loss does not fall with size in it.
    """
    points, sizes, placed = _points(uniform, others, by)
    rng = np.random.default_rng(seed)

    def read(points: np.ndarray, placed: np.ndarray) -> float:
        cost, loss = placed.mean(axis=0)
        return float(100 * (cost / fit_curve(points[:, 0], points[:, 1]).cost(loss) - 1))

    resampled = []
    for _ in range(n_bootstrap):
        drawn = np.concatenate([rng.choice(np.flatnonzero(sizes == w), (sizes == w).sum())
                                for w in np.unique(sizes)])  # fmt: skip
        again = placed[rng.integers(len(placed), size=len(placed))]
        resampled.append(read(points[drawn], again))
    low, high = np.percentile(resampled, [2.5, 97.5])
    return read(points, placed), float(low), float(high)


def draw_match(uniform: Entries, others: Entries, *, by: str) -> dict[str, Any]:
    """The points and the curve behind :func:`match_losses`, for a figure.

    Costs are in percent of the uniform model with as many weights as the others.

    Args:
        uniform: As there.
        others: As there.
        by: As there.

    Returns:
        ``uniform`` and ``other``, ``(cost, loss)`` of each run; ``curve``, points of the fit; and
        ``matched``, the cost of the uniform model that has the others' mean loss.
    """
    points, sizes, placed = _points(uniform, others, by)
    unit = points[sizes == others[0]["setting"]["width"], 0][0] / 100
    curve = fit_curve(points[:, 0] / unit, points[:, 1])
    costs = np.linspace(points[:, 0].min(), points[:, 0].max(), 40) / unit
    return {
        "uniform": [(cost / unit, loss) for cost, loss in points],
        "other": [(cost / unit, loss) for cost, loss in placed],
        "curve": [(float(cost), curve.loss(cost)) for cost in costs],
        "matched": curve.cost(placed[:, 1].mean()),
    }


def _points(
    uniform: Entries, others: Entries, by: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(cost, loss)`` of each uniform run, its width, and ``(cost, loss)`` of each other run."""
    for entry in uniform:
        if _arm(entry) != "uniform":
            raise ValueError(f"the curve is of only uniform models, got an arm {_arm(entry)!r}")
    points, placed = (
        np.array([(price(e)[by], _loss(e)) for e in entries]) for entries in (uniform, others)
    )
    return points, np.array([e["setting"]["width"] for e in uniform]), placed


def summarize_speed(entries: Entries) -> dict[str, Any]:
    """Ratios of time, the source's shape over the uniform model, and the rate of every layer.

    Args:
        entries: Records of the study ``"speed"``.

    Returns:
        ``prefill`` and ``decode``: a ratio of medians for each run; ``layers``: for each model,
        ``(width, GFLOP/s)`` of each layer, averaged over the runs; ``flops``: ratio of operations.
    """
    results = [entry["result"] for entry in entries]
    ratios = {
        phase: [
            float(np.median(r["paper"][f"{phase}_s"]) / np.median(r["uniform"][f"{phase}_s"]))
            for r in results
        ]
        for phase in ("prefill", "decode")
    }
    layers = {
        name: [
            (width, flops / fmean(r[name]["layer_s"][i] for r in results) / 1e9)
            for i, (width, flops) in enumerate(
                zip(results[0][name]["widths"], results[0][name]["layer_flops"], strict=True)
            )
        ]
        for name in ("uniform", "paper")
    }
    work = {name: sum(results[0][name]["layer_flops"]) for name in layers}
    return {**ratios, "layers": layers, "flops": work["paper"] / work["uniform"]}
