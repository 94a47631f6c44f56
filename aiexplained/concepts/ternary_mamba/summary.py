"""From recorded runs to the numbers that the page shows. Plain numbers in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

Entries = Sequence[Mapping[str, Any]]
Curve = tuple[list[float], list[float]]

GROUP_SIZE, ROUNDING_GROUP = 128, 32
"""Weights that share a scale: where ternary models are trained, where whole numbers are rounded."""
SCALE_BITS = 16


def losses(entries: Entries) -> dict[str, list[float]]:
    """Held-out loss in nats a character by arm, one a seed.

    Args:
        entries: Records of the study ``"training"``.

    Returns:
        By name of the arm, and for ``"checkpoint"`` and ``"rounded"``, the checkpoint as it is and
        rounded in groups of 128.
    """
    out: dict[str, list[float]] = {}
    for entry in _by_seed(entries):
        result = entry["result"]
        named = {name: arm["loss"] for name, arm in result["arms"].items()}
        named |= {"checkpoint": result["checkpoint"], "rounded": result["rounded"]["128"]}
        for name, loss in named.items():
            out.setdefault(name, []).append(loss)
    return out


def recovered(entries: Entries, arm: str = "distilled") -> list[float]:
    """How much of the damage of rounding an arm has undone, in percent, one a seed.

    The damage is the loss of the rounded checkpoint over that of the checkpoint continued in full
    precision for as many steps.

    Args:
        entries: Records of the study ``"training"``.
        arm: Name of an arm that starts from the checkpoint.
    """
    by_arm = losses(entries)
    return [
        100 * (rounded - trained) / (rounded - full)
        for rounded, trained, full in zip(
            by_arm["rounded"], by_arm[arm], by_arm["continued in full"], strict=True
        )
    ]


def steps_to_reach(curve: Sequence[tuple[float, float]], target: float) -> float | None:
    """Steps after which a curve of losses first is at ``target``, or ``None`` if it never is.

    Args:
        curve: Pairs of a step and a loss, in the order of the steps; straight between them.
        target: A loss.

    >>> steps_to_reach([(0, 3.0), (100, 2.0), (200, 1.0)], 1.5)
    150.0
    """
    if curve[0][1] <= target:
        return float(curve[0][0])
    for (x0, y0), (x1, y1) in pairwise(curve):
        if y1 <= target:
            return float(x0 + (x1 - x0) * (y0 - target) / (y0 - y1))
    return None


def steps_from_nothing(entries: Entries, *, count_checkpoint: bool) -> list[float]:
    """Steps of a ternary model from nothing over those from a checkpoint, for the same loss.

    Args:
        entries: Records of the study ``"training"``.
        count_checkpoint: Whether the checkpoint's own steps count for the one that starts there.

    Returns:
        One ratio a seed.

    Raises:
        ValueError: if a model from nothing never gets there.
    """
    ratios = []
    for entry in _by_seed(entries):
        arms, setting = entry["result"]["arms"], entry["setting"]
        target = arms["distilled"]["curve"][-1][1]
        needed = steps_to_reach(arms["ternary from nothing, all steps"]["curve"], target)
        if needed is None:
            raise ValueError(f"seed {setting['seed']}: from nothing never reaches {target:.3f}")
        base = setting["base_steps"] if count_checkpoint else 0
        ratios.append(needed / (setting["steps"] + base))
    return ratios


def loss_curves(entries: Entries, arms: Mapping[str, str], *, all_steps: bool) -> dict[str, Curve]:
    """Mean curves of some arms, for a figure.

    Args:
        entries: Records of the study ``"training"``.
        arms: Labels by name of the arm.
        all_steps: Whether the checkpoint's own steps count where an arm starts from it.

    Returns:
        Steps and mean losses over seeds, by label.
    """
    base = entries[0]["setting"]["base_steps"] if all_steps else 0
    out: dict[str, Curve] = {}
    for arm, label in arms.items():
        curves = [entry["result"]["arms"][arm]["curve"] for entry in entries]
        shift = 0 if "from nothing" in arm or arm.startswith("small") else base
        steps = [shift + step for step, _ in curves[0]]
        out[label] = (steps, [fmean(y for _, y in points) for points in zip(*curves, strict=True)])
    return out


def tell_losses(entries: Entries) -> str:
    """The mean losses in words, for the text beside a figure.

    Args:
        entries: Records of the study ``"training"``.
    """
    mean = {name: fmean(each) for name, each in losses(entries).items()}
    return (
        f"Loss in nats a character: the checkpoint {mean['checkpoint']:.3f}, rounded "
        f"{mean['rounded']:.3f}, trained with the rounding {mean['distilled']:.3f}, in full "
        f"precision for as long {mean['continued in full']:.3f}; ternary from nothing, with all "
        f"steps, {mean['ternary from nothing, all steps']:.3f}."
    )


def by_group(entries: Entries) -> dict[str, dict[str, list[float]]]:
    """Losses above the continued checkpoint by group size, rounded and trained, one a seed.

    Args:
        entries: Records of the study ``"training"``.

    Returns:
        For each group size, ``"row"`` last, ``"rounded"`` and ``"trained"``.
    """
    out: dict[str, dict[str, list[float]]] = {}
    for group in ("16", "32", "64", "128", "row"):
        arm = "distilled"
        if group != str(GROUP_SIZE):
            arm = f"distilled, groups of {'a row' if group == 'row' else group}"
        each: dict[str, list[float]] = {"rounded": [], "trained": []}
        for entry in _by_seed(entries):
            result = entry["result"]
            full = result["arms"]["continued in full"]["loss"]
            each["rounded"].append(result["rounded"][group] - full)
            each["trained"].append(result["arms"][arm]["loss"] - full)
        out[group] = each
    return out


def zero_runs(entries: Entries, kinds: Mapping[tuple[str, float], str]) -> list[dict[str, Any]]:
    """Share of zeros over the steps, mean and spread over seeds, and the codes of seed 0.

    Args:
        entries: Records of the study ``"scales"``.
        kinds: Labels by scale and weight decay, in the order wanted.

    Returns:
        For each kind ``label``, ``zeros`` (pairs of a step and a mean share), ``low``, ``high`` and
        ``codes``: at each of those steps rows of -1, 0 and 1; and ``final``, the last share, and
        ``losses``, one a seed.

    Raises:
        ValueError: if there is no run of a kind, or none of seed 0, which holds the codes.
    """
    out = []
    for (scale, decay), label in kinds.items():
        runs = [
            e["result"]
            for e in _by_seed(entries)
            if (e["setting"]["scale"], e["setting"]["weight_decay"]) == (scale, decay)
        ]
        if not runs or "codes" not in runs[0]:
            raise ValueError(f"zero_runs needs a run of seed 0 with {scale!r} and decay {decay}")
        shares = list(zip(*([y for _, y in run["zeros"]] for run in runs), strict=True))
        steps = [step for step, _ in runs[0]["zeros"]]
        out.append(
            {
                "label": label,
                "zeros": [(step, fmean(each)) for step, each in zip(steps, shares, strict=True)],
                "low": [min(each) for each in shares],
                "high": [max(each) for each in shares],
                "codes": [
                    [["-0+".index(sign) - 1 for sign in row] for row in rows]
                    for rows in runs[0]["codes"]
                ],
                "final": list(shares[-1]),
                "losses": [run["loss"] for run in runs],
            }
        )
    return out


def rounding_costs(entries: Entries, model: str, what: str) -> dict[str, list[float]]:
    """Loss above that of the model before rounding, in nats a character, one a seed.

    Args:
        entries: Records of the study ``"rounding"``.
        model: ``"mamba"`` or ``"transformer"``.
        what: ``"bits"``, ``"fixes"`` or ``"parts"``.

    Raises:
        ValueError: if there is no record of the model.
    """
    out: dict[str, list[float]] = {}
    for entry in _by_seed(entries):
        if entry["setting"]["model"] == model:
            for name, loss in entry["result"][what].items():
                out.setdefault(name, []).append(loss - entry["result"]["full"])
    if not out:
        raise ValueError(f"rounding_costs: no record of {model!r}")
    return out


def closed_by_fixes(entries: Entries, model: str) -> dict[str, list[float]]:
    """How much of plain rounding's damage each correction takes away, in percent, one a seed.

    Args:
        entries: Records of the study ``"rounding"``.
        model: As of :func:`rounding_costs`.
    """
    costs = rounding_costs(entries, model, "fixes")
    plain = costs.pop("absmean")
    return {
        name: [100 * (1 - cost / whole) for cost, whole in zip(each, plain, strict=True)]
        for name, each in costs.items()
    }


def error_ratios(
    entries: Entries, how: str, *, middle: Callable[[list[float]], float] = fmean
) -> list[float]:
    """Error of the state from an error in ``dt`` over that from one in ``B``, one a seed.

    Args:
        entries: Records of the study ``"errors"``.
        how: ``"once"``, ``"at random"`` or ``"always"``.
        middle: Sums up the ratios of all heads. At one token some heads write next to nothing,
            and their ratios are huge: take the median there.
    """
    return [
        float(middle([head[f"dt {how}"] / head[f"B {how}"] for head in entry["result"]["heads"]]))
        for entry in _by_seed(entries)
    ]


def late_damage(entries: Entries) -> list[tuple[float, float]]:
    """Damage of rounding at the start of a text and in its last half, one pair a seed.

    Args:
        entries: Records of the study ``"positions"``.

    Returns:
        Differences of losses in nats a character.
    """
    out = []
    for entry in _by_seed(entries):
        result = entry["result"]
        damage = [b - a for a, b in zip(result["full"], result["rounded"], strict=True)]
        out.append((damage[0], damage[-1]))
    return out


def agreement_curve(entries: Entries) -> tuple[list[int], list[list[float]]]:
    """Bytes with the label of the full model over the steps of training, in percent.

    Args:
        entries: Records of the study ``"real-training"``.

    Returns:
        Steps, and at each of them the share in percent, one a seed.
    """
    runs = [entry["result"] for entry in _by_seed(entries)]
    shares = zip(*(run["agreement"] for run in runs), strict=True)
    return list(runs[0]["steps"]), [[100 * share for share in each] for each in shares]


def agreements(entries: Entries) -> dict[tuple[str, str], float]:
    """Bytes with the label of the full model after rounding alone, in percent.

    Args:
        entries: Records of the study ``"real-rounding"``.

    Returns:
        By format and part of the model.
    """
    return {
        (entry["setting"]["bits"], entry["setting"]["part"]): 100 * entry["result"]["agreement"]
        for entry in entries
    }


def sizes_and_losses(training: Entries, rounding: Entries) -> list[dict[str, Any]]:
    """Bytes of each of our models, and its loss above one in full precision trained as long.

    Losses after rounding to whole numbers are of the first held-out characters, all others of all.

    Args:
        training: Records of the study ``"training"``.
        rounding: Records of the study ``"rounding"``.

    Returns:
        ``name``, ``kind``, ``bytes`` and ``losses``, one a seed, of each.
    """
    result = training[0]["result"]
    (in_matrices,) = {e["result"]["weights"] for e in rounding if e["setting"]["model"] == "mamba"}
    whole, small = (
        result["arms"][arm]["parameters"] for arm in ("distilled", "small, full, all steps")
    )

    def size(bits: float) -> float:
        return float(bits * in_matrices + 16 * (whole - in_matrices)) / 8

    by_arm = losses(training)

    def above(arm: str, full: str) -> list[float]:
        return [a - b for a, b in zip(by_arm[arm], by_arm[full], strict=True)]

    ternary = size(2 + SCALE_BITS / GROUP_SIZE)
    points = [
        ("16 bits", "full", size(16), [0.0 for _ in by_arm["checkpoint"]]),
        ("ternary, rounded", "rounded", ternary, above("rounded", "checkpoint")),
        ("ternary, trained", "trained ternary", ternary, above("distilled", "continued in full")),
        (
            "small, 16 bits",
            "small model",
            2 * small,
            above("small, full, all steps", "full from nothing, all steps"),
        ),
    ]
    for bits, each in rounding_costs(rounding, "mamba", "bits").items():
        points.append(
            (f"{bits} bits", "rounded", size(int(bits) + SCALE_BITS / ROUNDING_GROUP), each)
        )
    return [dict(zip(("name", "kind", "bytes", "losses"), p, strict=True)) for p in points]


def _by_seed(entries: Entries) -> list[Mapping[str, Any]]:
    return sorted(entries, key=lambda entry: entry["setting"]["seed"])
