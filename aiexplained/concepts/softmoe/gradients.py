"""What gradients tell a router: the figures' first states, and who learns what.

All of it is computed while the page is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from aiexplained.concepts.softmoe.lapsum import soft_threshold, soft_top_k
from aiexplained.concepts.softmoe.layer import Experts, MixtureOfExperts
from aiexplained.concepts.softmoe.measure import correlation
from aiexplained.concepts.softmoe.routing import CUT, HardTopK, Router, SoftTopK, truncate


def measure_curve(
    scores: Sequence[float], *, k: float, temperature: float, cut: float = CUT
) -> dict[str, Any]:
    """Soft and hard top-k of one token.

    Args:
        scores: Scores of the experts.
        k: The budget.
        temperature: Width of the soft step.
        cut: See :func:`truncate`.

    Returns:
        ``threshold``; and by expert ``weights``, ``kept`` (the same after the cut), ``shares``
        (derivatives of the weights by ``k``) and ``hard`` (hard top-k with ``k`` rounded, a half up
        and at least 1).

    >>> measure_curve([1.0, 0.0], k=1.0, temperature=1.0)["threshold"]
    0.5
    """
    r = torch.tensor(scores, dtype=torch.float64)
    budget = torch.tensor(float(k), dtype=torch.float64)
    weights = soft_top_k(r, budget, temperature=temperature)
    shares = torch.autograd.functional.jacobian(
        lambda b: soft_top_k(r, b, temperature=temperature), budget
    )
    return {
        "threshold": float(soft_threshold(r, budget, temperature=temperature)),
        "weights": weights.tolist(),
        "kept": truncate(weights, k, cut=cut).tolist(),
        "shares": shares.tolist(),
        "hard": HardTopK(max(1, int(k + 0.5)))(r[None])[0].tolist(),
    }


def measure_nudge(
    scores: Sequence[float], *, k: int, temperature: float
) -> dict[str, tuple[float, float]]:
    """The expert that hard top-k just misses, beside the last that it chooses.

    Args:
        scores: Scores of the experts.
        k: Experts that hard top-k chooses.
        temperature: Width of the soft step.

    Returns:
        Pairs, for the near miss and for the last chosen: ``hard`` and ``soft``, the weights;
        ``hard_slope`` and ``soft_slope``, their derivatives by the score of the near miss.

    Raises:
        ValueError: if ``k`` leaves no near miss, or it scores as much as the last chosen.

    >>> measure_nudge([1.2, -0.6, 0.4, 0.5], k=2, temperature=0.5)["hard_slope"][0]
    0.0
    """
    r = torch.tensor([scores], dtype=torch.float64)
    if not 1 <= k < len(scores):
        raise ValueError(f"k must be from 1 to {len(scores) - 1}, got {k}")
    last, near = r[0].argsort(descending=True)[k - 1 : k + 1].tolist()
    if scores[near] == scores[last]:
        raise ValueError(f"the near miss must score less than the last chosen, {scores[last]}")
    routers: dict[str, Router] = {
        "hard": HardTopK(k),
        "soft": SoftTopK(float(k), temperature, expansion=len(scores), cut=0),
    }
    found: dict[str, tuple[float, float]] = {}
    for name, router in routers.items():
        slopes = torch.autograd.functional.jacobian(router, r)[0, :, 0, near].tolist()
        weights = router(r)[0].tolist()
        found[name] = (weights[near], weights[last])
        found[f"{name}_slope"] = (slopes[near], slopes[last])
    return found


ROUTERS: Mapping[str, Router] = {
    "choose, then softmax": HardTopK(2, renormalize=True),
    "softmax, then choose": HardTopK(2),
    "soft, cut to two": SoftTopK(2.0, 0.5, expansion=1.0, cut=0.0),
    "soft, not cut": SoftTopK(2.0, 0.5, expansion=4.0, cut=0.0),
}
"""Whose gradients :func:`measure_gradients` looks at; all but the last run two of eight experts."""


def measure_gradients(*, seed: int, n_tokens: int = 2048) -> dict[str, dict[str, float]]:
    """What reaches the scores of experts that did not run, and whether it knows their worth.

    A layer of eight experts with random weights, random tokens and a random gradient ``g`` of the
    loss for each output. The worth of expert ``e`` for a token is ``-g · E_e(x)``: how fast the
    loss would fall if the expert were given weight.

    Args:
        seed: Of everything.
        n_tokens: Tokens.

    Returns:
        For each of :data:`ROUTERS`, ``outside``: the share, in percent, of the gradient's size that
        falls on the scores of the experts in third and fourth place, which run in the last router
        alone; and ``knows``: the correlation of what these scores are told with the worth of their
        experts, zero where they are told nothing.
    """
    d_model, near = 16, slice(2, 4)
    generator = torch.Generator().manual_seed(seed)
    experts = Experts(8, d_model, 32, generator=generator)
    x = torch.randn(n_tokens, d_model, generator=generator)
    g = torch.randn(n_tokens, d_model, generator=generator)
    found = {}
    for name, router in ROUTERS.items():
        layer = MixtureOfExperts(experts, router, seed=seed + 1_000_003)
        out = layer(x)
        assert layer.routing is not None
        logits = layer.routing.logits
        (slope,) = torch.autograd.grad((out * g).sum(), logits)
        order = logits.argsort(dim=-1, descending=True)[:, near]
        with torch.no_grad():
            worth = -torch.stack([(experts.run(e, x) * g).sum(-1) for e in range(8)], dim=-1)
        outside, worth = -slope.gather(-1, order), worth.gather(-1, order)
        share = (outside.abs().sum() / slope.abs().sum()).item()
        nothing = share < 1e-6  # rounding of a softmax over the chosen
        knows = None if nothing else correlation(outside.flatten(), worth.flatten())
        found[name] = {"outside": 100 * share, "knows": knows or 0.0}
    return found
