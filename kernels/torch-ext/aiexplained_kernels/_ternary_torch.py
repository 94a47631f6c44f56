"""Products with packed ternary weights in torch: unpack, then multiply. Any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from ._precision import exactly
from ._tensors import exact

RUN = 128
"""Weights of a row that are packed together, in a quarter of as many bytes."""
RUN_BYTES = 32
PART = 512
"""Rows of the weight that are unpacked at a time, so that few of them take memory."""


def pack(ternary: Tensor) -> Tensor:
    """``(N, K)`` of -1, 0, 1 as ``(N, 32 * ceil(K / 128))`` bytes; see :func:`.pack_ternary`."""
    stored = pad(ternary, (0, -ternary.shape[1] % RUN)).to(torch.int8) + 1
    planes = stored.to(torch.uint8).unflatten(1, (-1, 4, RUN_BYTES)).unbind(dim=2)
    packed: Tensor = planes[0] | planes[1] << 2 | planes[2] << 4 | planes[3] << 6
    return packed.flatten(1)


def unpack(packed: Tensor, n_columns: int) -> Tensor:
    """``(N, n_columns)`` of -1, 0, 1 in int8."""
    by_run = packed.unflatten(1, (-1, RUN_BYTES))
    planes = torch.stack([by_run >> shift & 3 for shift in (0, 2, 4, 6)], dim=2)
    return planes.flatten(1)[:, :n_columns].to(torch.int8) - 1


def spread(scale: Tensor, n_columns: int, group_size: int) -> Tensor:
    """The scale of each weight, ``(N, n_columns)``; ``group_size`` 0 is one group a row."""
    if not group_size or scale.shape[1] == 1:
        return scale.expand(-1, n_columns)
    return scale.repeat_interleave(group_size, dim=1)[:, :n_columns]


@exactly
def forward(x: Tensor, packed: Tensor, scale: Tensor, group_size: int, int8: bool) -> Tensor:
    """See :func:`.ternary_linear`; ``group_size`` 0 is one group a row."""
    parts = zip(packed.split(PART), scale.split(PART), strict=True)
    numbers, results = x.to(exact(x)), []
    if int8:
        integers, factor = _quantize(numbers)
        for some, its_scale in parts:
            # Sums of integers that a double holds exactly.
            sums = integers.double() @ unpack(some, x.shape[-1]).double().mT
            results.append(sums.to(factor.dtype) * (its_scale[:, 0].to(factor.dtype) / factor))
    else:
        results = [numbers @ _dequantize(*part, numbers, group_size).mT for part in parts]
    return torch.cat(results, dim=-1).to(x.dtype)


@exactly
def backward(
    grad_out: Tensor, packed: Tensor, scale: Tensor, n_columns: int, group_size: int
) -> Tensor:
    """The gradient of ``x``, ``(..., n_columns)``."""
    numbers = grad_out.to(exact(grad_out))
    grad = numbers.new_zeros((*grad_out.shape[:-1], n_columns))
    parts = zip(packed.split(PART), scale.split(PART), numbers.split(PART, dim=-1), strict=True)
    for some, its_scale, grad_part in parts:
        grad += grad_part @ _dequantize(some, its_scale, grad, group_size)
    return grad.to(grad_out.dtype)


def _dequantize(packed: Tensor, scale: Tensor, x: Tensor, group_size: int) -> Tensor:
    """The weight ``(N, K)`` in the type of ``x`` ``(..., K)``."""
    n_columns = x.shape[-1]
    return unpack(packed, n_columns).to(x.dtype) * spread(scale.to(x.dtype), n_columns, group_size)


def _quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Integers from -127 to 127, and how many of them a unit of ``x`` is: ``(..., 1)``.

    The factor is NaN in a row with NaN or infinity and infinite in a row of zeros, whose integers
    are zeros all the same.
    """
    largest = x.abs().amax(dim=-1, keepdim=True)
    # Of a number and a tensor, torch multiplies by the reciprocal, which rounds once more.
    factor = torch.where(largest.isfinite(), largest.new_tensor(127) / largest, torch.nan)
    return (factor * x).nan_to_num(nan=0.0).round().clamp(-127, 127), factor
