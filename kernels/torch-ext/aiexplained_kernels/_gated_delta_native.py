"""The C++ kernel behind :mod:`.gated_delta_rule`, called through ctypes.

A decode step takes the processor less time than Python takes to describe it, so its description is
packed in one call.
"""

from __future__ import annotations

import ctypes
import struct

import torch
from torch import Tensor

from . import _native
from ._gated_delta_torch import Inputs
from ._tensors import TYPES, entry, exact, rows

NAME = "gated_delta_rule"
PROBLEM = struct.Struct("@8q d 20q 11P")
"""The arguments of every entry: sizes, the scale, views, arrays; a structure in C++."""

View = tuple[int, int, int, int]
NOWHERE = 0, 0, 0, 0


def forward(inputs: Inputs, scale: float) -> tuple[Tensor, Tensor]:
    """See :func:`.gated_delta_rule`."""
    inputs = _ready(inputs)
    batch, heads, _, width = inputs.query.shape
    value = inputs.value
    out = torch.empty_like(value, memory_format=torch.contiguous_format)
    state = torch.empty((batch, heads, width, value.shape[3]), dtype=exact(value))
    problem = _pack(inputs, scale, (_view(out), NOWHERE), state, *[None] * 7)
    _call("gated_delta_forward", problem)
    return out, state


def backward(
    grad_out: Tensor, grad_state: Tensor, inputs: Inputs, scale: float
) -> tuple[Tensor, ...]:
    """Gradients of all inputs, in the type of the arithmetic; of what is None, zeros."""
    inputs = _ready(inputs)
    query, value, dtype = inputs.query, inputs.value, exact(inputs.query)
    grad_out, grad_state = rows(grad_out), grad_state.to(dtype).contiguous()
    views = NOWHERE, _view(grad_out)
    parts = _call("gradient_parts", _pack(inputs, scale, views, *[None] * 8))
    by_slice = [
        *(query.new_empty((parts, *query.shape), dtype=dtype) for _ in range(2)),
        *(query.new_zeros((parts, *query.shape[:3]), dtype=dtype) for _ in range(2)),
    ]
    grad_query, grad_key, grad_log_decay, grad_beta = by_slice
    grad_value = value.new_empty(value.shape, dtype=dtype)
    grad_initial = torch.empty_like(grad_state)
    arrays = (
        None, grad_state, grad_query, grad_key, grad_value, grad_log_decay, grad_beta, grad_initial,
    )  # fmt: skip
    _call("gated_delta_backward", _pack(inputs, scale, views, *arrays))
    grad_query, grad_key, grad_log_decay, grad_beta = (x.sum(dim=0) for x in by_slice)
    return grad_query, grad_key, grad_value, grad_log_decay, grad_beta, grad_initial


def _ready(inputs: Inputs) -> Inputs:
    """The inputs as C++ reads them; the result owns what had to be copied."""
    query, key, value, log_decay, beta, state = inputs
    dtype = exact(query)
    return Inputs(
        rows(query), rows(key), rows(value), _array(log_decay, dtype),
        None if beta is None else _array(beta, dtype),
        None if state is None else _array(state, dtype),
    )  # fmt: skip


def _array(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype is dtype and x.is_contiguous() else x.to(dtype).contiguous()


def _view(x: Tensor) -> View:
    batch, head, row, _ = x.stride()
    return x.data_ptr(), batch, head, row


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _pack(
    inputs: Inputs, scale: float, results: tuple[View, View], *arrays: Tensor | None
) -> bytes:
    """``results`` are the outputs' view and that of their gradients; all must outlive the call."""
    query, key, value, log_decay, beta, state = inputs
    out, grad_out = results
    return PROBLEM.pack(
        TYPES[query.dtype], *query.shape, value.shape[3], torch.get_num_threads(),
        beta is not None, scale, *_view(query), *_view(key), *_view(value), *out, *grad_out,
        *map(_address, (log_decay, beta, state, *arrays)),
    )  # fmt: skip


def _call(name: str, problem: bytes) -> int:
    return entry(_native.load(NAME), name, PROBLEM.size, ctypes.c_char_p)(problem)
