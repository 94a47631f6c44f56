"""A linear map whose product can be exchanged, for one matrix of a model or for all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Multiply = Callable[[Tensor, Tensor], Tensor]
"""Takes ``x [*B, K]`` and the weight ``[N, K]``, gives ``[*B, N]``."""


class Projection(nn.Module):
    """``y = multiply(x, weight) + bias``.

    Weight and bias start at zero: who builds the model draws or loads them.

    Args:
        in_features: Width ``K`` of an input.
        out_features: Width ``N`` of an output.
        bias: Whether a vector is added to each output.

    Attributes:
        weight: The matrix ``[N, K]``.
        bias: The vector ``[N]``, or ``None``.
        multiply: Multiplies inputs by the weight. It may be exchanged at any time, e.g. for
            :func:`aiexplained.nn.reference_ternary_linear`.

    Raises:
        ValueError: if a width is not positive.

    >>> projection = Projection(2, 1)
    >>> _ = projection.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
    >>> projection(torch.ones(2)).tolist()
    [7.0]
    >>> projection.multiply = lambda x, weight: x @ weight.sign().mT
    >>> projection(torch.ones(2)).tolist()
    [2.0]
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = False) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(
                "in_features and out_features must be positive, got "
                f"{in_features} and {out_features}"
            )
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.multiply: Multiply = nn.functional.linear

    def forward(self, x: Float[Tensor, "*B K"]) -> Float[Tensor, "*B N"]:
        """Apply the map to the last axis."""
        y = self.multiply(x, self.weight)
        return y if self.bias is None else y + self.bias
