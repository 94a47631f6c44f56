"""The gated delta rule: linear attention whose state is corrected as it is written, and fades.

``S_t = e^{g_t} (I - beta_t k_t k_tᵀ) S_{t-1} + beta_t k_t v_tᵀ`` and ``o_t = scale · S_tᵀ q_t``, a
head at a time (Yang et al., 2024). Without ``beta`` nothing is corrected, ``S_t = e^{g_t} S_{t-1} +
k_t v_tᵀ``: gated linear attention, the recurrence of Mamba-2's SSD.

Forward and backward are registered as torch operators, and the forward pass alone as another. Three
implementations compute the same: torch, in chunks (:mod:`._gated_delta_torch`), a C++ kernel for
CPUs that takes token by token, and Triton kernels for GPUs, in chunks (:mod:`._gated_delta_triton`)
and with the backward pass of torch.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import _gated_delta_native as native
from . import _gated_delta_torch as in_torch
from ._backends import Backend, resolve
from ._gated_delta_torch import Inputs
from ._ops import add_op_namespace_prefix, ops

NAME = "gated_delta_rule"


def gated_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Outputs and last state of the gated delta rule; differentiable once, in all its inputs.

    A long sequence may be given in parts, each with the state that the one before it returned; a
    decode step is a part of one token.

    Args:
        query: ``(B, H, T, K)``.
        key: ``(B, H, T, K)``; of unit length where ``beta`` is to be the share that is corrected.
        value: ``(B, H, T, V)``, of one type with query and key.
        log_decay: ``(B, H, T)``: logarithm of the share of the state that is kept, usually
            ``<= 0``.
        beta: ``(B, H, T)``: share of what stands under the key that is replaced, usually from 0 to
            1; ``None`` adds instead of replacing.
        scale: Factor on the outputs; default ``K ** -0.5``.
        initial_state: ``(B, H, K, V)``: the state before the first token; default zero.
        backend: ``"auto"`` takes the fastest that can run here; ``"torch"``, ``"native"`` (C++) or
            ``"triton"`` (for GPUs, keys of up to 128 numbers; gradients by torch) runs or raises.

    Returns:
        ``(B, H, T, V)`` in the type of ``value``, and the state after the last token,
        ``(B, H, K, V)`` in float32 (float64 for float64 inputs).

    Raises:
        ValueError: if shapes, types or devices do not fit.
        BackendUnavailable: if the named backend cannot run here.

    >>> query, key, value = torch.randn(3, 1, 2, 100, 16).unbind()
    >>> log_decay, beta = -torch.rand(1, 2, 100), torch.rand(1, 2, 100)
    >>> out, state = gated_delta_rule(query, key, value, log_decay, beta)
    >>> out.shape, state.shape
    (torch.Size([1, 2, 100, 16]), torch.Size([1, 2, 16, 16]))
    """
    inputs = query, key, value, log_decay, beta, initial_state
    _check_shapes(*inputs)
    _check_types(*inputs)
    scale = query.shape[3] ** -0.5 if scale is None else scale
    result: tuple[Tensor, Tensor]
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        result = ops.gated_delta_rule(*inputs, scale, backend)
    else:
        # Autograd in Python would take longer than a decode step.
        result = ops.gated_delta_rule_forward(*inputs, scale, backend)
    return result


def _check_shapes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    initial_state: Tensor | None,
) -> None:
    if query.ndim != 4 or query.shape != key.shape or not query.numel():
        raise ValueError(
            "query and key must be alike, (B, H, T, K) with no size 0, got "
            f"{tuple(query.shape)} and {tuple(key.shape)}"
        )
    *per_token, width = query.shape
    if value.ndim != 4 or [*value.shape[:3]] != per_token or not value.numel():
        raise ValueError(
            f"value must be (B, H, T, V) with {tuple(per_token)} in front like the keys, got "
            f"{tuple(value.shape)}"
        )
    for name, gate in (("log_decay", log_decay), ("beta", beta)):
        if gate is not None and [*gate.shape] != per_token:
            raise ValueError(
                f"{name} must be one number a token, {tuple(per_token)}, got {tuple(gate.shape)}"
            )
    wanted = [*per_token[:2], width, value.shape[3]]
    if initial_state is not None and [*initial_state.shape] != wanted:
        raise ValueError(f"initial_state must be {tuple(wanted)}, got {tuple(initial_state.shape)}")


def _check_types(query: Tensor, key: Tensor, value: Tensor, *others: Tensor | None) -> None:
    if not query.dtype == key.dtype == value.dtype or not query.is_floating_point():
        raise ValueError(
            "query, key, value must share one floating type, got "
            f"{query.dtype}, {key.dtype}, {value.dtype}"
        )
    for name, x in zip(Inputs._fields, (query, key, value, *others), strict=True):
        if x is None:
            continue
        if not x.is_floating_point():
            raise ValueError(f"{name} must be of a floating type, got {x.dtype}")
        if x.device != query.device:
            raise ValueError(f"{name} must be on {query.device}, as the query is, got {x.device}")


def _implementation(backend: str, query: Tensor) -> ModuleType:
    """The module whose ``forward`` and ``backward`` run."""
    chosen = resolve(backend, NAME, query)
    if chosen == "triton":
        from . import _gated_delta_triton

        return _gated_delta_triton
    return native if chosen == "native" else in_torch


def _forward(*arguments: Any) -> tuple[Tensor, Tensor]:
    *tensors, scale, backend = arguments
    inputs = Inputs(*tensors)
    out, state = _implementation(backend, inputs.query).forward(inputs, scale)
    # An operator never returns one of its inputs, nor a part of one.
    return out.to(inputs.value.dtype).contiguous(), state


def _backward(grad_out: Tensor, grad_state: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    *tensors, scale = arguments
    inputs = Inputs(*tensors)
    grads = native.backward(grad_out, grad_state, inputs, scale)
    return tuple(
        grad if x is None else grad.to(x.dtype) for grad, x in zip(grads, inputs, strict=True)
    )


def _like_result(query: Tensor, key: Tensor, value: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(value, memory_format=torch.contiguous_format)
    return out, _empty_state(query, value)


def _empty_state(query: Tensor, value: Tensor) -> Tensor:
    exact = torch.promote_types(query.dtype, torch.float32)
    return value.new_empty((*query.shape[:2], query.shape[3], value.shape[3]), dtype=exact)


def _like_gradients(grad_out: Tensor, grad_state: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    query, key, value, log_decay, beta, initial_state = arguments[:6]
    like = (query, key, value, log_decay, log_decay if beta is None else beta)
    state = _empty_state(query, value) if initial_state is None else initial_state
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (*like, state))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad_out: Tensor, grad_state: Tensor) -> tuple[Tensor | None, ...]:
    inputs = Inputs(*ctx.saved_tensors)
    if _implementation(ctx.backend, inputs.query) is native:
        found = ops.gated_delta_rule_backward(grad_out, grad_state, *inputs, ctx.scale)
    else:
        # Autograd runs here, and would not inside of an operator.
        found = in_torch.backward(grad_out, grad_state, inputs, ctx.scale)
    grads = (None if x is None else grad for grad, x in zip(found, inputs, strict=True))
    return (*grads, None, None)


def _no_second_backward(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError("gated_delta_rule can be differentiated once, not twice")


INPUTS = (
    "Tensor query, Tensor key, Tensor value, Tensor log_decay, Tensor? beta, "
    "Tensor? initial_state, float scale"
)
SCHEMAS = {
    "gated_delta_rule": f"({INPUTS}, str backend) -> (Tensor, Tensor)",
    "gated_delta_rule_forward": f"({INPUTS}, str backend) -> (Tensor, Tensor)",
    "gated_delta_rule_backward": (
        f"(Tensor grad_out, Tensor grad_state, {INPUTS})"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
}
for name, run, fake in (
    ("gated_delta_rule", _forward, _like_result),
    ("gated_delta_rule_forward", _forward, _like_result),
    ("gated_delta_rule_backward", _backward, _like_gradients),
):
    full_name = add_op_namespace_prefix(name)
    torch.library.define(full_name, SCHEMAS[name])
    torch.library.impl(full_name, "default")(run)
    torch.library.register_fake(full_name)(fake)
torch.library.register_autograd(
    add_op_namespace_prefix("gated_delta_rule"), _differentiate, setup_context=_save
)
torch.library.register_autograd(
    add_op_namespace_prefix("gated_delta_rule_backward"), _no_second_backward
)
