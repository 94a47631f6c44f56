"""From recorded runs to the numbers that the page shows. Plain numbers in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from aiexplained.concepts.variable_width.measure import ARMS, SEQ_LEN
from aiexplained.concepts.variable_width.schedule import count_flops

Entries = Sequence[Mapping[str, Any]]


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
    """Loss against cost of uniform models, ``floor + scale * cost ** -power``."""

    floor: float
    scale: float
    power: float

    def loss(self, cost: float) -> float:
        """Loss at a cost."""
        return float(self.floor + self.scale * cost**-self.power)

    def cost(self, loss: float) -> float:
        """Cost at which a uniform model has this loss.

        Raises:
            ValueError: if no cost is enough.
        """
        if loss <= self.floor:
            raise ValueError(f"the curve never falls to {loss:g}; its floor is {self.floor:g}")
        return float(((loss - self.floor) / self.scale) ** (-1 / self.power))


def fit_curve(costs: Sequence[float], losses: Sequence[float]) -> Curve:
    """The power law with a floor that is nearest to the points in least squares.

    The exponent is searched in steps of 0.01 up to 3; floor and scale follow from it.

    Args:
        costs: Costs of three or more models, positive.
        losses: Their losses.

    Raises:
        ValueError: if there are fewer than three different costs, or loss does not fall with cost.
    """
    if len(set(costs)) < 3 or min(costs) <= 0:
        raise ValueError(f"a curve needs three different positive costs, got {list(costs)}")
    best: tuple[float, Curve] | None = None
    unit = float(np.exp(np.mean(np.log(costs))))
    for power in np.arange(1, 301) / 100:
        terms = np.stack([np.ones(len(costs)), (np.array(costs) / unit) ** -power], axis=1)
        (floor, scale), *_ = np.linalg.lstsq(terms, np.array(losses), rcond=None)
        error = float(np.square(terms @ [floor, scale] - losses).sum())
        if best is None or error < best[0]:
            best = (error, Curve(float(floor), float(scale * unit**power), float(power)))
    assert best is not None
    if best[1].scale <= 0:
        raise ValueError(f"loss does not fall with cost: {list(zip(costs, losses, strict=True))}")
    return best[1]


def match_losses(uniform: Entries, others: Entries, *, by: str) -> list[float]:
    """Cost of ``others`` against uniform models *of the same loss*, in percent, a seed each.

    For every seed a curve is fitted to the uniform models of that seed, and read at the loss of
    the other model. Negative means that the other model is cheaper.

    Args:
        uniform: Records of uniform models, three or more sizes a seed.
        others: Records of the model to place, one a seed; a seed without uniform models is skipped.
        by: ``"flops"`` or ``"cache"``.

    Raises:
        ValueError: if no seed has three sizes of uniform models.
    """
    changes = []
    for entry in _comparable(uniform, others):
        same = [e for e in uniform if e["setting"]["seed"] == entry["setting"]["seed"]]
        curve = fit_curve([price(e)[by] for e in same], [e["result"]["loss"] for e in same])
        changes.append(100 * (price(entry)[by] / curve.cost(entry["result"]["loss"]) - 1))
    return changes


def draw_match(uniform: Entries, others: Entries, *, by: str) -> dict[str, Any]:
    """The points and the curve behind :func:`match_losses`, for a figure.

    Costs are in percent of the uniform model with as many weights as the other one.

    Args:
        uniform: As there.
        others: As there.
        by: As there.

    Returns:
        ``uniform`` and ``other``, ``(cost, loss)`` of each run; ``curve``, points of one fit to all
        uniform runs; ``change``, the mean of :func:`match_losses`; and ``matched``, the cost that
        it stands for.
    """
    others = _comparable(uniform, others)
    seeds = {e["setting"]["seed"] for e in others}
    width = others[0]["setting"]["width"]
    unit = next(price(e)[by] for e in uniform if e["setting"]["width"] == width) / 100
    points, placed = (
        [(price(e)[by] / unit, e["result"]["loss"]) for e in entries]
        for entries in ([e for e in uniform if e["setting"]["seed"] in seeds], others)
    )
    curve = fit_curve(*zip(*points, strict=True))
    costs = np.linspace(min(c for c, _ in points), max(c for c, _ in points), 40)
    change = fmean(match_losses(uniform, others, by=by))
    return {
        "uniform": points,
        "other": placed,
        "curve": [(float(c), curve.loss(c)) for c in costs],
        "change": change,
        "matched": fmean(c for c, _ in placed) / (1 + change / 100),
    }


def _comparable(uniform: Entries, others: Entries) -> list[Mapping[str, Any]]:
    """Those of ``others`` whose seed has uniform models of three sizes, in order of seeds."""
    sizes: dict[int, set[int]] = {}
    for entry in uniform:
        if _arm(entry) != "uniform":
            raise ValueError(f"the curve is of only uniform models, got an arm {_arm(entry)!r}")
        sizes.setdefault(entry["setting"]["seed"], set()).add(entry["setting"]["width"])
    kept = [e for e in others if len(sizes.get(e["setting"]["seed"], ())) >= 3]
    if not kept:
        raise ValueError(f"no seed has uniform models of three sizes, only {sizes}")
    return sorted(kept, key=lambda e: e["setting"]["seed"])


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
