"""The Triton kernels of block-list attention in Triton's interpreter: equal to the definition.

Each group of cases runs in a process of its own (this file, run as a script), on guarded memory;
keys and values lie inside larger tensors of NaN.
"""

from __future__ import annotations

import sys
from unittest.mock import patch

import pytest
import torch
from accuracy import budget, relative
from block_list_cases import CASES, make_case, make_pages, run
from triton_interpreter import (
    MARGIN,
    check_group,
    guarded_buffers,
    inside_nan,
    report,
)

from aiexplained.nn import reference_block_list_attention
from aiexplained_kernels import _block_list_triton as shared
from aiexplained_kernels import block_list_attention_triton, paged_attention

HEAD_DIMS = (16, 32, 64, 128)
SUPPORTED = [name for name, case in CASES.items() if case[6] in HEAD_DIMS]


class Interpreted(torch.autograd.Function):
    """Forward and backward kernels, on guarded memory."""

    @staticmethod
    def forward(ctx, query, key, value, counts, indices, *options):
        counts, indices = counts.int(), indices.int()
        inputs = query.transpose(1, 2).contiguous().transpose(1, 2), *map(inside_nan, (key, value))
        with guarded_buffers():
            found = block_list_attention_triton.forward(*inputs, counts, indices, *options)
        ctx.save_for_backward(*inputs, *found, counts, indices)
        ctx.options = options
        return found

    @staticmethod
    def backward(ctx, grad_out, grad_logsumexp):
        with guarded_buffers():
            grads = block_list_attention_triton.backward(
                grad_out, grad_logsumexp, *ctx.saved_tensors, *ctx.options
            )
        return *grads, *[None] * 6


def interpreted(
    query, key, value, counts, indices, *, causal, window_size, sink_tokens, scale=None
):
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    options = causal, window_size or 0, sink_tokens, scale
    return Interpreted.apply(query, key, value, counts, indices, *options)


def errors(name, dtype=torch.float32, found_lists=None, expected_lists=None, wrong=None, **extra):
    """Relative errors of the result, the logsumexp and the three gradients."""
    inputs, lists, options = make_case(name, dtype)
    options |= extra
    exact = [x.double() for x in inputs]
    expected = run(reference_block_list_attention, exact, expected_lists or lists, options)
    found = run(interpreted, inputs, found_lists or lists, options | (wrong or {}))
    return [relative(a, b) for a, b in zip(found, expected, strict=True)]


def check(name, dtype=torch.float32, **arguments):
    found = errors(name, dtype, **arguments)
    assert max(found) < budget(dtype), found


def use_tiles(kind: str) -> None:
    """Cut everything, float32 too, as on this kind of GPU; the interpreter has no data sheet."""
    shared.kind = lambda device: kind
    for kernel in ("forward", "grad_query", "grad_key", "paged"):
        shared.CONFIGS[kernel, "float32"] = shared.CONFIGS[kernel, kind]


def check_with_tiles(kind, name, dtype=torch.float32):
    with patch.object(shared, "kind"), patch.dict(shared.CONFIGS):
        use_tiles(kind)
        check(name, dtype)


def check_scale(scale):
    check("two blocks", scale=scale)


def check_malformed_lists():
    """Entries that name no block are skipped, and a count above the length means all of it."""
    counts, indices = torch.tensor([[[9, 2]]]), torch.tensor([[[0, 7, -3], [10**6, 1, 0]]])
    bad = counts, indices.view(1, 1, 2, 3)
    good = torch.tensor([[[1, 1]]]), torch.tensor([[[[0], [1]]]])
    check("two blocks", found_lists=bad, expected_lists=good)


def check_no_slots():
    lists = torch.zeros(1, 1, 2, dtype=torch.int32), torch.zeros(1, 1, 2, 0, dtype=torch.int32)
    check("two blocks", found_lists=lists, expected_lists=lists)


def check_a_wrong_mask_is_caught(right, wrong):
    found = errors("two blocks", wrong=wrong, **right)
    assert min(found[:2]) > 100 * budget(torch.float32), found


def check_a_write_past_the_end_is_caught():
    with pytest.raises(AssertionError), guarded_buffers():
        torch.empty(3, 4).as_strided((1,), (1,), MARGIN + 12).zero_()


def check_pages(page_size, dtype, n_queries=3, **options):
    query, keys, values, table, lengths = make_pages(page_size, dtype, n_queries, head_dim=32)
    exact = [x.double() for x in (query, keys, values)]
    expected = paged_attention(*exact, table, lengths, backend="torch", **options)
    places = torch.arange(table.shape[1]) * page_size
    unread = places >= lengths[:, None]
    table = table.masked_fill(unread, 10**6).int()
    window, sinks, scale = (
        options.get(name, default)
        for name, default in (("window_size", 0), ("sink_tokens", 0), ("scale", 32**-0.5))
    )
    with guarded_buffers():
        found = block_list_attention_triton.paged(
            query.transpose(1, 2).contiguous().transpose(1, 2), inside_nan(keys),
            inside_nan(values), table, lengths.int(), window, sinks, scale,
        )  # fmt: skip
    for a, b in zip(found, expected, strict=True):
        assert relative(a, b) < budget(dtype)


def check_pages_with_a_window(page_size):
    check_pages(page_size, torch.float32, window_size=40, sink_tokens=3, scale=0.3)


def check_a_wrong_page_is_caught():
    with pytest.raises(AssertionError), patch.object(torch.Tensor, "masked_fill", swap_pages):
        check_pages(16, torch.float32)


def swap_pages(table, unread, value):
    return table.roll(1, dims=1)


F16, F32 = torch.float16, torch.float32
CASES["two blocks"] = (1, 2, 1, 1, 128, 128, 64, True, None, 0)
CASES["large heads"] = (1, 2, 1, 1, 70, 100, 128, True, 30, 2)
CASES["no causal mask, group of 3"] = (1, 6, 2, 2, 70, 300, 64, False, 90, 70)
CDNA = [*SUPPORTED, "no causal mask, group of 3"]
GROUPS = {
    "as on CDNA": {name: (check_with_tiles, "cdna", name) for name in CDNA[::2]},
    "as on CDNA too": {name: (check_with_tiles, "cdna", name) for name in CDNA[1::2]},
    "other tiles, types and lists": {
        "A100": (check_with_tiles, "sm80", "two blocks"),
        "Hopper": (check_with_tiles, "sm90", "two blocks"),
        "Hopper, large heads": (check_with_tiles, "sm90", "large heads"),
        "RDNA": (check_with_tiles, "rdna", "two blocks"),
        "RDNA, large heads": (check_with_tiles, "rdna", "large heads"),
        "float16": (check, "two blocks", F16),
        "float16, large heads": (check, "large heads", F16),
        "float32": (check, "two blocks"),
        "malformed lists": (check_malformed_lists,),
        "no slots": (check_no_slots,),
        "scale": (check_scale, 0.3),
    },
    "pages, and negative controls": {
        "of 16": (check_pages, 16, F32),
        "of 64, with a window": (check_pages_with_a_window, 64),
        "of 16, with a window": (check_pages_with_a_window, 16),
        "float16": (check_pages, 64, F16),
        "one query": (check_pages, 16, F32, 1),
        "more rows than a tile": (check_pages, 64, F32, 22),
        "a window one wider": (
            check_a_wrong_mask_is_caught, {"window_size": 40}, {"window_size": 41},
        ),
        "one more sink": (
            check_a_wrong_mask_is_caught,
            {"window_size": 40, "sink_tokens": 3}, {"sink_tokens": 4},
        ),
        "no causal mask": (check_a_wrong_mask_is_caught, {}, {"causal": False}),
        "a scale 1 % off": (check_a_wrong_mask_is_caught, {"scale": 0.3}, {"scale": 0.303}),
        "a write into a margin": (check_a_write_past_the_end_is_caught,),
        "a wrong page": (check_a_wrong_page_is_caught,),
    },
}  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
def test_in_the_interpreter(group, subtests):
    check_group(__file__, group, GROUPS[group], subtests)


@pytest.mark.parametrize("head_dim", [24, 256])
def test_rejects_head_sizes_without_a_layout(head_dim):
    with pytest.raises(ValueError, match="a head size of 16, 32, 64 or 128"):
        shared.pick_tile("forward", torch.empty(1, 2, 3, head_dim, device="meta"), 1)


if __name__ == "__main__":
    print(report(GROUPS[sys.argv[1]]))
