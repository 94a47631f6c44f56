"""Decoding over a paged cache in Triton: a few new queries against all pages of their request.

A decode step has few queries, so the keys of each request are split over several programs, whose
results are merged by their logsumexps. All queries of the heads that share keys are rows of one
tile.
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
    NO_WINDOW,
    Tile,
    launch,
    pick_tile,
    with_rows,
)

MAX_SPLITS = 128
BLOCKS_PER_SPLIT = 4


@triton.jit
def _physical(tile, table, n_read, n_sink, first, page_size: tl.constexpr):
    """Place in the request, and page of the pool (-1 if none), of each of 64 keys to read."""
    turn = tile * (BLOCK // page_size) + tl.arange(0, BLOCK) // page_size
    place = tl.where(turn < n_sink, turn, turn - n_sink + first)
    return place, tl.load(table + place, mask=turn < n_read, other=-1)


@triton.jit
def _load_pages(pages, page, inside, strides, page_size: tl.constexpr, head_dim: tl.constexpr):
    """The rows (64, head_dim) of 64 keys, zeros outside."""
    at = page.to(tl.int64) * strides[0] + tl.arange(0, BLOCK) % page_size * strides[2]
    at = at[:, None] + tl.arange(0, head_dim)[None, :]
    return tl.load(pages + at, mask=inside[:, None], other=0.0)


@triton.jit
def _split_kernel(
    query, key_pages, value_pages, page_table, lengths, parts, part_logs,
    query_strides, key_strides, value_strides, shape, splits, scale,
    page_size: tl.constexpr, head_dim: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Attend to one share of a request's pages; results in powers of 2, normalized."""
    n_heads, n_kv_heads, n_queries, n_pages, max_pages, window, sinks = shape
    program = tl.program_id(0)
    split = program % splits
    group = n_heads // n_kv_heads
    row_tiles = tl.cdiv(group * n_queries, rows)
    row = program // splits % row_tiles * rows + tl.arange(0, rows)
    kv_head = program // splits // row_tiles % n_kv_heads
    batch = (program // splits // row_tiles // n_kv_heads).to(tl.int64)
    head = kv_head * group + row // n_queries
    used = row < group * n_queries
    column = tl.arange(0, head_dim)[None, :]
    at = batch * query_strides[0] + head.to(tl.int64) * query_strides[1]
    at += row % n_queries * query_strides[2]
    q = tl.load(query + at[:, None] + column, mask=used[:, None], other=0.0)

    length = tl.minimum(tl.load(lengths + batch), max_pages * page_size)
    position = row % n_queries + length - n_queries
    n_sink = tl.cdiv(tl.minimum(sinks, length), page_size)
    first = tl.maximum(tl.maximum(length - n_queries - window + 1, 0) // page_size, n_sink)
    n_read = n_sink + tl.maximum(tl.cdiv(length, page_size) - first, 0)
    n_tiles = tl.cdiv(n_read * page_size, BLOCK)
    share = tl.cdiv(n_tiles, splits)
    begin = split * share
    table = page_table + batch * max_pages
    keys = key_pages + kv_head.to(tl.int64) * key_strides[1]
    values = value_pages + kv_head.to(tl.int64) * value_strides[1]
    acc = tl.zeros((rows, head_dim), tl.float32)
    peak = tl.full((rows,), -float("inf"), tl.float32)
    total = tl.zeros((rows,), tl.float32)
    next_place, next_page = _physical(begin, table, n_read, n_sink, first, page_size)
    for tile in range(begin, tl.minimum(begin + share, n_tiles)):
        place = next_place
        page = next_page
        next_place, next_page = _physical(tile + 1, table, n_read, n_sink, first, page_size)
        key = place * page_size + tl.arange(0, BLOCK) % page_size
        inside = (page >= 0) & (page < n_pages) & (key < length)
        k = _load_pages(keys, page, inside, key_strides, page_size, head_dim)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        near = (key[None, :] > position[:, None] - window) | (key < sinks)[None, :]
        seen = inside[None, :] & (key[None, :] <= position[:, None]) & near
        scores = tl.where(seen, scores * scale, -float("inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1))
        shift = tl.where(new_peak == -float("inf"), 0.0, new_peak)
        weights = tl.exp2(scores - shift[:, None])
        decay = tl.exp2(peak - shift)
        total = total * decay + tl.sum(weights, 1)
        v = _load_pages(values, page, inside, value_strides, page_size, head_dim)
        acc = tl.dot(weights.to(v.dtype), v, acc * decay[:, None], input_precision="ieee")
        peak = new_peak
    total = tl.where(total > 0, total, 1.0)
    at = ((batch * n_heads + head) * n_queries + row % n_queries) * splits + split
    tl.store(parts + at[:, None] * head_dim + column, acc / total[:, None], mask=used[:, None])
    tl.store(part_logs + at, peak + tl.log2(total), mask=used)


@triton.jit
def _merge_kernel(
    parts, part_logs, out, logsumexp, splits, head_dim: tl.constexpr, lanes: tl.constexpr
):  # fmt: skip
    """Average the shares of one query, each by the softmax weight that it holds."""
    row = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, lanes)
    column = tl.arange(0, head_dim)
    used = split < splits
    at = row * splits + split
    logs = tl.load(part_logs + at, mask=used, other=-float("inf"))
    part = tl.load(parts + at[:, None] * head_dim + column[None, :], mask=used[:, None], other=0.0)
    peak = tl.max(logs, 0)
    weights = tl.exp2(logs - tl.where(peak == -float("inf"), 0.0, peak))
    total = tl.sum(weights, 0)
    total = tl.where(total > 0, total, 1.0)
    tl.store(out + row * head_dim + column, tl.sum(part * weights[:, None], 0) / total)
    tl.store(logsumexp + row, (peak + tl.log2(total)) * LN_2)


def _n_splits(n_programs: int, capacity: int, device: torch.device) -> int:
    """Shares of the keys: two programs a multiprocessor, each with some blocks of 64 keys to read.

    It looks at the room for keys, never at the lengths, which are on the device.
    """
    n_processors: int = 4
    if device.type == "cuda":
        n_processors = torch.cuda.get_device_properties(device).multi_processor_count
    wanted = -(-2 * n_processors // max(n_programs, 1))
    worthwhile: int = -(-capacity // (BLOCK.value * BLOCKS_PER_SPLIT))
    return max(1, min(wanted, worthwhile, MAX_SPLITS))


def paged(
    query: Tensor, key_pages: Tensor, value_pages: Tensor, page_table: Tensor, lengths: Tensor,
    window_size: int, sink_tokens: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Attention of the newest queries of each request to all its pages.

    Args:
        query: ``(B, H, T, D)``; the last one stands at position ``lengths[b] - 1``.
        key_pages: ``(P, H_kv, page_size, D)``, ``page_size`` a power of two up to 64.
        value_pages: Like ``key_pages``.
        page_table: ``(B, max_pages)`` int32; an entry that names no page is skipped.
        lengths: ``(B,)`` int32, on the device; never read by the host.
        window_size: Show only keys nearer than this; 0 for no window.
        sink_tokens: First keys that are seen whatever the window says.
        scale: Factor on the scores, above 0.

    Returns:
        ``(B, H, T, D)`` in the type of ``query``, contiguous, and ``(B, H, T)`` in float32.

    Raises:
        ValueError: if ``D`` is not 16, 32, 64 or 128.
    """
    query, key_pages, value_pages = with_rows(query), with_rows(key_pages), with_rows(value_pages)
    batch, n_heads, n_queries, head_dim = query.shape
    n_pages, n_kv_heads, page_size, _ = key_pages.shape
    max_pages = page_table.shape[1]
    n_rows = n_heads // n_kv_heads * n_queries
    rows = min(max(triton.next_power_of_2(n_rows), 16), 64)
    n_programs = batch * n_kv_heads * -(-n_rows // rows)
    splits = _n_splits(n_programs, max_pages * page_size, query.device)
    parts = torch.empty(
        (*query.shape[:3], splits, head_dim), dtype=torch.float32, device=query.device
    )
    part_logs = torch.empty(parts.shape[:4], dtype=torch.float32, device=query.device)
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    logsumexp = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
    window = min(window_size or NO_WINDOW, NO_WINDOW)
    launch(
        _split_kernel, n_programs * splits, query.device, pick_tile("paged", query, n_kv_heads),
        query, key_pages, value_pages, page_table.contiguous(), lengths.contiguous(),
        parts, part_logs, query.stride(), key_pages.stride(), value_pages.stride(),
        (n_heads, n_kv_heads, n_queries, n_pages, max_pages, window, sink_tokens), splits,
        scale * LOG2_E, page_size=page_size, head_dim=head_dim, rows=rows,
    )  # fmt: skip
    launch(
        _merge_kernel, logsumexp.numel(), query.device, Tile(1, 4, 1),
        parts, part_logs, out, logsumexp, splits,
        head_dim=head_dim, lanes=triton.next_power_of_2(max(splits, 2)),
    )  # fmt: skip
    return out, logsumexp
