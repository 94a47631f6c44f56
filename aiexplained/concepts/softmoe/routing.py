"""Which experts a token runs, with which weights: SoftMoE's rule and the rules beside it.

Every router maps scores ``[N, E]`` to weights ``[N, E]``, zero where an expert is not run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from aiexplained.concepts.softmoe.lapsum import hard_top_k, soft_top_k

EXPANSION, CUT = 2.0, 1.8
"""What a port of the source's code sets: at most ``EXPANSION · k`` experts, each above
``CUT · k / E``."""


def truncate(
    weights: Float[Tensor, "*B E"],
    k: float | Float[Tensor, "*#B"],
    *,
    expansion: float = EXPANSION,
    cut: float = CUT,
) -> Float[Tensor, "*B E"]:
    """Set small weights to zero, so that their experts need not run; the others stay as they are.

    A weight survives if it reaches ``cut · k / E``. The highest survives in any case, and no more
    than ``ceil(expansion · k)`` do (more only where weights are equal).

    Args:
        weights: From :func:`soft_top_k`.
        k: Their sum, or a tensor of sums, one a token.
        expansion: Most experts of a token over its budget, ``> 0`` (the source's α).
        cut: Where the cut lies, in units of the mean weight ``k / E``, ``>= 0``.

    Raises:
        ValueError: if ``expansion`` or ``k`` is not positive, or ``cut`` is negative.

    >>> scores = torch.tensor([2.0, 1.0, 0.9, 0.0, -1.0, -2.0])
    >>> [f"{p:.2f}" for p in truncate(soft_top_k(scores, 1.5), 1.5)]
    ['0.71', '0.00', '0.00', '0.00', '0.00', '0.00']
    """
    if not expansion > 0 or not cut >= 0:
        raise ValueError(f"need expansion > 0 and cut >= 0, got {expansion} and {cut}")
    n_experts = weights.shape[-1]
    k = torch.as_tensor(k, dtype=weights.dtype, device=weights.device).detach()
    if not (k > 0).all():
        raise ValueError(f"k must be positive, got {float(k.min())}")
    k = k.expand(weights.shape[:-1])[..., None]
    ordered = weights.detach().sort(dim=-1, descending=True).values
    # The budget may be a sum of rounded numbers: 2.0000001 is meant to be 2.
    most = (expansion * k - 1e-5).ceil().clamp(1, n_experts).long()
    threshold = (cut * k / n_experts).clamp(min=ordered.gather(-1, most - 1), max=ordered[..., :1])
    return weights.where(weights.detach() >= threshold, 0.0)


def anneal(step: int, *, steps: int, start: float = 5.0, end: float = 1.0) -> float:
    """Temperature at one step: a cosine from ``start`` to ``end`` over ``steps``, then ``end``.

    >>> [round(anneal(s, steps=4), 2) for s in (0, 2, 4, 9)]
    [5.0, 3.0, 1.0, 1.0]
    """
    share = min(1.0, step / steps)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def load_balance_loss(
    router_logits: Float[Tensor, "N E"], active: Bool[Tensor, "N E"]
) -> Float[Tensor, ""]:
    """The Switch loss for experts that run unevenly, 1 where all run alike.

        E / (N² · AE) · Σ_e (Σ_n softmax(r_n)_e) · (tokens that run e)

    Args:
        router_logits: Scores of ``N`` tokens.
        active: Which experts each token runs.

    Returns:
        A scalar, ``AE`` being the mean number of experts run. Only the probabilities carry a
        gradient.

    Raises:
        ValueError: if the two shapes differ.

    >>> load_balance_loss(torch.zeros(4, 2), torch.tensor([[True, False], [False, True]] * 2))
    tensor(1.)
    """
    if active.shape != router_logits.shape:
        raise ValueError(
            f"active must be [N, E] like the scores {tuple(router_logits.shape)}, got "
            f"{tuple(active.shape)}"
        )
    n_tokens, n_experts = router_logits.shape
    runs = active.sum(dim=0).to(router_logits.dtype)
    probability = router_logits.softmax(dim=-1).sum(dim=0)
    return n_experts * (probability * runs).sum() / (n_tokens * runs.sum().clamp(min=1))


class Router(Protocol):
    """From scores to weights; zero means that the expert is not run."""

    def __call__(self, router_logits: Float[Tensor, "N E"]) -> Float[Tensor, "N E"]:
        """Weights of ``N`` tokens."""
        ...


@dataclass
class HardTopK:
    """The usual router: softmax, then the ``k`` highest.

    Args:
        k: Experts a token runs, a whole number.
        renormalize: Whether the weights of the chosen are divided by their sum.
    """

    k: float
    renormalize: bool = False

    def __call__(self, router_logits: Float[Tensor, "N E"]) -> Float[Tensor, "N E"]:
        """Weights of ``N`` tokens."""
        weights = router_logits.softmax(dim=-1).where(hard_top_k(router_logits, self.k), 0.0)
        return weights / weights.sum(dim=-1, keepdim=True) if self.renormalize else weights


@dataclass
class SoftmaxAll:
    """Every expert, weighted by the softmax: nothing is saved."""

    def __call__(self, router_logits: Float[Tensor, "N E"]) -> Float[Tensor, "N E"]:
        """Weights of ``N`` tokens."""
        return router_logits.softmax(dim=-1)


@dataclass
class ReLURouter:
    """ReMoE's router: the positive scores themselves are the weights.

    How many experts run follows from a penalty on the weights, whose size :meth:`adapt` steers.

    Args:
        target: Experts a token should run on average.
        penalty: Size of the penalty; it grows and shrinks by ``rate``.
        rate: Factor of one step of :meth:`adapt`.
    """

    target: float
    penalty: float = 1e-8
    rate: float = 1.2

    def __call__(self, router_logits: Float[Tensor, "N E"]) -> Float[Tensor, "N E"]:
        """Weights of ``N`` tokens."""
        return router_logits.relu()

    def adapt(self, active_experts: float) -> None:
        """Raise the penalty if more experts ran than the target, else lower it."""
        self.penalty *= self.rate if active_experts > self.target else 1 / self.rate


@dataclass
class Told:
    """Runs what it is told to, with weight 1: a bound for routers that must find out.

    Args:
        needed: Weights for the next pass.
    """

    needed: Tensor | None = None

    def __call__(self, router_logits: Float[Tensor, "N E"]) -> Float[Tensor, "N E"]:
        """Weights of ``N`` tokens."""
        if self.needed is None or self.needed.shape != router_logits.shape:
            raise ValueError(
                f"Told.needed must be [N, E] like the scores {tuple(router_logits.shape)}, got "
                f"{None if self.needed is None else tuple(self.needed.shape)}"
            )
        return self.needed


@dataclass
class ToldNumber:
    """The usual router, told for each token how many experts to run, but not which.

    Args:
        counts: Experts to run, for each token of the next pass.
    """

    counts: Tensor | None = None

    def __call__(self, router_logits: Float[Tensor, "N E"]) -> Float[Tensor, "N E"]:
        """Weights of ``N`` tokens."""
        if self.counts is None or self.counts.shape != router_logits.shape[:1]:
            raise ValueError(
                f"ToldNumber.counts must be [N] for scores {tuple(router_logits.shape)}, got "
                f"{None if self.counts is None else tuple(self.counts.shape)}"
            )
        rank = router_logits.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        return router_logits.softmax(dim=-1).where(rank < self.counts[:, None], 0.0)


@dataclass
class SoftTopK:
    """SoftMoE's router: soft top-k, then the cut.

    Args:
        k: The budget, or a function that gives it where it is learned.
        temperature: Width of the soft step; a schedule may change it while training.
        expansion: See :func:`truncate`.
        cut: See :func:`truncate`.
    """

    k: float | Callable[[], Tensor]
    temperature: float = 1.0
    expansion: float = EXPANSION
    cut: float = CUT

    def __call__(self, router_logits: Float[Tensor, "N E"]) -> Float[Tensor, "N E"]:
        """Weights of ``N`` tokens."""
        k = self.k() if callable(self.k) else self.k
        weights = soft_top_k(router_logits, k, temperature=self.temperature)
        return truncate(weights, k, expansion=self.expansion, cut=self.cut)


class LayerBudgets(nn.Module):
    """Budgets of all layers that compete for a fixed sum; each layer keeps at least 1.

        k_l = softmax(η)_l · (K - L) + 1,      K = L · mean

    Args:
        n_layers: Layers ``L``.
        mean: Mean budget of a layer, ``>= 1``.
        n_experts: Experts of a layer; a layer that took all that is free must stay below it.

    Attributes:
        eta: The logits ``η`` ``[L]``; zero at first, which shares evenly. Routers are no modules,
            so an optimizer must be given them from here.

    Raises:
        ValueError: if ``mean`` is below 1, or one layer could take as many as there are experts.
    """

    def __init__(self, n_layers: int, mean: float, n_experts: int) -> None:
        super().__init__()
        self.free = n_layers * (mean - 1)
        if n_layers < 1 or self.free < 0 or self.free + 1 >= n_experts:
            raise ValueError(
                f"need mean >= 1 and n_layers * (mean - 1) + 1 < n_experts, got {n_layers} layers "
                f"of {mean} and {n_experts} experts"
            )
        self.eta = nn.Parameter(torch.zeros(n_layers))

    def forward(self) -> Float[Tensor, "L"]:
        """The budgets of all layers."""
        return self.eta.softmax(dim=0) * self.free + 1

    def budget(self, layer: int) -> Float[Tensor, ""]:
        """The budget of one layer."""
        budget: Tensor = self()[layer]
        return budget
