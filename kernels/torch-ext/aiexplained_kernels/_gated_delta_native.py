"""The C++ kernel behind :mod:`.gated_delta_rule`, called through ctypes."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from . import _native
from ._gated_delta_torch import Inputs
from ._tensors import TYPES, View, entry, exact, rows, view

NAME = "gated_delta_rule"
NUMBERS = (
    "type", "batch", "heads", "tokens", "key_dim", "value_dim", "threads", "has_beta",
)  # fmt: skip
VIEWS = ("query", "key", "value", "out", "grad_out")
ARRAYS = (
    "log_decay", "beta", "initial_state", "final_state", "grad_final_state", "grad_query",
    "grad_key", "grad_value", "grad_log_decay", "grad_beta", "grad_initial_state",
)  # fmt: skip


class Problem(ctypes.Structure):
    """The arguments of every entry; the same structure stands in the C++ file."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in NUMBERS),
        ("scale", ctypes.c_double),
        *((name, View) for name in VIEWS),
        *((name, ctypes.c_void_p) for name in ARRAYS),
    )


def forward(inputs: Inputs, scale: float) -> tuple[Tensor, Tensor]:
    """See :func:`.gated_delta_rule`."""
    inputs = _ready(inputs)
    query, key, value = inputs[:3]
    out = torch.empty_like(value, memory_format=torch.contiguous_format)
    state = value.new_empty((*key.shape[:2], key.shape[3], value.shape[3]), dtype=exact(query))
    problem = _problem(inputs, scale)
    problem.out, problem.final_state = view(out), state.data_ptr()
    entry(_native.load(NAME), "gated_delta_forward", Problem)(problem)
    return out, state


def backward(
    grad_out: Tensor, grad_state: Tensor, inputs: Inputs, scale: float
) -> tuple[Tensor, ...]:
    """Gradients of all inputs, in the type of the arithmetic; of what is None, zeros."""
    inputs = _ready(inputs)
    query, _, value = inputs[:3]
    grad_out, grad_state = rows(grad_out), grad_state.to(exact(query)).contiguous()
    library, problem = _native.load(NAME), _problem(inputs, scale)
    parts = entry(library, "gradient_parts", Problem)(problem)
    grad_query, grad_key = (
        query.new_empty((parts, *query.shape), dtype=exact(query)) for _ in range(2)
    )
    grad_log_decay, grad_beta = (
        query.new_zeros((parts, *query.shape[:3]), dtype=exact(query)) for _ in range(2)
    )
    grad_value = value.new_empty(value.shape, dtype=exact(query))
    grad_initial = torch.empty_like(grad_state)
    problem.grad_out, problem.grad_final_state = view(grad_out), grad_state.data_ptr()
    problem.grad_query, problem.grad_key = grad_query.data_ptr(), grad_key.data_ptr()
    problem.grad_value, problem.grad_initial_state = grad_value.data_ptr(), grad_initial.data_ptr()
    problem.grad_log_decay, problem.grad_beta = grad_log_decay.data_ptr(), grad_beta.data_ptr()
    entry(library, "gated_delta_backward", Problem)(problem)
    shared = (x.sum(dim=0) for x in (grad_query, grad_key, grad_log_decay, grad_beta))
    grad_query, grad_key, grad_log_decay, grad_beta = shared
    return grad_query, grad_key, grad_value, grad_log_decay, grad_beta, grad_initial


def _ready(inputs: Inputs) -> Inputs:
    """The inputs as C++ reads them; the result owns what had to be copied."""
    query, key, value, *others = inputs
    dtype = exact(query)
    gates = (None if x is None else x.to(dtype).contiguous() for x in others)
    return Inputs._make((rows(query), rows(key), rows(value), *gates))


def _problem(inputs: Inputs, scale: float) -> Problem:
    query, key, value, log_decay, beta, initial_state = inputs
    batch, heads, tokens, key_dim = query.shape
    return Problem(
        type=TYPES[query.dtype], batch=batch, heads=heads, tokens=tokens, key_dim=key_dim,
        value_dim=value.shape[3], threads=torch.get_num_threads(), has_beta=beta is not None,
        scale=scale, query=view(query), key=view(key), value=view(value),
        log_decay=log_decay.data_ptr(), beta=None if beta is None else beta.data_ptr(),
        initial_state=None if initial_state is None else initial_state.data_ptr(),
    )  # fmt: skip
