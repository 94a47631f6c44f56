"""Root-mean-square normalization (Zhang and Sennrich, 2019)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


def rms_norm(
    x: Float[Tensor, "*B D"], weight: Float[Tensor, "D"], *, eps: float
) -> Float[Tensor, "*B D"]:
    """Scale each vector to unit root mean square, then channel by channel.

    ``y = weight * x / sqrt(mean(x**2) + eps)``; the mean runs over the last axis.

    Args:
        x: Activations.
        weight: Gain of each channel.
        eps: Added to the mean square, ``>= 0``.

    Returns:
        Normalized activations, shaped like ``x``.

    Raises:
        ValueError: if ``eps`` is negative or ``weight`` does not fit the last axis.

    >>> import torch
    >>> rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2), eps=0.0).pow(2).sum().round(decimals=4)
    tensor(2.)
    """
    if eps < 0:
        raise ValueError(f"eps must not be negative, got {eps}")
    if weight.shape != x.shape[-1:]:
        raise ValueError(
            f"weight must have {x.shape[-1]} channels like x, got {tuple(weight.shape)}"
        )
    return nn.functional.rms_norm(x, weight.shape, weight, eps)
