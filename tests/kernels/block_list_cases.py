"""Inputs on which every form of block-list attention is held to its definition, and by how much."""

from __future__ import annotations

import torch

from aiexplained_kernels import block_list_from_mask

# Batch, query heads, key heads, lists, queries, keys, head_dim, causal, window, sinks.
CASES = {
    "one block": (1, 2, 1, 1, 64, 64, 64, True, None, 0),
    "three tokens": (1, 1, 1, 1, 1, 3, 64, True, None, 0),
    "ragged": (2, 3, 1, 1, 130, 201, 64, True, None, 0),
    "group of 8, a list each": (1, 8, 1, 8, 100, 100, 128, True, 40, 3),
    "no causal mask": (1, 6, 2, 2, 70, 300, 40, False, 90, 70),
    "more queries than keys": (1, 6, 2, 6, 300, 70, 64, True, None, 5),
    "decode": (2, 6, 2, 2, 1, 333, 64, True, 50, 2),
    "five newest": (1, 24, 3, 3, 5, 200, 128, True, None, 0),
    "heads alone": (1, 3, 3, 3, 129, 257, 16, False, None, 0),
    "sinks beyond a block": (1, 2, 2, 2, 140, 270, 64, True, 30, 100),
    "sinks beyond the keys": (1, 2, 1, 1, 70, 70, 32, True, None, 500),
}


def make_case(name: str, dtype: torch.dtype = torch.float64, seed: int = 0):
    """Inputs, random lists (the first one empty) and options."""
    batch, heads, kv_heads, lists, n_queries, n_keys, dim, causal, window, sinks = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, h, t, dim) for h, t in ((heads, n_queries), *[(kv_heads, n_keys)] * 2)]
    inputs = [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]
    size = batch, lists, -(-n_queries // 64), -(-n_keys // 64)
    counts, indices = block_list_from_mask(torch.rand(size, generator=generator) < 0.7)
    if n_queries > 64:
        counts[:, 0, 0] = 0
    return inputs, (counts, indices), {
        "causal": causal, "window_size": window, "sink_tokens": sinks,
    }  # fmt: skip


def run(operator, inputs, lists, options, seed: int = 1):
    """Result, logsumexp and the gradients of a random functional of both."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    out, logsumexp = operator(*inputs, *lists, **options)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)
    slope = torch.randn(logsumexp.shape, generator=generator, dtype=torch.float64)
    slope = slope.to(out.device)
    finite = logsumexp.isfinite()
    # Rounding the weights here would be an error of the test.
    total = (out.double() * weight.double()).sum() + (logsumexp.double() * slope)[finite].sum()
    return [out.detach(), logsumexp.detach(), *torch.autograd.grad(total, inputs)]


def make_pages(
    page_size: int, dtype: torch.dtype = torch.float32, n_queries: int = 3, head_dim: int = 24
):
    """Three requests of different lengths, their pages scattered over a pool."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([n_queries, 131, 197])
    table = torch.randperm(45, generator=generator)[: 3 * -(-208 // page_size)].view(3, -1)
    pages = torch.randn(2, 45, 2, page_size, head_dim, generator=generator).to(dtype)
    query = torch.randn(3, 6, n_queries, head_dim, generator=generator).to(dtype)
    return query, *pages, table, lengths
