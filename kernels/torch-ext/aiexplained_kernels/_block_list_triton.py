"""What the Triton kernels of block-list attention share: configurations, sorted lists, masks.

A small kernel first sorts every list into blocks that all 64 queries see in full and blocks that
need a mask, and drops the rest, so that the long loop has neither compares nor bounds. In both
loops the keys that a query sees are one interval: sink keys are read in rounds of their own, and
listed blocks then show only what is past the sinks.

In all kernels ``shape`` is (query heads, key heads, lists, queries, keys, window, sinks).
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = tl.constexpr(64)
NO_WINDOW = 1 << 30
LOG2_E = math.log2(math.e)
LN_2 = tl.constexpr(math.log(2))


class Tile(NamedTuple):
    """How a kernel is cut.

    Attributes:
        heads: Query heads that share a list, stacked in one tile, at most.
        warps: Warps of a program.
        stages: Loads in flight, one more than rounds ahead.
        columns: Keys that a round reads (queries, for the gradients of keys): a block of 64 or an
            even part of one.
        registers: Cap on the registers of a thread, so that a second program fits beside.
        descriptors: Whether keys and values come through Hopper's copy engine (forward pass).
    """

    heads: int
    warps: int
    stages: int
    columns: int = 64
    registers: int | None = None
    descriptors: bool = False


# By kernel and kind of GPU, for heads of up to 64 and up to 128 numbers of 16 bits; float32 runs
# without matrix units, and needs twice the room, everywhere.
CONFIGS = {
    ("forward", "sm90"): (Tile(1, 4, 3, registers=128), Tile(2, 8, 2, 64, 128, True)),
    ("forward", "sm80"): (Tile(2, 8, 3), Tile(2, 8, 2)),
    ("forward", "cdna"): (Tile(2, 4, 1), Tile(1, 4, 1)),
    ("forward", "rdna"): (Tile(1, 4, 1), Tile(1, 8, 1)),
    ("grad_query", "sm90"): (Tile(2, 8, 3, 32, 128), Tile(1, 4, 2, 32, 168)),
    ("grad_query", "sm80"): (Tile(2, 8, 2), Tile(1, 8, 2)),
    ("grad_query", "cdna"): (Tile(1, 4, 1), Tile(1, 4, 1)),
    ("grad_query", "rdna"): (Tile(1, 4, 1, columns=32), Tile(1, 8, 1, columns=32)),
    ("grad_key", "sm90"): (Tile(1, 4, 3, 32, 168), Tile(1, 4, 3, 32)),
    ("grad_key", "sm80"): (Tile(1, 4, 2, columns=32), Tile(1, 8, 2)),
    ("grad_key", "cdna"): (Tile(1, 4, 1), Tile(1, 4, 1)),
    ("grad_key", "rdna"): (Tile(1, 8, 1, columns=32), Tile(1, 16, 1, columns=16)),
    ("paged", "sm90"): (Tile(1, 4, 2), Tile(1, 4, 2)),
    ("paged", "sm80"): (Tile(1, 4, 3), Tile(1, 8, 3)),
    ("paged", "cdna"): (Tile(1, 4, 1), Tile(1, 4, 1)),
    ("paged", "rdna"): (Tile(1, 4, 1), Tile(1, 8, 1)),
    ("forward", "float32"): (Tile(1, 8, 1, columns=16), Tile(1, 8, 1, columns=16)),
    ("grad_query", "float32"): (Tile(1, 8, 1, columns=16), Tile(1, 8, 1, columns=16)),
    ("grad_key", "float32"): (Tile(1, 8, 1, columns=16), Tile(1, 8, 1, columns=16)),
    ("paged", "float32"): (Tile(1, 8, 1), Tile(1, 8, 1)),
}


def kind(device: torch.device) -> str:
    """The row of ``CONFIGS`` for a device; the interpreter walks the one for Hopper."""
    if device.type == "cpu":
        return "sm90"
    if torch.version.hip:
        arch = torch.cuda.get_device_properties(device).gcnArchName
        return "cdna" if arch.startswith("gfx9") else "rdna"
    return "sm90" if torch.cuda.get_device_capability(device)[0] == 9 else "sm80"


def pick_tile(kernel: str, query: Tensor, n_lists: int) -> Tile:
    """The configuration of ``kernel``; heads are stacked only where they share a list.

    Raises:
        ValueError: if the kernels have no layout for the head size.
    """
    head_dim = query.shape[3]
    if head_dim not in (16, 32, 64, 128):
        raise ValueError(f"the Triton kernels need a head size of 16, 32, 64 or 128: {head_dim}")
    row = "float32" if query.dtype == torch.float32 else kind(query.device)
    tile = CONFIGS[kernel, row][head_dim > 64]
    return tile._replace(heads=math.gcd(tile.heads, query.shape[1] // n_lists))


def launch_options(tile: Tile) -> dict[str, Any]:
    """What the compiler is told; fused multiply-add, said aloud, as its default is to change."""
    options = {"num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": True}
    return options | ({"maxnreg": tile.registers} if tile.registers else {})


def launch(
    kernel: Any, n_programs: int, device: torch.device, tile: Tile, *args: Any, **constants: Any
) -> None:
    """Run ``kernel`` on the device that holds the data."""
    if n_programs == 0:
        return
    guard = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with guard:
        kernel[(n_programs,)](*args, **constants, **launch_options(tile))


def with_rows(x: Tensor) -> Tensor:
    """``x`` with each vector in one piece of memory."""
    return x if x.stride(-1) == 1 else x.contiguous()


@triton.jit
def interval(position, n_keys, window, sinks, causal: tl.constexpr):
    """First and last key past the sinks that the query at ``position`` sees in a listed block."""
    last = tl.minimum(position if causal else position + window - 1, n_keys - 1)
    return tl.maximum(position - window + 1, sinks), last


@triton.jit
def sees(key, is_sink, position, shape, causal: tl.constexpr):
    """Whether each query sees each key, in a sink round or as listed; all arguments broadcast."""
    _, _, _, _, n_keys, window, sinks = shape
    first, last = interval(position, n_keys, window, sinks, causal)
    sink_last = tl.minimum(position, sinks - 1) if causal else position * 0 + sinks - 1
    last = tl.where(is_sink, sink_last, last)
    return (key >= tl.where(is_sink, 0, first)) & (key <= last)


@triton.jit
def _sort_kernel(
    counts, indices, lists, sizes, codes, shape, slots,
    causal: tl.constexpr, with_codes: tl.constexpr, chunk: tl.constexpr,
):  # fmt: skip
    """Sort one list: full blocks from the front of its row, blocks to mask from the back."""
    _, _, _, n_queries, n_keys, window, sinks = shape
    row = tl.program_id(0).to(tl.int64)
    n_blocks = tl.cdiv(n_keys, BLOCK)
    position = (row % tl.cdiv(n_queries, BLOCK)).to(tl.int32) * BLOCK + n_keys - n_queries
    newest = tl.minimum(position + BLOCK, n_keys) - 1
    first, full_last = interval(position, n_keys, window, sinks, causal)
    full_first, last = interval(newest, n_keys, window, sinks, causal)
    count = tl.minimum(tl.load(counts + row), slots)
    front = lists + row * (slots + 2) + 1
    n_full = 0
    n_masked = 0
    for start in range(0, slots if with_codes else count, chunk):
        slot = start + tl.arange(0, chunk)
        block = tl.load(indices + row * slots + slot, mask=slot < count, other=-1)
        named = (block >= 0) & (block < n_blocks)
        begin = tl.where(named, block, 0) * BLOCK
        end = begin + BLOCK - 1
        seen = named & (first <= end) & (last >= begin)
        is_full = seen & (full_first <= begin) & (full_last >= end) & (position + BLOCK <= n_keys)
        full = is_full.to(tl.int32)
        masked = seen.to(tl.int32) - full
        from_front = n_full + tl.cumsum(full) - 1
        from_back = slots - n_masked - tl.cumsum(masked)
        tl.store(front + tl.where(is_full, from_front, from_back), block, mask=seen)
        n_full += tl.sum(full)
        n_masked += tl.sum(masked)
        if with_codes:
            code = tl.where(seen, 2 * block + masked, 2 * n_blocks)
            tl.store(codes + row * slots + slot, code, mask=slot < slots)
    tl.store(sizes + 2 * row, n_full)
    tl.store(sizes + 2 * row + 1, n_masked)


class SortedLists(NamedTuple):
    """Lists in the order in which the kernels read them.

    ``entries`` ``(B, G, N, S + 2)``: after one free entry, the full blocks from the front and the
    blocks to mask from the back, with a free entry behind; the free ones are read, but not used,
    by loops that read ahead. ``sizes`` ``(B, G, N, 2)``: how many of each. ``codes``
    ``(B, G, N, S)``: for each slot of the given list 2 * block, and 1 more if to mask, or twice
    the number of key blocks if the entry is not read; empty unless asked for.
    """

    entries: Tensor
    sizes: Tensor
    codes: Tensor
    shape: tuple[int, ...]


def sort_lists(
    query: Tensor, key: Tensor, counts: Tensor, indices: Tensor, causal: bool, window_size: int,
    sink_tokens: int, *, with_codes: bool = False,
) -> SortedLists:  # fmt: skip
    """Sort all lists, by one small kernel."""
    n_heads, n_queries = query.shape[1:3]
    n_keys, slots = key.shape[2], indices.shape[3]
    window, sinks = min(window_size or NO_WINDOW, NO_WINDOW), min(sink_tokens, n_keys)
    entries = indices.new_empty(*counts.shape, slots + 2)
    sizes = indices.new_empty(*counts.shape, 2)
    codes = indices.new_empty(indices.shape if with_codes else (0,))
    shape = (n_heads, key.shape[1], counts.shape[1], n_queries, n_keys, window, sinks)
    launch(
        _sort_kernel, counts.numel(), query.device, Tile(1, 1, 1),
        counts.contiguous(), indices.contiguous(), entries, sizes,
        codes, shape, slots,
        causal=causal, with_codes=with_codes,
        chunk=min(triton.next_power_of_2(max(slots, 2)), 256),
    )  # fmt: skip
    return SortedLists(entries, sizes, codes, shape)


@triton.jit
def locate(shape, heads: tl.constexpr):
    """Batch, first head, query block and list of this program.

    Heads run fastest, so that neighbors read the same keys; the last and longest lists start first.
    """
    n_heads, _, n_lists, n_queries, _, _, _ = shape
    tiles = n_heads // n_lists // heads
    n_blocks = tl.cdiv(n_queries, BLOCK)
    program = tl.program_id(0)
    group = program // tiles // n_blocks
    block = n_blocks - 1 - program // tiles % n_blocks
    head = (group % n_lists * tiles + program % tiles) * heads
    return (group // n_lists).to(tl.int64), head, block, group.to(tl.int64) * n_blocks + block


@triton.jit
def load_rows(
    rows, start, stride, n_rows,
    head_dim: tl.constexpr, columns: tl.constexpr, masked: tl.constexpr,
):  # fmt: skip
    """``columns`` keys or values (columns, head_dim) from ``start`` on.

    ``rows`` points to the first row; without a stride it is a descriptor, a batch and a head.
    If ``masked``, rows past the last one are zeros.
    """
    if stride is None:
        x = rows[0].load([rows[1], rows[2], start, 0]).reshape(columns, head_dim)
    else:
        lane = tl.arange(0, columns)[:, None]
        at = rows + start.to(tl.int64) * stride + lane * stride + tl.arange(0, head_dim)[None, :]
        x = tl.load(at, mask=start + lane < n_rows, other=0.0) if masked else tl.load(at)
    return x
