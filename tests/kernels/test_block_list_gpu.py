"""The Triton kernels of block-list attention on a real GPU: equal to the definition."""

from __future__ import annotations

import pytest
import torch
from accuracy import budget, relative
from block_list_cases import CASES, make_case, make_pages, run

from aiexplained.nn import reference_block_list_attention
from aiexplained_kernels import backend_report, block_list_attention, paged_attention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible to torch")
TYPES = [torch.float32, torch.bfloat16, torch.float16]


def on_gpu(tensors):
    return [x.cuda() for x in tensors]


def on_cpu(tensors):
    return [x.cpu() for x in tensors]


ALL_CASES = [(torch.bfloat16, name) for name in CASES if CASES[name][6] in (16, 32, 64, 128)]
ALL_CASES += [(torch.float16, "ragged"), (torch.float32, "ragged"), (torch.float32, "decode")]


@pytest.mark.parametrize(("dtype", "name"), ALL_CASES)
def test_forward_and_every_gradient_equal_the_definition(dtype, name):
    inputs, lists, options = make_case(name, dtype)
    expected = run(reference_block_list_attention, [x.double() for x in inputs], lists, options)
    options["backend"] = "triton"
    found = run(block_list_attention, on_gpu(inputs), on_gpu(lists), options)
    errors = [relative(a, b) for a, b in zip(on_cpu(found), expected, strict=True)]
    assert max(errors) < budget(dtype), errors


def test_the_check_would_catch_a_window_off_by_one():
    inputs, lists, options = make_case("decode", torch.float32)
    expected = run(reference_block_list_attention, [x.double() for x in inputs], lists, options)
    options |= {"window_size": options["window_size"] + 1, "backend": "triton"}
    found = run(block_list_attention, on_gpu(inputs), on_gpu(lists), options)
    assert relative(found[0].cpu(), expected[0]) > 100 * budget(torch.float32)


def test_two_runs_give_the_same_bits():
    inputs, lists, options = make_case("more queries than keys", torch.bfloat16)
    options["backend"] = "triton"
    runs = [run(block_list_attention, on_gpu(inputs), on_gpu(lists), options) for _ in range(2)]
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_entries_out_of_range_are_skipped():
    inputs, _, _ = make_case("one block", torch.float32)
    good = torch.tensor([[[1]]]), torch.tensor([[[[0]]]])
    bad = torch.tensor([[[3]]]), torch.tensor([[[[10**6, 0, -5]]]])
    out = [
        block_list_attention(*on_gpu(inputs), *on_gpu(lists), backend="triton")[0]
        for lists in (good, bad)
    ]
    torch.testing.assert_close(out[0], out[1], rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {"window_size": 40, "sink_tokens": 3, "scale": 0.3}])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("page_size", [16, 64])
def test_paged_decode_equals_that_of_torch(page_size, dtype, options):
    arguments = make_pages(page_size, dtype, head_dim=32)
    exact = [x.double() if x.is_floating_point() else x for x in arguments]
    expected = paged_attention(*exact, backend="torch", **options)
    found = paged_attention(*on_gpu(arguments), backend="triton", **options)
    for a, b in zip(on_cpu(found), expected, strict=True):
        assert relative(a, b) < budget(dtype)


def test_the_registration_satisfies_torch_and_auto_takes_triton():
    inputs, lists, _ = make_case("ragged", torch.float32)
    inputs = [x.requires_grad_() for x in on_gpu(inputs)]
    arguments = (*inputs, *on_gpu(lists), True, 0, 0, 0.125)
    operator = torch.ops.aiexplained.block_list_attention.default
    found = torch.library.opcheck(operator, (*arguments, "triton"))
    assert set(found.values()) == {"SUCCESS"}
    for a, b in zip(operator(*arguments, "auto"), operator(*arguments, "triton"), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert backend_report()["block_list_attention"]["triton"] == "ready"


def test_a_compiled_model_is_one_graph_with_equal_results():
    inputs, lists, options = make_case("ragged", torch.float32)

    def model(query, key, value, counts, indices):
        out, logsumexp = block_list_attention(query * 2, key, value, counts, indices, **options)
        return out.tanh(), logsumexp

    compiled = torch.compile(model, fullgraph=True)
    data = on_gpu(inputs), on_gpu(lists), {}
    for a, b in zip(run(compiled, *data), run(model, *data), strict=True):
        torch.testing.assert_close(a, b)
