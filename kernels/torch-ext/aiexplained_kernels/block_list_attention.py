"""Softmax attention in which each run of 64 queries reads only the key blocks on its list.

``out_i = sum_j p_ij v_j`` and ``logsumexp_i = log sum_j exp(scale q_i . k_j)`` over the keys ``j``
that query ``i`` sees: those in a listed block, within the window, and the sink tokens, none from
the future when causal. Sparse attention by block scores (MoBA, NSA, SubQ), window heads, evicted
caches and paged caches are all this one rule with other lists.

Forward and backward are registered as torch operators, so ``torch.compile`` and autograd see them.
Three implementations compute the same: torch (:mod:`._block_list_torch`), a C++ kernel for CPUs,
and Triton kernels for GPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import _block_list_native as native
from . import _block_list_torch as in_torch
from ._backends import Backend, resolve
from ._ops import add_op_namespace_prefix, ops
from .block_lists import INTEGERS, as_int32, check_list_shapes

NAME = "block_list_attention"
Result = tuple[Tensor, Tensor]


def block_list_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    counts: Tensor,
    indices: Tensor,
    *,
    causal: bool = True,
    window_size: int | None = None,
    sink_tokens: int = 0,
    scale: float | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Attention over listed key blocks of 64; differentiable once, backward, in its inputs.

    Args:
        query: ``(B, H, T, D)``; the last query stands at the position of the last key.
        key: ``(B, H_kv, K, D)``; ``H_kv`` divides ``H``.
        value: Shaped like ``key``.
        counts: Key blocks in each list, ``(B, G, ceil(T / 64))``; ``G`` is ``H_kv`` or ``H``.
        indices: The lists, ``(B, G, ceil(T / 64), S)``; entries past the count are ignored. A list
            names a block at most once, in any order. On a CPU a malformed list raises; on a GPU
            entries out of range are skipped (see :func:`check_block_list`).
        causal: Hide keys after the query's own position.
        window_size: Show only keys nearer than this many positions, the query's own among them.
        sink_tokens: This many first keys are seen whatever the list and the window say.
        scale: Positive factor on the scores; default ``1 / sqrt(D)``.
        backend: ``"auto"`` takes the fastest that can run here; ``"torch"``, ``"native"`` (C++) or
            ``"triton"`` runs or raises.

    Returns:
        ``(B, H, T, D)`` in the type of ``query``, and the logsumexp of the scores ``(B, H, T)`` in
        float32 (float64 for float64 inputs); 0 and ``-inf`` for a query that sees no key.

    Raises:
        ValueError: if shapes or types do not fit, or, on a CPU, a list is malformed.
        BackendUnavailable: if the named backend cannot run here.

    >>> query, key, value = torch.randn(3, 1, 2, 128, 16).unbind()
    >>> counts, indices = torch.tensor([[[1, 1]]]), torch.tensor([[[[0], [1]]]])
    >>> out, logsumexp = block_list_attention(query, key[:, :1], value[:, :1], counts, indices)
    >>> out.shape, logsumexp.shape
    (torch.Size([1, 2, 128, 16]), torch.Size([1, 2, 128]))
    """
    _check(query, key, value, window_size, sink_tokens, scale)
    _check_place(query, key=key, value=value, counts=counts, indices=indices)
    check_list_shapes(counts, indices, query.shape[2])
    if counts.shape[0] != query.shape[0] or counts.shape[1] not in (key.shape[1], query.shape[1]):
        raise ValueError(
            f"counts needs batch {query.shape[0]} and one list a key head ({key.shape[1]}) or a "
            f"query head ({query.shape[1]}), got shape {tuple(counts.shape)}"
        )
    result: Result = ops.block_list_attention(
        query, key, value, as_int32(counts), as_int32(indices), causal,
        min(window_size or 0, query.shape[2] + key.shape[2]), min(sink_tokens, key.shape[2]),
        query.shape[-1] ** -0.5 if scale is None else scale, backend,
    )  # fmt: skip
    return result


def paged_attention(
    query: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    *,
    window_size: int | None = None,
    sink_tokens: int = 0,
    scale: float | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Decode over a paged cache: the newest queries attend to the pages of their request.

    Args:
        query: ``(B, H, T, D)``, the newest ``T`` tokens of each request (often one).
        key_pages: The pool ``(P, H_kv, page_size, D)``; pages hold 16 or 64 tokens.
        value_pages: Shaped like ``key_pages``.
        page_table: ``(B, max_pages)``: the pages of each request, in order.
        lengths: ``(B,)``: tokens in each request's cache, the newest included.
        window_size: Show only keys nearer than this many positions.
        sink_tokens: This many first keys are seen whatever the window says.
        scale: Positive factor on the scores; default ``1 / sqrt(D)``.
        backend: As in :func:`block_list_attention`.

    Returns:
        As :func:`block_list_attention`. There is no backward.

    Raises:
        ValueError: if shapes or types do not fit, or, on a CPU, a page or a length is out of range.
        BackendUnavailable: if the named backend cannot run here.

    >>> pages = torch.randn(2, 5, 1, 16, 32)
    >>> query, table, lengths = torch.randn(1, 4, 1, 32), torch.tensor([[3, 0]]), torch.tensor([20])
    >>> paged_attention(query, *pages, table, lengths)[0].shape
    torch.Size([1, 4, 1, 32])
    """
    _check(query, key_pages, value_pages, window_size, sink_tokens, scale, paged=True)
    _check_place(
        query, key_pages=key_pages, value_pages=value_pages, page_table=page_table, lengths=lengths
    )
    if page_table.dtype not in INTEGERS or lengths.dtype not in INTEGERS:
        raise ValueError(
            f"page_table and lengths must be integers, got {page_table.dtype}, {lengths.dtype}"
        )
    if key_pages.shape[2] not in (16, 64):
        raise ValueError(f"a page holds 16 or 64 tokens, got {key_pages.shape[2]}")
    batch = query.shape[0]
    if page_table.ndim != 2 or page_table.shape[0] != batch or lengths.shape != (batch,):
        raise ValueError(
            f"page_table needs shape ({batch}, max_pages) and lengths ({batch},), got "
            f"{tuple(page_table.shape)} and {tuple(lengths.shape)}"
        )
    room = query.shape[2] + page_table.shape[1] * key_pages.shape[2]
    result: Result = ops.paged_attention(
        query, key_pages, value_pages, as_int32(page_table), as_int32(lengths),
        min(window_size or 0, room), min(sink_tokens, room),
        query.shape[-1] ** -0.5 if scale is None else scale, backend,
    )  # fmt: skip
    return result


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window_size: int | None,
    sink_tokens: int,
    scale: float | None,
    paged: bool = False,
) -> None:
    """Raise ``ValueError`` unless tensors and options fit one another."""
    if query.ndim != 4 or key.ndim != 4 or key.shape != value.shape:
        raise ValueError(
            "query, key, value need four axes, key and value alike, got shapes "
            f"{tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}"
        )
    if 0 in query.shape or 0 in key.shape:
        raise ValueError(
            f"no size may be 0, got shapes {tuple(query.shape)} and {tuple(key.shape)}"
        )
    if query.shape[3] != key.shape[3] or not (paged or query.shape[0] == key.shape[0]):
        raise ValueError(
            f"query and key must share batch and width, got {tuple(query.shape)} "
            f"and {tuple(key.shape)}"
        )
    if query.shape[1] % key.shape[1]:
        raise ValueError(
            f"key heads must divide query heads, got {key.shape[1]} and {query.shape[1]}"
        )
    if not query.dtype == key.dtype == value.dtype or not query.is_floating_point():
        raise ValueError(
            "query, key, value must share one floating type, got "
            f"{query.dtype}, {key.dtype}, {value.dtype}"
        )
    if sink_tokens < 0 or (window_size is not None and window_size < 1):
        raise ValueError(
            "window_size must be positive (or None) and sink_tokens not negative, got "
            f"{window_size} and {sink_tokens}"
        )
    if scale is not None and not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")


def _check_place(query: Tensor, **others: Tensor) -> None:
    """Raise ``ValueError`` unless all tensors are where the query is."""
    for name, x in others.items():
        if x.device != query.device:
            raise ValueError(f"{name} must be on {query.device}, as the query is, got {x.device}")


def _implementation(backend: str, query: Tensor) -> ModuleType:
    """The module whose ``forward``, ``backward`` and ``paged`` run."""
    chosen = resolve(backend, NAME, query)
    if chosen == "triton":
        from . import block_list_attention_triton

        return block_list_attention_triton
    return native if chosen == "native" else in_torch


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    counts: Tensor,
    indices: Tensor,
    causal: bool,
    window_size: int,
    sink_tokens: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    run: Callable[..., Result] = _implementation(backend, query).forward
    return run(query, key, value, counts, indices, causal, window_size, sink_tokens, scale)


def _backward(
    grad_out: Tensor,
    grad_logsumexp: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    counts: Tensor,
    indices: Tensor,
    causal: bool,
    window_size: int,
    sink_tokens: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    saved = (query, key, value, out, logsumexp, counts, indices)
    run: Callable[..., tuple[Tensor, Tensor, Tensor]] = _implementation(backend, query).backward
    return run(grad_out, grad_logsumexp, *saved, causal, window_size, sink_tokens, scale)


def _paged(
    query: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    window_size: int,
    sink_tokens: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    run: Callable[..., Result] = _implementation(backend, query).paged
    return run(query, key_pages, value_pages, page_table, lengths, window_size, sink_tokens, scale)


def _like_result(query: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    """Empty tensors of the result's shapes and types."""
    exact = torch.promote_types(query.dtype, torch.float32)
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    return out, query.new_empty(query.shape[:3], dtype=exact)


def _like_gradients(
    grad_out: Tensor, grad_logsumexp: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: object
) -> tuple[Tensor, ...]:
    empty = (
        torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value)
    )
    return tuple(empty)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, counts, indices, *ctx.options = inputs
    ctx.save_for_backward(query, key, value, *output, counts, indices)


def _differentiate(ctx: Any, grad_out: Tensor, grad_logsumexp: Tensor) -> tuple[Tensor | None, ...]:
    # Where parts are merged by their logsumexp, an empty one brings a NaN: nothing hangs on it.
    logsumexp = ctx.saved_tensors[4]
    grad_logsumexp = grad_logsumexp.masked_fill(logsumexp == -torch.inf, 0.0)
    grads = ops.block_list_attention_backward(
        grad_out, grad_logsumexp, *ctx.saved_tensors, *ctx.options
    )
    return (*grads, *[None] * (2 + len(ctx.options)))


def _no_backward(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError("paged_attention has no backward; train with block_list_attention")


def _no_second_backward(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError("block_list_attention can be differentiated once, not twice")


RULE = "bool causal, int window_size, int sink_tokens, float scale, str backend"
SCHEMAS = {
    "block_list_attention": (
        f"(Tensor query, Tensor key, Tensor value, Tensor counts, Tensor indices, {RULE})"
        " -> (Tensor, Tensor)"
    ),
    "block_list_attention_backward": (
        "(Tensor grad_out, Tensor grad_logsumexp, Tensor query, Tensor key, Tensor value, "
        f"Tensor out, Tensor logsumexp, Tensor counts, Tensor indices, {RULE})"
        " -> (Tensor, Tensor, Tensor)"
    ),
    "paged_attention": (
        "(Tensor query, Tensor key_pages, Tensor value_pages, Tensor page_table, Tensor lengths, "
        "int window_size, int sink_tokens, float scale, str backend) -> (Tensor, Tensor)"
    ),
}
RUNS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "block_list_attention": (_forward, _like_result),
    "block_list_attention_backward": (_backward, _like_gradients),
    "paged_attention": (_paged, _like_result),
}
for name, (run, fake) in RUNS.items():
    full_name = add_op_namespace_prefix(name)
    torch.library.define(full_name, SCHEMAS[name])
    torch.library.impl(full_name, "default")(run)
    torch.library.register_fake(full_name)(fake)
torch.library.register_autograd(
    add_op_namespace_prefix("block_list_attention"), _differentiate, setup_context=_save
)
torch.library.register_autograd(add_op_namespace_prefix("paged_attention"), _no_backward)
torch.library.register_autograd(
    add_op_namespace_prefix("block_list_attention_backward"), _no_second_backward
)
