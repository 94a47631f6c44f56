"""LapSum: a top-k whose k may be any number and whose choice has a gradient.

The Laplace distribution function ``F`` is shifted until its heights over the scores sum to ``k``:

    F(u) = e^u / 2 for u <= 0, else 1 - e^-u / 2;     p_i = F((r_i - x) / α);     Σ p_i = k

Between two neighboring scores the sum is ``a + b e^-x - c e^x``, so the threshold ``x`` solves a
quadratic equation in ``e^x``; nothing is iterated. With the density ``f_i = e^-|u_i| / 2``, its sum
``S`` and ``q_i = f_i / S``, the implicit function theorem gives the gradient

    ∂p_i/∂r_j = f_i / α (δ_ij - q_j),      ∂p_i/∂k = q_i
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def laplace_cdf(u: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Distribution function of the Laplace distribution with scale 1.

    >>> laplace_cdf(torch.tensor([-1.0, 0.0, 1.0])).round(decimals=3).tolist()
    [0.18400000035762787, 0.5, 0.8159999847412109]
    """
    tail = 0.5 * (-u.abs()).exp()
    return torch.where(u <= 0, tail, 1 - tail)


def soft_top_k(
    router_logits: Float[Tensor, "*B E"],
    k: float | Float[Tensor, "*#B"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, "*B E"]:
    """Weights in (0, 1) that sum to ``k`` over the experts, with gradients for scores and ``k``.

    Args:
        router_logits: Scores ``r``, dimensionless.
        k: Sum of a token's weights, ``0 < k < E``, need not be whole; or one for each token.
        temperature: Width ``α`` of the soft step, in units of the scores, ``> 0``. As it falls, the
            weights go to the mask of the ``k`` highest scores. It has no gradient.

    Returns:
        Weights shaped like ``router_logits``. They are found in float64, which not every device
        has, and returned in its type. There is a first derivative only.

    Raises:
        ValueError: if ``k`` is outside the open interval, ``temperature`` is not positive, or a
            score is not finite.

    >>> scores = torch.tensor([2.0, 1.0, 0.9, 0.0, -1.0, -2.0])
    >>> [f"{p:.2f}" for p in soft_top_k(scores, 2, temperature=0.5)]
    ['0.94', '0.54', '0.44', '0.07', '0.01', '0.00']
    >>> f"{soft_top_k(scores, 1.5).sum():.4f}"
    '1.5000'
    """
    budget = _checked(router_logits, k, temperature)
    weights: Tensor = _SoftTopK.apply(router_logits, budget, temperature)  # type: ignore[no-untyped-call]
    return weights


def soft_threshold(
    router_logits: Float[Tensor, "*B E"],
    k: float | Float[Tensor, "*#B"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, "*B"]:
    """The score ``x`` that the curve of :func:`soft_top_k` is centered on, without a gradient.

    Args:
        router_logits: As there.
        k: As there.
        temperature: As there.

    Raises:
        ValueError: as there.
    """
    budget = _checked(router_logits, k, temperature)
    with torch.no_grad():
        scaled, highest = _scaled(router_logits, temperature)
        threshold = _threshold(scaled, budget) * temperature + highest
        return threshold.to(router_logits.dtype)


def hard_top_k(router_logits: Float[Tensor, "*B E"], k: float) -> Bool[Tensor, "*B E"]:
    """The mask of the ``k`` highest scores, ``k`` of them even where scores are equal.

    Args:
        router_logits: Scores, dimensionless.
        k: Experts to choose, a whole number from 1 to ``E``.

    Raises:
        ValueError: if ``k`` is not a whole number in that range.

    >>> hard_top_k(torch.tensor([0.2, 0.5, 0.1]), 2)
    tensor([ True,  True, False])
    """
    n_experts = router_logits.shape[-1]
    if k != int(k) or not 1 <= k <= n_experts:
        raise ValueError(f"hard top-k takes whole k from 1 to {n_experts} experts, got {k}")
    chosen = router_logits.topk(int(k), dim=-1).indices
    return torch.zeros_like(router_logits, dtype=torch.bool).scatter_(-1, chosen, True)


class _SoftTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, router_logits: Tensor, k: Tensor, temperature: float) -> Tensor:
        scaled, _ = _scaled(router_logits, temperature)
        u = scaled - _threshold(scaled, k)[..., None]
        ctx.save_for_backward(u)
        ctx.temperature, ctx.k_shape, ctx.k_dtype = temperature, k.shape, k.dtype
        return laplace_cdf(u).to(router_logits.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        (u,) = ctx.saved_tensors
        density, share = 0.5 * (-u.abs()).exp(), (-u.abs()).softmax(dim=-1)
        g = upstream.double()
        grad_k = (share * g).sum(dim=-1)
        grad_r = density / ctx.temperature * (g - grad_k[..., None])
        return grad_r.to(upstream.dtype), grad_k.sum_to_size(ctx.k_shape).to(ctx.k_dtype), None


def _scaled(
    router_logits: Float[Tensor, "*B E"], temperature: float
) -> tuple[Float[Tensor, "*B E"], Float[Tensor, "*B"]]:
    """Scores below each row's highest, in units of the temperature and float64; the highest."""
    scores = router_logits.double()
    highest = scores.amax(dim=-1)
    return (scores - highest[..., None]) / temperature, highest


def _threshold(scores: Float[Tensor, "*B E"], k: Float[Tensor, "*#B"]) -> Float[Tensor, "*B"]:
    """The threshold for scores in units of the temperature; all sums as logarithms, in float64."""
    high = scores.sort(dim=-1, descending=True).values
    n_experts = high.shape[-1]
    none = torch.full_like(high[..., :1], -math.inf)
    # With j scores above x: Σ p = j - e^x A_j / 2 + e^-x B_j / 2.
    log_a = torch.cat([none, (-high).logcumsumexp(dim=-1)], dim=-1)
    log_b = torch.cat([high.flip(-1).logcumsumexp(dim=-1).flip(-1), none], dim=-1)
    count = torch.arange(1, n_experts + 1, dtype=high.dtype, device=high.device)
    total_at = count - 0.5 * (log_a[..., 1:] + high).exp() + 0.5 * (log_b[..., 1:] - high).exp()
    k = k.to(high.dtype).expand(high.shape[:-1])
    above = (total_at <= k[..., None]).sum(dim=-1, keepdim=True)
    log_a, log_b = log_a.gather(-1, above)[..., 0], log_b.gather(-1, above)[..., 0]
    # A z² - 2 (j - k) z - B = 0 for z = e^x, its root written so that nothing cancels.
    surplus = above[..., 0].to(high.dtype) - k
    log_surplus = surplus.abs().log()
    log_sum = torch.logaddexp(log_surplus, 0.5 * torch.logaddexp(2 * log_surplus, log_a + log_b))
    return torch.where(surplus >= 0, log_sum - log_a, log_b - log_sum)


def _checked(scores: Tensor, k: float | Tensor, temperature: float) -> Tensor:
    """``k`` as a tensor, if all arguments are in their ranges."""
    if scores.ndim < 1 or scores.shape[-1] < 1 or not scores.is_floating_point():
        raise ValueError(
            f"router_logits must be floating-point [*B, E] with at least one expert, got "
            f"{tuple(scores.shape)} of {scores.dtype}"
        )
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    budget = torch.as_tensor(k, dtype=torch.float64 if not isinstance(k, Tensor) else None)
    budget = budget.to(scores.device)
    try:
        budget.expand(scores.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"k must be one number, or one a token {tuple(scores.shape[:-1])}; got shape "
            f"{tuple(budget.shape)}"
        ) from None
    if budget.numel() and not ((budget > 0) & (budget < scores.shape[-1])).all():
        raise ValueError(
            f"k must lie strictly between 0 and the number of experts {scores.shape[-1]}, got "
            f"{float(budget.min())} to {float(budget.max())}"
        )
    if not scores.isfinite().all():
        raise ValueError("router_logits must be finite")
    return budget
