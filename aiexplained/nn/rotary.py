"""Rotary position embedding (Su et al., 2021), with the halves of a head paired.

Channel ``i`` and channel ``i + D/2`` form one plane, turned by ``position * base**(-2 i / D)``.
This is the layout of Hugging Face checkpoints; llama.cpp pairs neighboring channels instead.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotary_cos_sin(
    positions: Int[Tensor, "T"], head_dim: int, *, base: float = 10_000.0
) -> tuple[Float[Tensor, "T half"], Float[Tensor, "T half"]]:
    """Cosine and sine of every plane's angle at every position, in float32.

    Args:
        positions: Position of each token, in tokens.
        head_dim: Width of a head, even.
        base: The longest wavelength is near ``2 * pi * base`` tokens, ``> 1``.

    Returns:
        Two tables with ``head_dim / 2`` columns.

    Raises:
        ValueError: if ``head_dim`` is odd or not positive, or ``base`` is not above 1.
    """
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"head_dim must be even and positive, got {head_dim}")
    if base <= 1:
        raise ValueError(f"base must be above 1, got {base}")
    exponent = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions.float()[:, None] * (1.0 / base**exponent)
    return angles.cos(), angles.sin()


def apply_rotary(
    x: Float[Tensor, "*B T D"], cos: Float[Tensor, "T half"], sin: Float[Tensor, "T half"]
) -> Float[Tensor, "*B T D"]:
    """Turn queries or keys by their positions' angles.

    Args:
        x: Queries or keys.
        cos: Cosines from :func:`rotary_cos_sin`.
        sin: Sines from :func:`rotary_cos_sin`.

    Returns:
        Turned vectors, shaped and typed like ``x``; lengths are unchanged.

    Raises:
        ValueError: if the tables do not fit the last two axes of ``x``.

    >>> cos, sin = rotary_cos_sin(torch.tensor([0, 3]), 2)
    >>> apply_rotary(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), cos, sin).round(decimals=2)
    tensor([[ 1.0000,  0.0000],
            [-0.9900,  0.1400]])
    """
    rows, half = x.shape[-2], x.shape[-1] // 2
    if cos.shape != (rows, half) or sin.shape != (rows, half):
        raise ValueError(
            f"cos and sin must be {(rows, half)} for x {tuple(x.shape)}, "
            f"got {tuple(cos.shape)} and {tuple(sin.shape)}"
        )
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
