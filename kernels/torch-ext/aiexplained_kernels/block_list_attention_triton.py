"""Block-list attention in Triton, for NVIDIA and AMD GPUs: the forward pass.

Each program takes one block of 64 queries of one or more heads that share a list, stacked as rows
of one tile, and walks the list with a running softmax (FlashAttention). The backward pass and
decoding over a paged cache are in :mod:`._block_list_triton_backward` and
:mod:`._block_list_triton_paged`; this module offers all three.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ._block_list_triton import (
    BLOCK,
    LN_2,
    LOG2_E,
    launch,
    load_rows,
    locate,
    pick_tile,
    sees,
    sort_lists,
    with_rows,
)
from ._block_list_triton_backward import backward
from ._block_list_triton_paged import paged

__all__ = ["backward", "forward", "paged"]


@triton.jit
def _attend(
    state, q, position, key, value, entries, count, n_sinks, key_stride, value_stride, shape,
    scale, causal: tl.constexpr, head_dim: tl.constexpr, parts: tl.constexpr,
    masked: tl.constexpr,
):  # fmt: skip
    """Fold ``n_sinks`` sink blocks and ``count`` listed blocks into the running softmax."""
    acc, peak, total = state
    n_keys = shape[4]
    step: tl.constexpr = -1 if masked else 1
    columns: tl.constexpr = BLOCK // parts
    # Entries are read a round ahead, so that the loads of keys never wait for them.
    next_block = tl.load(entries)
    for i in range((n_sinks + count) * parts):
        turn = i // parts
        block = tl.where(turn < n_sinks, turn, next_block) if masked else next_block
        next_block = tl.load(entries + step * tl.maximum((i + 1) // parts - n_sinks, 0))
        start = block * BLOCK + i % parts * columns
        k = load_rows(key, start, key_stride, n_keys, head_dim, columns, masked)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        if masked:
            keys = start + tl.arange(0, columns)
            seen = sees(keys[None, :], turn < n_sinks, position[:, None], shape, causal)
            scores = tl.where(seen, scores, -float("inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1) * scale)
        shift = tl.where(new_peak == -float("inf"), 0.0, new_peak) if masked else new_peak
        weights = tl.exp2(scores * scale - shift[:, None])
        decay = tl.exp2(peak - shift)
        total = total * decay + tl.sum(weights, 1)
        v = load_rows(value, start, value_stride, n_keys, head_dim, columns, masked)
        acc = tl.dot(weights.to(v.dtype), v, acc * decay[:, None], input_precision="ieee")
        peak = new_peak
    return acc, peak, total


@triton.jit
def _forward_kernel(
    query, key, value, out, logsumexp, entries, sizes, query_strides, key_strides, value_strides,
    shape, slots, scale,
    causal: tl.constexpr, head_dim: tl.constexpr, heads: tl.constexpr, parts: tl.constexpr,
    descriptors: tl.constexpr,
):  # fmt: skip
    """One block of 64 queries of ``heads`` heads; ``scale`` is for powers of 2."""
    n_heads, n_kv_heads, _, n_queries, n_keys, _, sinks = shape
    batch, head, block, row = locate(shape, heads)
    lane = tl.arange(0, heads * BLOCK)
    column = tl.arange(0, head_dim)[None, :]
    row_head = (head + lane // BLOCK).to(tl.int64)
    row_query = block * BLOCK + lane % BLOCK
    inside = row_query < n_queries
    at = batch * query_strides[0] + row_head * query_strides[1]
    at += row_query.to(tl.int64) * query_strides[2]
    q = tl.load(query + at[:, None] + column, mask=inside[:, None], other=0.0)
    kv_head = (head // (n_heads // n_kv_heads)).to(tl.int64)
    if descriptors:
        keys = (key, batch.to(tl.int32), kv_head.to(tl.int32))
        values = (value, batch.to(tl.int32), kv_head.to(tl.int32))
        key_stride: tl.constexpr = None
        value_stride: tl.constexpr = None
    else:
        keys = key + batch * key_strides[0] + kv_head * key_strides[1]
        values = value + batch * value_strides[0] + kv_head * value_strides[1]
        key_stride = key_strides[2]
        value_stride = value_strides[2]
    front = entries + row * (slots + 2) + 1
    position = row_query + n_keys - n_queries
    peak = tl.full((heads * BLOCK,), -float("inf"), tl.float32)
    state = tl.zeros((heads * BLOCK, head_dim), tl.float32), peak, tl.zeros_like(peak)
    state = _attend(
        state, q, position, keys, values, front, tl.load(sizes + 2 * row), 0,
        key_stride, value_stride, shape, scale, causal, head_dim, parts, masked=False,
    )  # fmt: skip
    acc, peak, total = _attend(
        state, q, position, keys, values, front + slots - 1, tl.load(sizes + 2 * row + 1),
        tl.cdiv(sinks, BLOCK), key_stride, value_stride, shape, scale, causal, head_dim, parts,
        masked=True,
    )  # fmt: skip
    total = tl.where(total > 0, total, 1.0)
    at = (batch * n_heads + row_head) * n_queries + row_query
    tl.store(out + at[:, None] * head_dim + column, acc / total[:, None], mask=inside[:, None])
    tl.store(logsumexp + at, (peak + tl.log2(total)) * LN_2, mask=inside)


def _can_describe(x: Tensor) -> bool:
    """Whether the copy engine takes ``x``: everything at multiples of 16 bytes."""
    strides = [stride * x.element_size() for stride in x.stride()[:3]]
    return x.data_ptr() % 16 == 0 and all(s > 0 and s % 16 == 0 for s in strides)


def _describe(x: Tensor, rows: int) -> TensorDescriptor:
    """``x`` (B, H, T, D) for the copy engine, in runs of ``rows`` rows."""
    return TensorDescriptor(x, list(x.shape), list(x.stride()), [1, 1, rows, x.shape[3]])


def forward(
    query: Tensor, key: Tensor, value: Tensor, counts: Tensor, indices: Tensor,
    causal: bool, window_size: int, sink_tokens: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Attention over listed key blocks, and the logarithms of the softmax denominators.

    Args:
        query: ``(B, H, T, D)``, the last query at the position of the last key.
        key: ``(B, H_kv, K, D)``.
        value: Like ``key``.
        counts: ``(B, G, N)`` int32; a count above ``S`` means the whole list.
        indices: ``(B, G, N, S)`` int32; an entry that names no block is skipped.
        causal: Hide keys after the query's own position.
        window_size: Listed blocks show only keys nearer than this; 0 for no window.
        sink_tokens: First keys that are seen whatever the list and the window say.
        scale: Factor on the scores, above 0: their maximum is taken before scaling.

    Returns:
        ``(B, H, T, D)`` in the type of ``query``, contiguous, and ``(B, H, T)`` in float32.

    Raises:
        ValueError: if ``D`` is not 16, 32, 64 or 128.
    """
    query, key, value = with_rows(query), with_rows(key), with_rows(value)
    tile = pick_tile("forward", query, counts.shape[1])
    lists = sort_lists(query, key, counts, indices, causal, window_size, sink_tokens)
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    logsumexp = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
    descriptors = tile.descriptors and _can_describe(key) and _can_describe(value)
    sources = (_describe(x, tile.columns) if descriptors else x for x in (key, value))
    launch(
        _forward_kernel, query.shape[0] * query.shape[1] // tile.heads * counts.shape[2],
        query.device, tile,
        query, *sources, out, logsumexp, lists.entries, lists.sizes,
        query.stride(), key.stride(), value.stride(),
        lists.shape, indices.shape[3], scale * LOG2_E,
        causal=causal, head_dim=query.shape[3], heads=tile.heads, parts=BLOCK.value // tile.columns,
        descriptors=descriptors,
    )  # fmt: skip
    return out, logsumexp
