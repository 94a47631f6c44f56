"""A linear layer with ternary weights, as BitNet b1.58 rounds them: the definition.

Weights that follow one another in a row, a group of ``group_size`` of them, share a scale, and
each becomes -1, 0 or 1 times it:

    scale = mean |w|,    t = round(clip(w / scale, -1, 1)),    y_n = sum_k scale · t_nk x_k

This is the rule of Ma et al. (2024), who take all weights of a matrix as one group. The scale is
not trained: it follows from the weight each time. A gradient passes the rounding as if it were not
there (straight through), so the weight behind it can be trained.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Activations = Literal["native", "int8"]


def ternarize(
    weight: Float[Tensor, "N K"], group_size: int | None = 128
) -> tuple[Float[Tensor, "N K"], Float[Tensor, "N G"]]:
    """The weight as -1, 0 and 1, and the scale of each group of a row.

    Args:
        weight: ``N`` outputs of ``K`` inputs.
        group_size: Weights that share a scale; the last group of a row may be shorter. ``None``:
            one group a row.

    Returns:
        The ternary weight, and ``G = ceil(K / group_size)`` scales a row. A group of zeros has the
        scale 0 and stays zero.

    Raises:
        ValueError: if ``group_size`` is not positive.

    >>> ternary, scale = ternarize(torch.tensor([[0.5, -1.0, 0.1, 2.4]]))
    >>> ternary.tolist(), scale.tolist()
    ([[0.0, -1.0, 0.0, 1.0]], [[1.0]])
    """
    if group_size is not None and group_size < 1:
        raise ValueError(f"group_size must be at least 1, got {group_size}")
    ternary, scales = [], []
    for group in weight.split(group_size or weight.shape[1], dim=1):
        scale = group.abs().mean(dim=1, keepdim=True)
        ratio = torch.where(scale > 0, group / scale, 0.0)
        ternary.append(ratio.clamp(-1, 1).round())
        scales.append(scale)
    return torch.cat(ternary, dim=1), torch.cat(scales, dim=1)


def reference_ternary_linear(
    x: Float[Tensor, "*B K"],
    weight: Float[Tensor, "N K"],
    *,
    group_size: int | None = 128,
    activations: Activations = "native",
) -> Float[Tensor, "*B N"]:
    """``x`` times the transpose of the weight, rounded on the way.

    Args:
        x: Inputs.
        weight: As it is trained; it gets the gradient of the rounded one.
        group_size: Weights that share a scale, see :func:`ternarize`.
        activations: ``"native"`` multiplies ``x`` as it is. ``"int8"`` rounds each row of ``x`` to
            integers of which the largest magnitude is 127; it needs one group a row, so that the
            sums are of integers.

    Returns:
        ``N`` outputs for each row of ``x``.

    Raises:
        ValueError: if shapes do not fit, for an unknown name, or for ``"int8"`` with more than one
            group a row.

    >>> weight = torch.tensor([[0.5, -1.0, 0.1, 2.4]])
    >>> reference_ternary_linear(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), weight)
    tensor([[2.]])
    """
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1] or not weight.numel():
        raise ValueError(
            "x must be (..., K) and weight (N, K) with no size 0, got "
            f"{tuple(x.shape)} and {tuple(weight.shape)}"
        )
    ternary, scale = ternarize(weight, group_size)
    if activations == "int8":
        if scale.shape[1] > 1:
            raise ValueError(f"'int8' needs one scale a row, got {scale.shape[1]}: no group_size")
        x = _straight_through(x, _round_to_int8(x))
    elif activations != "native":
        raise ValueError(f"activations must be 'native' or 'int8', got {activations!r}")
    each = scale.repeat_interleave(group_size or weight.shape[1], dim=1)[:, : weight.shape[1]]
    return x @ _straight_through(weight, each * ternary).mT


def _round_to_int8(x: Tensor) -> Tensor:
    largest = x.abs().amax(dim=-1, keepdim=True)
    factor = 127 / torch.where(largest == 0, 1.0, largest)
    return (factor * x).round().clamp(-127, 127) / factor


def _straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """``rounded``, exactly, with the gradient of ``x``."""
    return rounded.detach() + (x - x.detach())
