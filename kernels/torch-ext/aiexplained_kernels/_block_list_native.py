"""The C++ kernel behind :mod:`.block_list_attention`, called through ctypes."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import _native
from ._block_list_torch import check_pages
from ._tensors import TYPES, View, entry, exact, rows, view
from .block_lists import BLOCK_SIZE, check_block_list, n_blocks

NAME = "block_list_attention"
MOST_SHARES = 8
"""Parts of a key head's gradients that threads may sum apart; each takes memory of its own."""
NUMBERS = (
    "type", "batch", "heads", "kv_heads", "lists", "n_queries", "n_keys", "head_dim", "list_width",
    "causal", "window_size", "sink_tokens", "threads", "shares", "page_size", "tiles",
)  # fmt: skip
TENSORS = ("query", "key", "value", "out", "grad_out", "grad_query")
RESULTS = (
    "logsumexp", "grad_logsumexp", "grad_key", "grad_value", "counts", "indices", "lengths",
)  # fmt: skip


class Problem(ctypes.Structure):
    """The arguments of every entry; the same structure stands in the C++ file."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in NUMBERS),
        ("scale", ctypes.c_double),
        *((name, View) for name in TENSORS),
        *((name, ctypes.c_void_p) for name in RESULTS),
    )


@functools.cache
def uses_tiles(library: ctypes.CDLL) -> bool:
    """Whether products of bfloat16 run in the processor's matrix unit."""
    return bool(library.has_tiles())


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    counts: Tensor,
    indices: Tensor,
    causal: bool,
    window_size: int,
    sink_tokens: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """See :func:`.block_list_attention`; ``window_size`` 0 is none."""
    query, key, value = (rows(x) for x in (query, key, value))
    counts, indices = counts.contiguous(), indices.contiguous()
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    logsumexp = query.new_empty(query.shape[:3], dtype=exact(query))
    library = _native.load(NAME)
    problem = _problem(library, query, key, value, causal, window_size, sink_tokens, scale)
    _lists(problem, key, counts, indices)
    problem.out, problem.logsumexp = view(out), logsumexp.data_ptr()
    _run(library, "block_list_forward", problem, (counts, indices, query.shape[2], key.shape[2]))
    return out, logsumexp


def backward(
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value."""
    grad_out, query, key, value, out = (rows(x) for x in (grad_out, query, key, value, out))
    counts, indices = counts.contiguous(), indices.contiguous()
    logsumexp, grad_logsumexp = logsumexp.contiguous(), grad_logsumexp.contiguous()
    library = _native.load(NAME)
    problem = _problem(library, query, key, value, causal, window_size, sink_tokens, scale)
    _lists(problem, key, counts, indices)
    batch, kv_heads, n_keys, width = key.shape
    wanted = -(-problem.threads // (batch * kv_heads))
    problem.shares = min(wanted, n_blocks(query.shape[2]), MOST_SHARES)
    shape = (problem.shares, batch, kv_heads, n_blocks(n_keys) * BLOCK_SIZE, -(-width // 32) * 32)
    grad_key, grad_value = (key.new_zeros(shape, dtype=exact(query)) for _ in range(2))
    grad_query = torch.empty_like(query, memory_format=torch.contiguous_format)
    problem.out, problem.grad_out = view(out), view(grad_out)
    problem.grad_query = view(grad_query)
    problem.logsumexp, problem.grad_logsumexp = logsumexp.data_ptr(), grad_logsumexp.data_ptr()
    problem.grad_key, problem.grad_value = grad_key.data_ptr(), grad_value.data_ptr()
    _run(library, "block_list_backward", problem, (counts, indices, query.shape[2], n_keys))
    grad_key, grad_value = (
        x.sum(dim=0)[:, :, :n_keys, :width].to(key.dtype).contiguous()
        for x in (grad_key, grad_value)
    )
    return grad_query, grad_key, grad_value


def paged(
    query: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    window_size: int,
    sink_tokens: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """See :func:`.paged_attention`."""
    query, key_pages, value_pages = (rows(x) for x in (query, key_pages, value_pages))
    page_table, lengths = page_table.contiguous(), lengths.contiguous()
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    logsumexp = query.new_empty(query.shape[:3], dtype=exact(query))
    library, options = _native.load(NAME), (True, window_size, sink_tokens, scale)
    problem = _problem(library, query, key_pages, value_pages, *options)
    problem.lists, problem.n_keys = key_pages.shape[1], key_pages.shape[0]
    problem.page_size, problem.list_width = key_pages.shape[2], page_table.shape[1]
    problem.indices, problem.lengths = page_table.data_ptr(), lengths.data_ptr()
    problem.out, problem.logsumexp = view(out), logsumexp.data_ptr()
    if _entry(library, "block_list_forward")(problem):
        used = -(-lengths // problem.page_size)
        in_use = torch.arange(page_table.shape[1]) < used[:, None]
        check_pages(page_table, lengths, in_use, key_pages)
        raise RuntimeError("the C++ kernel rejected pages in which the checker finds no fault")
    return out, logsumexp


def _entry(library: ctypes.CDLL, name: str) -> Callable[[Any], int]:
    return entry(library, name, ctypes.sizeof(Problem), ctypes.POINTER(Problem))


def _run(
    library: ctypes.CDLL, name: str, problem: Problem, lists: tuple[Tensor, Tensor, int, int]
) -> None:
    """Call the library; a malformed list is explained by the checker that knows every rule."""
    if _entry(library, name)(problem):
        check_block_list(*lists)
        raise RuntimeError("the C++ kernel rejected lists in which the checker finds no fault")


def _problem(
    library: ctypes.CDLL,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    causal: bool,
    window: int,
    sinks: int,
    scale: float,
) -> Problem:
    """The arguments that all entries share."""
    return Problem(
        type=TYPES[query.dtype], batch=query.shape[0], heads=query.shape[1],
        kv_heads=key.shape[1], n_queries=query.shape[2], n_keys=key.shape[2],
        head_dim=query.shape[3], causal=causal, window_size=window, sink_tokens=sinks,
        threads=torch.get_num_threads(), shares=1, tiles=uses_tiles(library), scale=scale,
        query=view(query), key=view(key), value=view(value),
    )  # fmt: skip


def _lists(problem: Problem, key: Tensor, counts: Tensor, indices: Tensor) -> None:
    problem.lists, problem.list_width = counts.shape[1], indices.shape[3]
    problem.counts, problem.indices = counts.data_ptr(), indices.data_ptr()
