"""The backward pass of block-list attention in Triton: deterministic, without atomics.

The gradient of the queries walks the lists as the forward pass does. The gradients of keys and
values walk them the other way: for each key block, the query blocks that list it, found by sorting.
Sink keys are read by every query, so their share is summed apart, in pieces that run side by side.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block_list_triton import (
    BLOCK,
    LN_2,
    LOG2_E,
    SortedLists,
    launch,
    load_rows,
    locate,
    pick_tile,
    sees,
    sort_lists,
    with_rows,
)

SINK_PROGRAMS = 512


@triton.jit
def _grad_query_pass(
    grad, q, grad_out, log, delta, position, keys, values, entries, count, n_sinks,
    key_stride, value_stride, shape, scale,
    causal: tl.constexpr, head_dim: tl.constexpr, parts: tl.constexpr, masked: tl.constexpr,
):  # fmt: skip
    """Add what ``n_sinks`` sink blocks and ``count`` listed blocks give to the queries."""
    n_keys = shape[4]
    step: tl.constexpr = -1 if masked else 1
    columns: tl.constexpr = BLOCK // parts
    next_block = tl.load(entries)
    for i in range((n_sinks + count) * parts):
        turn = i // parts
        block = tl.where(turn < n_sinks, turn, next_block) if masked else next_block
        next_block = tl.load(entries + step * tl.maximum((i + 1) // parts - n_sinks, 0))
        start = block * BLOCK + i % parts * columns
        k = load_rows(keys, start, key_stride, n_keys, head_dim, columns, masked)
        v = load_rows(values, start, value_stride, n_keys, head_dim, columns, masked)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        weights = tl.exp2(scores * scale - log[:, None])
        if masked:
            key = start + tl.arange(0, columns)
            seen = sees(key[None, :], turn < n_sinks, position[:, None], shape, causal)
            weights = tl.where(seen, weights, 0.0)
        grad_weights = tl.dot(grad_out, tl.trans(v), input_precision="ieee")
        grad_scores = weights * (grad_weights - delta[:, None])
        grad = tl.dot(grad_scores.to(k.dtype), k, grad, input_precision="ieee")
    return grad


@triton.jit
def _grad_query_kernel(
    query, key, value, out, grad_out, logsumexp, grad_logsumexp, grad_query, logs, deltas,
    entries, sizes, query_strides, key_strides, value_strides, shape, slots, scale, scale_2,
    causal: tl.constexpr, head_dim: tl.constexpr, heads: tl.constexpr, parts: tl.constexpr,
):  # fmt: skip
    """Gradient of one block of queries, and its logsumexps in powers of 2 and deltas."""
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
    at = (batch * n_heads + row_head) * n_queries + row_query
    tile = at[:, None] * head_dim + column
    output = tl.load(out + tile, mask=inside[:, None], other=0.0)
    grad_output = tl.load(grad_out + tile, mask=inside[:, None], other=0.0)
    delta = tl.sum(output.to(tl.float32) * grad_output.to(tl.float32), 1)
    delta -= tl.load(grad_logsumexp + at, mask=inside, other=0.0)
    log = tl.load(logsumexp + at, mask=inside, other=-float("inf"))
    # A query that sees nothing has weights exp(-inf) = 0, not exp(inf).
    log = tl.where(log == -float("inf"), float("inf"), log / LN_2)
    tl.store(deltas + at, delta, mask=inside)
    tl.store(logs + at, log, mask=inside)

    kv_head = (head // (n_heads // n_kv_heads)).to(tl.int64)
    keys = key + batch * key_strides[0] + kv_head * key_strides[1]
    values = value + batch * value_strides[0] + kv_head * value_strides[1]
    front = entries + row * (slots + 2) + 1
    position = row_query + n_keys - n_queries
    grad = tl.zeros((heads * BLOCK, head_dim), tl.float32)
    grad = _grad_query_pass(
        grad, q, grad_output, log, delta, position, keys, values, front,
        tl.load(sizes + 2 * row), 0, key_strides[2], value_strides[2], shape, scale_2,
        causal, head_dim, parts, masked=False,
    )  # fmt: skip
    grad = _grad_query_pass(
        grad, q, grad_output, log, delta, position, keys, values, front + slots - 1,
        tl.load(sizes + 2 * row + 1), tl.cdiv(sinks, BLOCK), key_strides[2], value_strides[2],
        shape, scale_2, causal, head_dim, parts, masked=True,
    )  # fmt: skip
    tl.store(grad_query + tile, grad * scale, mask=inside[:, None])


@triton.jit
def _grad_key_pass(
    grads, k, v, query, grad_out, logs, deltas, readers, begin, end, key, query_strides, shape,
    scale, causal: tl.constexpr, head_dim: tl.constexpr, heads: tl.constexpr,
    parts: tl.constexpr, listed: tl.constexpr, masked: tl.constexpr,
):  # fmt: skip
    """Add what query blocks ``begin`` to ``end`` (of ``readers``, if listed) give to a key block.

    The pointers are those of the first of ``heads`` heads; scores are keys x queries here.
    """
    grad_key, grad_value = grads
    _, _, _, n_queries, n_keys, _, _ = shape
    columns: tl.constexpr = BLOCK // parts
    lane = tl.arange(0, columns)
    column = tl.arange(0, head_dim)[None, :]
    rounds: tl.constexpr = heads * parts
    next_block = tl.load(readers + begin, mask=begin < end, other=0) if listed else begin
    for i in range(begin * rounds, end * rounds):
        block = next_block
        ahead = tl.minimum((i + 1) // rounds, end - 1)
        next_block = tl.load(readers + ahead) if listed else ahead
        head = tl.cast(i // parts % heads, tl.int64)
        row = block * BLOCK + i % parts * columns + lane
        inside = row < n_queries
        at = head * query_strides[1] + row.to(tl.int64) * query_strides[2]
        tile = head * n_queries + row
        if masked:
            q = tl.load(query + at[:, None] + column, mask=inside[:, None], other=0.0)
            do = tl.load(
                grad_out + tile[:, None] * head_dim + column, mask=inside[:, None], other=0.0
            )
            log = tl.load(logs + tile, mask=inside, other=float("inf"))
            delta = tl.load(deltas + tile, mask=inside, other=0.0)
        else:
            q = tl.load(query + at[:, None] + column)
            do = tl.load(grad_out + tile[:, None] * head_dim + column)
            log = tl.load(logs + tile)
            delta = tl.load(deltas + tile)
        scores = tl.dot(k, tl.trans(q), input_precision="ieee")
        weights = tl.exp2(scores * scale - log[None, :])
        if masked:
            position = row + n_keys - n_queries
            seen = sees(key[:, None], not listed, position[None, :], shape, causal)
            weights = tl.where(seen, weights, 0.0)
        grad_value = tl.dot(weights.to(do.dtype), do, grad_value, input_precision="ieee")
        grad_weights = tl.dot(v, tl.trans(do), input_precision="ieee")
        grad_scores = weights * (grad_weights - delta[None, :])
        grad_key = tl.dot(grad_scores.to(q.dtype), q, grad_key, input_precision="ieee")
    return grad_key, grad_value


@triton.jit
def _grad_key_kernel(
    query, key, value, grad_out, logs, deltas, grad_key, grad_value, sink_grad_key,
    sink_grad_value, readers, bounds, query_strides, key_strides, value_strides, shape,
    batch_size, n_blocks, n_rows, n_readers, shares, scale, scale_2,
    causal: tl.constexpr, head_dim: tl.constexpr, heads: tl.constexpr, lists: tl.constexpr,
    parts: tl.constexpr, sinks_only: tl.constexpr,
):  # fmt: skip
    """Gradients of one of ``n_blocks`` key blocks, rounded to the type of the outputs.

    If ``sinks_only``, it sums the sink rounds of one of ``shares`` runs of query blocks; else it
    starts from these sums and adds the ``lists`` lists (each for ``heads`` heads) of its key head.
    """
    n_heads, n_kv_heads, _, n_queries, n_keys, _, sinks = shape
    program = tl.program_id(0)
    block = program % n_blocks
    output = (program // n_blocks).to(tl.int64)
    batch = output % (batch_size * n_kv_heads) // n_kv_heads
    kv_head = output % n_kv_heads
    lane = tl.arange(0, BLOCK)
    column = tl.arange(0, head_dim)[None, :]
    keys = key + batch * key_strides[0] + kv_head * key_strides[1]
    values = value + batch * value_strides[0] + kv_head * value_strides[1]
    start = block * BLOCK
    k = load_rows(keys, start, key_strides[2], n_keys, head_dim, BLOCK, True)
    v = load_rows(values, start, value_strides[2], n_keys, head_dim, BLOCK, True)
    position = start + lane
    head = kv_head * (n_heads // n_kv_heads)
    query += batch * query_strides[0] + head * query_strides[1]
    at = (batch * n_heads + head) * n_queries
    grad_out += at * head_dim
    logs += at
    deltas += at
    if sinks_only:
        n_query_blocks = tl.cdiv(n_queries, BLOCK)
        share = tl.cdiv(n_query_blocks, shares)
        begin = (output // (batch_size * n_kv_heads)).to(tl.int32) * share
        zeros = tl.zeros((BLOCK, head_dim), tl.float32)
        grads = _grad_key_pass(
            (zeros, zeros), k, v, query, grad_out, logs, deltas, readers,
            begin, tl.minimum(begin + share, n_query_blocks), position, query_strides, shape,
            scale_2, causal, head_dim, heads * lists, parts, listed=False, masked=True,
        )  # fmt: skip
    else:
        sink_rows = tl.cdiv(sinks, BLOCK) * BLOCK
        at = (output * sink_rows + position)[:, None] * head_dim + column
        is_sink = (position < sink_rows)[:, None]
        grads = (
            tl.load(sink_grad_key + at, mask=is_sink, other=0.0).to(tl.float32),
            tl.load(sink_grad_value + at, mask=is_sink, other=0.0).to(tl.float32),
        )
        for i in range(lists):
            row = output * lists + i
            bound = bounds + row * (2 * n_blocks + 1) + 2 * block
            rest = readers + row * n_readers
            first_head = tl.cast(i * heads, tl.int64)
            moved = query + first_head * query_strides[1]
            ahead = first_head * n_queries
            for masked in tl.static_range(2):
                grads = _grad_key_pass(
                    grads, k, v, moved, grad_out + ahead * head_dim, logs + ahead, deltas + ahead,
                    rest, tl.load(bound + masked), tl.load(bound + masked + 1), position,
                    query_strides, shape, scale_2, causal, head_dim, heads, parts, listed=True,
                    masked=masked == 1,
                )  # fmt: skip
    dk, dv = grads
    at = (output * n_rows + position)[:, None] * head_dim + column
    inside = (position < n_rows)[:, None]
    tl.store(grad_key + at, dk * scale, mask=inside)
    tl.store(grad_value + at, dv, mask=inside)


def _readers(codes: Tensor, n_key_blocks: int) -> tuple[Tensor, Tensor]:
    """For each list and key block, the query blocks that read it: full reads, then masked ones.

    Args:
        codes: See ``SortedLists``.
        n_key_blocks: Blocks that the keys fill.

    Returns:
        The query blocks ``(B * G, N * S)``, and where the full and the masked readers of each key
        block start, ``(B * G, 2 * n_key_blocks + 1)``. Nothing is read back by the host.
    """
    slots = codes.shape[3]
    codes, order = codes.flatten(0, 1).flatten(1).sort(dim=1, stable=True)
    edges = torch.arange(2 * n_key_blocks + 1, dtype=torch.int32, device=codes.device)
    bounds = torch.searchsorted(codes, edges.expand(len(codes), -1).contiguous(), out_int32=True)
    return order.div(max(slots, 1), rounding_mode="floor").to(torch.int32), bounds


def _grad_keys(
    query: Tensor, key: Tensor, value: Tensor, grad_out: Tensor, logs: Tensor, deltas: Tensor,
    lists: SortedLists, causal: bool, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of keys and values, in their types."""
    batch, n_kv_heads, n_keys, head_dim = key.shape
    n_heads, n_lists, sinks = lists.shape[0], lists.shape[2], lists.shape[6]
    n_blocks, n_sink_blocks = triton.cdiv(n_keys, BLOCK.value), triton.cdiv(sinks, BLOCK.value)
    readers, bounds = _readers(lists.codes, n_blocks)
    tile = pick_tile("grad_key", query, n_lists)
    strides = query.stride(), key.stride(), value.stride()
    constants = {
        "causal": causal, "head_dim": head_dim, "heads": n_heads // n_lists,
        "lists": n_lists // n_kv_heads, "parts": BLOCK.value // tile.columns,
    }  # fmt: skip
    sink_sums = torch.empty(2, 0, dtype=torch.float32, device=key.device)
    if n_sink_blocks:
        n_outputs = batch * n_kv_heads * n_sink_blocks
        shares = max(1, min(SINK_PROGRAMS // n_outputs, triton.cdiv(query.shape[2], BLOCK.value)))
        rows = n_sink_blocks * BLOCK.value
        parts = sink_sums.new_empty(2, shares, batch, n_kv_heads, rows, head_dim)
        launch(
            _grad_key_kernel, shares * n_outputs, query.device, tile,
            query, key, value, grad_out, logs, deltas, parts[0], parts[1], parts[0], parts[1],
            readers, bounds, *strides, lists.shape,
            batch, n_sink_blocks, rows, readers.shape[1], shares, 1.0, scale * LOG2_E,
            **constants, sinks_only=True,
        )  # fmt: skip
        sink_sums = parts.sum(dim=1)
    grad_key = torch.empty(key.shape, dtype=key.dtype, device=key.device)
    grad_value = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    launch(
        _grad_key_kernel, batch * n_kv_heads * n_blocks, query.device, tile,
        query, key, value, grad_out, logs, deltas, grad_key, grad_value, sink_sums[0], sink_sums[1],
        readers, bounds, *strides, lists.shape,
        batch, n_blocks, n_keys, readers.shape[1], 1, scale, scale * LOG2_E,
        **constants, sinks_only=False,
    )  # fmt: skip
    return grad_key, grad_value


def backward(
    grad_out: Tensor, grad_logsumexp: Tensor, query: Tensor, key: Tensor, value: Tensor,
    out: Tensor, logsumexp: Tensor, counts: Tensor, indices: Tensor,
    causal: bool, window_size: int, sink_tokens: int, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, key and value, in their types; the same bits on every call.

    Args:
        grad_out: Like ``out``.
        grad_logsumexp: Like ``logsumexp``.
        query: As in the forward pass, like all that is not named here.
        key: See ``query``.
        value: See ``query``.
        out: What the forward pass returned.
        logsumexp: Likewise.
        counts: See ``query``.
        indices: See ``query``.
        causal: See ``query``.
        window_size: See ``query``.
        sink_tokens: See ``query``.
        scale: See ``query``.

    Raises:
        ValueError: if the head size is not 16, 32, 64 or 128.
    """
    query, key, value = with_rows(query), with_rows(key), with_rows(value)
    grad_out, grad_logsumexp = grad_out.contiguous(), grad_logsumexp.contiguous()
    tile = pick_tile("grad_query", query, counts.shape[1])
    lists = sort_lists(
        query, key, counts, indices, causal, window_size, sink_tokens, with_codes=True
    )
    grad_query = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    logs, deltas = torch.empty_like(logsumexp), torch.empty_like(logsumexp)
    launch(
        _grad_query_kernel, query.shape[0] * query.shape[1] // tile.heads * counts.shape[2],
        query.device, tile,
        query, key, value, out.contiguous(), grad_out, logsumexp.contiguous(), grad_logsumexp,
        grad_query, logs, deltas, lists.entries, lists.sizes,
        query.stride(), key.stride(), value.stride(),
        lists.shape, indices.shape[3], scale, scale * LOG2_E,
        causal=causal, head_dim=query.shape[3], heads=tile.heads, parts=BLOCK.value // tile.columns,
    )  # fmt: skip
    grads = _grad_keys(query, key, value, grad_out, logs, deltas, lists, causal, scale)
    return grad_query, *grads
