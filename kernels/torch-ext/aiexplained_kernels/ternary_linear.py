"""A linear layer with ternary weights: -1, 0 and 1 times a scale, packed four to a byte.

A group of weights that follow one another in a row shares the scale, their mean magnitude:
``scale = mean |w|`` and ``t = round(clip(w / scale, -1, 1))``, as in BitNet b1.58 (Ma et al., 2024)
for all weights at once. A weight takes a quarter of a byte, where a bfloat16 takes two bytes.

The product is registered as a torch operator with its gradient, and without it as another. Three
implementations compute the same: torch, which unpacks the weights first (:mod:`._ternary_torch`),
and two that unpack them where they multiply: a C++ kernel for CPUs (:mod:`._ternary_native`) and
Triton kernels for GPUs (:mod:`._ternary_triton`), with the gradient of torch.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from . import _ternary_native as native
from . import _ternary_torch as in_torch
from ._backends import Backend, resolve
from ._ops import add_op_namespace_prefix, ops
from ._ternary_torch import RUN, RUN_BYTES

NAME = "ternary_linear"
Activations = Literal["native", "int8"]
PLANE = 32
"""Weights that a shift and a mask unpack together; a group is a whole number of them."""


def pack_ternary(weight: Tensor, group_size: int | None = 128) -> tuple[Tensor, Tensor]:
    """Round a weight to -1, 0 and 1 times a scale a group, and pack it at 2 bits a weight.

    Args:
        weight: ``(N, K)``, finite; ``N`` outputs of ``K`` inputs.
        group_size: Weights that share a scale, a multiple of 32; the last group of a row may be
            shorter. ``None``: one group a row.

    Returns:
        ``packed``, uint8 ``(N, 32 * ceil(K / 128))``: each row is filled up to a multiple of 128
        weights with zeros, and of each run of 128 weights byte ``i`` (of 32) holds the weights
        ``i``, ``i + 32``, ``i + 64`` and ``i + 96``, from the low bits up, each plus 1. And
        ``scale``, float32 ``(N, ceil(K / group_size))``: the mean magnitude of each group. A group
        of zeros has the scale 0.

    Raises:
        ValueError: if ``weight`` is no finite matrix or ``group_size`` no such number.

    >>> packed, scale = pack_ternary(torch.tensor([[0.5, -1.0, 0.1, 2.4]]))
    >>> scale
    tensor([[1.]])
    >>> unpack_ternary(packed, scale, n_columns=4)
    tensor([[ 0., -1.,  0.,  1.]])
    """
    _check_group_size(group_size)
    if weight.ndim != 2 or not weight.numel() or not weight.is_floating_point():
        raise ValueError(
            "weight must be a floating matrix (N, K) with no size 0, got "
            f"{weight.dtype} {tuple(weight.shape)}"
        )
    n_columns = weight.shape[1]
    group_size = min(group_size or n_columns, n_columns)
    weight = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
    groups = pad(weight, (0, -n_columns % group_size)).unflatten(1, (-1, group_size))
    sizes = torch.full(groups.shape[1:2], group_size, device=weight.device)
    sizes[-1] -= groups[0].numel() - n_columns
    scale = (groups.abs().sum(dim=-1) / sizes).float()
    if not scale.isfinite().all():
        raise ValueError("weight must be finite, and the mean magnitude of a group a float32")
    ternary = (groups / scale[..., None]).nan_to_num(nan=0.0).clamp(-1, 1).round()
    return in_torch.pack(ternary.flatten(1)[:, :n_columns]), scale


def unpack_ternary(
    packed: Tensor, scale: Tensor, n_columns: int, group_size: int | None = 128
) -> Tensor:
    """The weight that :func:`pack_ternary` packed, rounded: ``(N, n_columns)`` in float32.

    Args:
        packed: ``(N, 32 * ceil(n_columns / 128))``.
        scale: ``(N, ceil(n_columns / group_size))``.
        n_columns: ``K``, which the packed weight is filled up from.
        group_size: As it was packed.

    Raises:
        ValueError: if shapes or types do not fit.

    >>> packed, scale = pack_ternary(torch.ones(5, 300))
    >>> packed.shape, scale.shape
    (torch.Size([5, 96]), torch.Size([5, 3]))
    >>> unpack_ternary(packed, scale, 300).equal(torch.ones(5, 300))
    True
    """
    _check_group_size(group_size)
    _check_weight(packed, scale, n_columns, group_size)
    ternary = in_torch.unpack(packed, n_columns)
    return ternary.float() * in_torch.spread(scale, n_columns, group_size or 0)


def ternary_linear(
    x: Tensor,
    packed: Tensor,
    scale: Tensor,
    *,
    activations: Activations = "native",
    group_size: int | None = 128,
    backend: Backend = "auto",
) -> Tensor:
    """``x`` times the transpose of a packed ternary weight; differentiable once, in ``x``.

    Args:
        x: ``(..., K)``.
        packed: ``(N, 32 * ceil(K / 128))``, of :func:`pack_ternary`.
        scale: ``(N, ceil(K / group_size))``; it gets no gradient.
        activations: ``"native"`` multiplies ``x`` as it is, with sums in float32 (float64 for
            float64). ``"int8"`` rounds each row of ``x`` to integers, the largest magnitude to
            127, and sums exactly, as BitNet does; it takes one scale a row, ``(N, 1)``. The
            gradient passes that rounding as if it were not there. A row with NaN or infinity
            becomes NaN.
        group_size: As the weight was packed; ``"int8"`` does without it.
        backend: ``"auto"`` takes the fastest that can run here; ``"torch"``, ``"native"`` (C++) or
            ``"triton"`` (for GPUs; the gradient by torch) runs or raises.

    Returns:
        ``(..., N)`` in the type of ``x``.

    Raises:
        ValueError: if shapes, types or devices do not fit, or ``scale`` asks for a gradient.
        BackendUnavailable: if the named backend cannot run here.

    >>> packed, scale = pack_ternary(torch.randn(64, 300))
    >>> ternary_linear(torch.randn(2, 7, 300), packed, scale).shape
    torch.Size([2, 7, 64])
    >>> packed, scale = pack_ternary(torch.randn(64, 300), group_size=None)
    >>> ternary_linear(torch.randn(300), packed, scale, activations="int8").shape
    torch.Size([64])
    """
    if activations not in ("native", "int8"):
        raise ValueError(f"activations must be 'native' or 'int8', got {activations!r}")
    _check_group_size(group_size)
    int8 = activations == "int8"
    _check(x, packed, scale, None if int8 else group_size)
    group_size = 0 if int8 or group_size is None else group_size
    arguments = x, packed, scale, group_size, int8, backend
    result: Tensor
    if torch.is_grad_enabled() and x.requires_grad:
        result = ops.ternary_linear(*arguments)
    else:
        # Autograd in Python would take longer than the product of one row.
        result = ops.ternary_linear_forward(*arguments)
    return result


def _check_group_size(group_size: int | None) -> None:
    if group_size is not None and (group_size < 1 or group_size % PLANE):
        raise ValueError(f"group_size must be a multiple of {PLANE}, or None, got {group_size}")


def _check_weight(packed: Tensor, scale: Tensor, n_columns: int, group_size: int | None) -> None:
    if n_columns < 1:
        raise ValueError(f"n_columns must be at least 1, got {n_columns}")
    if packed.dtype is not torch.uint8 or scale.dtype is not torch.float32:
        raise ValueError(
            f"packed must be torch.uint8 and scale torch.float32, got {packed.dtype} and "
            f"{scale.dtype}"
        )
    shape = packed.shape
    if len(shape) != 2 or not shape[0] or shape[1] != -(-n_columns // RUN) * RUN_BYTES:
        raise ValueError(
            f"packed must be (N, {-(-n_columns // RUN) * RUN_BYTES}) for {n_columns} columns, got "
            f"{tuple(shape)}"
        )
    wanted = (shape[0], -(-n_columns // (group_size or n_columns)))
    if scale.shape != wanted:
        groups = "one group a row" if group_size is None else f"groups of {group_size}"
        raise ValueError(f"scale must be {wanted} for {groups}, got {tuple(scale.shape)}")


def _check(x: Tensor, packed: Tensor, scale: Tensor, group_size: int | None) -> None:
    if not x.is_floating_point() or not x.ndim or not x.shape[-1]:
        raise ValueError(
            f"x must be floating, (..., K) with K at least 1, got {x.dtype} {tuple(x.shape)}"
        )
    _check_weight(packed, scale, x.shape[-1], group_size)
    for name, tensor in (("packed", packed), ("scale", scale)):
        if tensor.device != x.device:
            raise ValueError(f"{name} must be on {x.device}, as x is, got {tensor.device}")
    if scale.requires_grad:
        raise ValueError("scale gets no gradient here; detach it")


def _implementation(backend: str, x: Tensor) -> ModuleType:
    """The module whose ``forward`` runs."""
    chosen = resolve(backend, NAME, x)
    if chosen == "triton":
        from . import _ternary_triton

        return _ternary_triton
    return native if chosen == "native" else in_torch


def _forward(
    x: Tensor, packed: Tensor, scale: Tensor, group_size: int, int8: bool, backend: str
) -> Tensor:
    run = _implementation(backend, x)
    out: Tensor = run.forward(x, packed, scale, group_size, int8)
    return out


def _backward(
    grad_out: Tensor, packed: Tensor, scale: Tensor, n_columns: int, group_size: int, backend: str
) -> Tensor:
    run = native if resolve(backend, NAME, grad_out) == "native" else in_torch
    grad: Tensor = run.backward(grad_out, packed, scale, n_columns, group_size)
    return grad


def _like_result(x: Tensor, packed: Tensor, *_: object) -> Tensor:
    return x.new_empty((*x.shape[:-1], packed.shape[0]))


def _like_gradient(
    grad_out: Tensor, packed: Tensor, scale: Tensor, n_columns: int, *_: object
) -> Tensor:
    return grad_out.new_empty((*grad_out.shape[:-1], n_columns))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, packed, scale, ctx.group_size, _, ctx.backend = inputs
    ctx.n_columns = x.shape[-1]
    ctx.save_for_backward(packed, scale)


def _differentiate(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    packed, scale = ctx.saved_tensors
    sizes = ctx.n_columns, ctx.group_size
    grad = ops.ternary_linear_backward(grad_out, packed, scale, *sizes, ctx.backend)
    return grad, None, None, None, None, None


def _no_second_backward(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError("ternary_linear can be differentiated once, not twice")


INPUTS = "Tensor x, Tensor packed, Tensor scale, int group_size, bool int8, str backend"
SCHEMAS = {
    "ternary_linear": f"({INPUTS}) -> Tensor",
    "ternary_linear_forward": f"({INPUTS}) -> Tensor",
    "ternary_linear_backward": (
        "(Tensor grad_out, Tensor packed, Tensor scale, SymInt n_columns, int group_size, "
        "str backend) -> Tensor"
    ),
}
for name, run, fake in (
    ("ternary_linear", _forward, _like_result),
    ("ternary_linear_forward", _forward, _like_result),
    ("ternary_linear_backward", _backward, _like_gradient),
):
    full_name = add_op_namespace_prefix(name)
    torch.library.define(full_name, SCHEMAS[name])
    torch.library.impl(full_name, "default")(run)
    torch.library.register_fake(full_name)(fake)
# Called where no gradient is wanted; to let the dispatcher look for one takes as long as a row.
WITHOUT_GRADIENT = torch.library.Library(
    add_op_namespace_prefix("").partition(":")[0], "IMPL", "Autograd"
)
WITHOUT_GRADIENT.impl("ternary_linear_forward", torch.library.fallthrough_kernel)
torch.library.register_autograd(
    add_op_namespace_prefix("ternary_linear"), _differentiate, setup_context=_save
)
torch.library.register_autograd(
    add_op_namespace_prefix("ternary_linear_backward"), _no_second_backward
)
