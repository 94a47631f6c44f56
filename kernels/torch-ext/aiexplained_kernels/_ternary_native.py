"""The C++ kernel behind :mod:`.ternary_linear`, called through ctypes."""

from __future__ import annotations

import ctypes
import struct

import torch
from torch import Tensor

from . import _native
from ._tensors import TYPES, entry

NAME = "ternary_linear"
PROBLEM = struct.Struct("@6q P q 3P")
"""The arguments of every entry: sizes, threads, then arrays; a structure in C++."""


def forward(x: Tensor, packed: Tensor, scale: Tensor, group_size: int, int8: bool) -> Tensor:
    """See :func:`.ternary_linear`; ``group_size`` 0 is one group a row."""
    out = x.new_empty(like(x, packed.shape[0]))
    name = "ternary_linear_int8" if int8 else "ternary_linear_native"
    _run(name, x, packed, scale, out, x.shape[-1], group_size)
    return out


def backward(
    grad_out: Tensor, packed: Tensor, scale: Tensor, n_columns: int, group_size: int
) -> Tensor:
    """The gradient of ``x``, ``(..., n_columns)``."""
    grad = grad_out.new_empty(like(grad_out, n_columns))
    _run("ternary_linear_backward", grad_out, packed, scale, grad, n_columns, group_size)
    return grad


def like(x: Tensor, width: int) -> tuple[int, ...]:
    """The shape of ``x`` with rows of ``width``; of a matrix without cutting its shape, as slow."""
    shape = x.shape
    return (shape[0], width) if len(shape) == 2 else (*shape[:-1], width)


def _run(
    name: str,
    x: Tensor,
    packed: Tensor,
    scale: Tensor,
    out: Tensor,
    n_columns: int,
    group_size: int,
) -> None:
    """Fill ``out`` from the rows of ``x``."""
    if not out.numel():
        return
    # One row takes microseconds, of which each call of torch here is a noticeable part.
    if x.ndim != 2:
        x = x.reshape(-1, x.shape[-1])
    n_rows, row = x.shape[0], x.stride()
    if row[1] != 1:
        x = x.contiguous()
        row = x.stride()
    packed, scale = packed.contiguous(), scale.contiguous()
    problem = PROBLEM.pack(
        TYPES[x.dtype], n_rows, n_columns, packed.shape[0], group_size or n_columns,
        torch.get_num_threads(), x.data_ptr(), row[0], packed.data_ptr(), scale.data_ptr(),
        out.data_ptr(),
    )  # fmt: skip
    entry(_native.load(NAME), name, PROBLEM.size, ctypes.c_char_p)(problem)
