"""Block-list attention in torch and in C++: equal to the definition, forward and backward."""

from __future__ import annotations

import sys

import pytest
import torch
from accuracy import budget, relative
from block_list_cases import CASES, make_case, make_pages, run
from torch.nn.functional import scaled_dot_product_attention

from aiexplained.nn import reference_block_list_attention
from aiexplained_kernels import (
    BackendUnavailable,
    block_list_attention,
    paged_attention,
)
from aiexplained_kernels._block_list_native import uses_tiles
from aiexplained_kernels._native import load

BACKENDS = ["torch", "native"]


@pytest.fixture(params=["as built", "x86-64-v3", "x86-64", "tiles"])
def build(request, set_build):
    """The C++ kernel for this machine, for older ones, and with the matrix unit emulated."""
    if request.param == "tiles":
        set_build("DEFINES", "EMULATE_TILES")
        assert uses_tiles(load("block_list_attention"))
    elif request.param != "as built":
        set_build("MARCH", request.param)
    return request.param


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_and_every_gradient_equal_the_definition(backend, dtype, name):
    inputs, lists, options = make_case(name, dtype)
    exact = [x.double() for x in inputs]
    expected = run(reference_block_list_attention, exact, lists, options)
    found = run(block_list_attention, inputs, lists, options | {"backend": backend})
    errors = [relative(a, b) for a, b in zip(found, expected, strict=True)]
    assert max(errors) < budget(dtype), errors


@pytest.mark.parametrize("name", ["ragged", "group of 8, a list each", "no causal mask", "decode"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_build_of_the_native_kernel_keeps_the_budget(build, dtype, name):
    inputs, lists, options = make_case(name, dtype)
    expected = run(reference_block_list_attention, [x.double() for x in inputs], lists, options)
    found = run(block_list_attention, inputs, lists, options | {"backend": "native"})
    errors = [relative(a, b) for a, b in zip(found, expected, strict=True)]
    assert max(errors) < budget(dtype), errors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_low_precision_is_as_exact_as_that_of_torch(backend, dtype):
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, 4, 256, 64, generator=generator).to(dtype) for _ in range(3)]
    lists = torch.full((1, 4, 4), 4), torch.arange(4).expand(1, 4, 4, 4)
    exact, _ = reference_block_list_attention(*(x.double() for x in inputs), *lists)
    theirs = relative(scaled_dot_product_attention(*inputs, is_causal=True), exact)
    ours = relative(block_list_attention(*inputs, *lists, backend=backend)[0], exact)
    assert ours < 1.05 * theirs  # equal but for the order of sums: 1 % seen


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_check_would_catch_a_window_off_by_one(backend):
    inputs, lists, options = make_case("decode", torch.float32)
    expected = run(reference_block_list_attention, [x.double() for x in inputs], lists, options)
    options |= {"window_size": options["window_size"] + 1, "backend": backend}
    found = run(block_list_attention, inputs, lists, options)
    assert relative(found[0], expected[0]) > 100 * budget(torch.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_listed_blocks_are_read(backend):
    inputs, _, _ = make_case("ragged", torch.float32)
    counts = torch.tensor([[[2, 1, 1]]]).expand(2, 1, 3)
    indices = torch.tensor([[[[0, 1], [1, 3], [1, 10**6]]]]).expand(2, 1, 3, 2)
    before = run(block_list_attention, inputs, (counts, indices), {"backend": backend})
    for tensor in inputs[1:]:
        tensor[:, :, 128:] = torch.nan  # blocks 2 and 3
    after = run(block_list_attention, inputs, (counts, indices), {"backend": backend})
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_listed_nan_is_not_lost(backend):
    inputs, _, _ = make_case("one block", torch.float32)
    inputs[2][0, 0, 10, 5] = torch.nan
    lists = torch.ones(1, 1, 1, dtype=torch.int32), torch.zeros(1, 1, 1, 1, dtype=torch.int32)
    out, _ = block_list_attention(*inputs, *lists, backend=backend)
    assert out[:, :, 10:, 5].isnan().all()
    assert out[..., :5].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_order_of_a_list_is_free_and_groups_may_share_one(backend):
    inputs, (counts, indices), options = make_case("no causal mask")
    options["backend"] = backend
    once = run(block_list_attention, inputs, (counts, indices), options)
    reverse = torch.arange(indices.shape[-1] - 1, -1, -1) - (indices.shape[-1] - counts)[..., None]
    turned = indices.gather(3, reverse.clamp(min=0))
    each = [x.repeat_interleave(3, dim=1) for x in (counts, turned)]
    for a, b in zip(once, run(block_list_attention, inputs, each, options), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_do_not_matter(backend):
    inputs, lists, options = make_case("ragged", torch.float32)
    options["backend"] = backend
    expected = run(block_list_attention, inputs, lists, options)
    layouts = [
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),  # (B, T, H, D) in memory
        lambda x: x.mT.contiguous().mT,  # rows not contiguous
        lambda x: torch.cat([x, x.new_full(x.shape, torch.nan)], dim=-1)[..., : x.shape[-1]],
    ]
    strided = [layout(x) for layout, x in zip(layouts, inputs, strict=True)]
    assert not any(x.is_contiguous() for x in strided)
    out, logsumexp = block_list_attention(*strided, *lists, **options)
    torch.testing.assert_close(out, expected[0])
    torch.testing.assert_close(logsumexp, expected[1])
    strided = [x.detach().requires_grad_() for x in strided]
    out, _ = block_list_attention(*strided, *lists, **options)
    grad = torch.ones(1).expand(out.shape)  # as sum() gives: stride 0
    for a, x in zip(torch.autograd.grad(out, strided, grad), inputs, strict=True):
        assert a.shape == x.shape
        assert a.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_parts_of_a_list_merge_by_their_logsumexp(backend):
    inputs, _, _ = make_case("no causal mask")
    counts = torch.full((1, 2, 2), 4)
    indices = torch.tensor([0, 1, 2, 3]).expand(1, 2, 2, 4)
    whole, total = block_list_attention(*inputs, counts, indices, backend=backend)
    parts = [
        block_list_attention(*inputs, counts // 2, indices[..., part], backend=backend)
        for part in (slice(0, 2), slice(2, 4))
    ]
    merged = torch.logaddexp(parts[0][1], parts[1][1])
    torch.testing.assert_close(merged, total)
    shares = [out * (one - merged).exp()[..., None] for out, one in parts]
    torch.testing.assert_close(sum(shares), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_low_precision_number_passes_through_unchanged(build, dtype):
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).view(1, 1024, 1, 64)
    key = torch.zeros_like(numbers)
    lists = torch.ones(1, 1024, 1, dtype=torch.int32), torch.zeros(1, 1024, 1, 1, dtype=torch.int32)
    out, _ = block_list_attention(key, key, numbers, *lists, backend="native")
    if build == "as built" and dtype is torch.bfloat16 and uses_tiles(load("block_list_attention")):
        # The matrix unit takes numbers too small for a normal exponent as zero.
        numbers = numbers.masked_fill(numbers.abs() < torch.finfo(dtype).tiny, 0.0)
    torch.testing.assert_close(out, numbers, rtol=0, atol=0, equal_nan=True)


def test_two_threads_compute_what_one_does():
    inputs, lists, options = make_case("more queries than keys", torch.float32)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(run(block_list_attention, inputs, lists, options))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_malformed_lists_are_rejected_before_anything_is_read(backend):
    inputs, _, _ = make_case("one block", torch.float32)
    for indices, said in (
        ([[[[1, 0]]]], "names key block 1, but 64 keys"),
        ([[[[-1, 0]]]], "names key block -1"),
        ([[[[0, 0]]]], "block 0 more than once"),
    ):
        lists = torch.tensor([[[2]]]), torch.tensor(indices)
        with pytest.raises(ValueError, match=said):
            block_list_attention(*inputs, *lists, backend=backend)
    lists = torch.tensor([[[3]]]), torch.tensor([[[[0, 0]]]])
    with pytest.raises(ValueError, match="a count of 3, of 0 to 2"):
        block_list_attention(*inputs, *lists, backend=backend)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query": torch.zeros(1, 3, 64, 8)}, "key heads must divide query heads, got 2 and 3"),
        ({"query": torch.zeros(1, 2, 64, 9)}, "share batch and width"),
        ({"value": torch.zeros(1, 2, 63, 8)}, "key and value alike"),
        ({"query": torch.zeros(1, 2, 64, 8).double()}, "one floating type"),
        ({"counts": torch.zeros(1, 3, 1).int()}, r"one list a key head \(2\)"),
        ({"counts": torch.zeros(1, 2, 2).int()}, "64 queries need 1 lists"),
        ({"query": torch.zeros(1, 2, 0, 8)}, r"no size may be 0, got shapes \(1, 2, 0, 8\)"),
        ({"indices": torch.zeros(1, 2, 1, 1).bool()}, "lists must be integers, got .*bool"),
        ({"window_size": 0}, "window_size must be positive"),
        ({"sink_tokens": -1}, "sink_tokens not negative"),
        ({"scale": 0.0}, "scale must be positive, got 0.0"),
        ({"backend": "fast"}, "one of auto, torch, native, triton, got 'fast'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, said):
    arguments = {
        **{name: torch.zeros(1, 2, 64, 8) for name in ("query", "key", "value")},
        "counts": torch.ones(1, 2, 1).int(),
        "indices": torch.zeros(1, 2, 1, 1).int(),
    } | change
    if arguments["counts"].shape[1] == 3:
        arguments["indices"] = torch.zeros(1, 3, 1, 1).int()
    with pytest.raises(ValueError, match=said):
        block_list_attention(**arguments)


def test_a_named_backend_never_falls_back():
    inputs, lists, _ = make_case("one block", torch.float32)
    with pytest.raises(BackendUnavailable, match=r"'triton'.*runs on a GPU"):
        block_list_attention(*inputs, *lists, backend="triton")


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_match_finite_differences(backend):
    inputs, lists, options = make_case("sinks beyond a block")
    inputs = [x[:, :, -70:, :5].clone().requires_grad_() for x in inputs]
    lists = torch.tensor([[[1, 2]]]), torch.tensor([[[[1, 0], [0, 1]]]])
    inputs[0] = inputs[0].detach()[:, :1].requires_grad_()
    inputs[1], inputs[2] = (x.detach()[:, :1].requires_grad_() for x in inputs[1:])
    options |= {"window_size": 20, "sink_tokens": 3, "backend": backend}
    assert torch.autograd.gradcheck(
        lambda *x: block_list_attention(*x, *lists, **options), inputs, fast_mode=True
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_registration_satisfies_torch(backend):
    inputs, (counts, indices), _ = make_case("ragged", torch.float32)
    inputs = [x.requires_grad_() for x in inputs]
    operator = torch.ops.aiexplained.block_list_attention.default
    arguments = (*inputs, counts, indices, True, 0, 0, 0.125, backend)
    found = torch.library.opcheck(operator, arguments)
    assert set(found.values()) == {"SUCCESS"}
    pages = torch.randn(2, 3, 1, 16, 64).unbind()
    lists = torch.tensor([[2, 0]]).int(), torch.tensor([20]).int()
    operator = torch.ops.aiexplained.paged_attention.default
    found = torch.library.opcheck(
        operator, (inputs[0][:1, :, :1].detach(), *pages, *lists, 0, 0, 0.125, backend)
    )
    assert set(found.values()) == {"SUCCESS"}


def test_a_compiled_model_is_one_graph_with_equal_results():
    inputs, lists, options = make_case("ragged", torch.float32)

    def model(query, key, value, counts, indices):
        out, logsumexp = block_list_attention(query * 2, key, value, counts, indices, **options)
        return out.tanh(), logsumexp

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for a, b in zip(run(compiled, inputs, lists, {}), run(model, inputs, lists, {}), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("options", [{}, {"window_size": 40, "sink_tokens": 3, "scale": 0.3}])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("page_size", [16, 64])
@pytest.mark.parametrize("backend", BACKENDS)
def test_paged_decode_equals_the_definition_on_gathered_keys(backend, page_size, dtype, options):
    query, key_pages, value_pages, table, lengths = make_pages(page_size, dtype)
    found = paged_attention(
        query, key_pages, value_pages, table, lengths, backend=backend, **options
    )
    for request, length in enumerate(lengths.tolist()):
        key, value = (
            pages[table[request]].transpose(0, 1).flatten(1, 2)[None, :, :length].double()
            for pages in (key_pages, value_pages)
        )
        n = -(-length // 64)
        lists = torch.full((1, 2, 1), n), torch.arange(n).expand(1, 2, 1, n)
        one = query[request : request + 1].double()
        expected = reference_block_list_attention(one, key, value, *lists, **options)
        for a, b in zip(found, expected, strict=True):
            assert relative(a[request : request + 1], b) < budget(dtype)


@pytest.mark.parametrize("backend", BACKENDS)
def test_paged_decode_reads_only_the_pages_of_its_requests(backend):
    query, key_pages, value_pages, table, lengths = make_pages(16)
    before, _ = paged_attention(query, key_pages, value_pages, table, lengths, backend=backend)
    used = {int(table[r, i]) for r in range(3) for i in range(-(-int(lengths[r]) // 16))}
    for page in set(range(45)) - used:
        key_pages[page] = value_pages[page] = torch.nan
    after, _ = paged_attention(query, key_pages, value_pages, table, lengths, backend=backend)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_malformed_page_table_is_rejected(backend):
    query, *pages, table, lengths = make_pages(16)
    with pytest.raises(ValueError, match=r"request 2 has length 1000.*room for 208 tokens"):
        paged_attention(query, *pages, table, torch.tensor([3, 9, 1000]), backend=backend)
    table[1, 2] = 45
    with pytest.raises(ValueError, match="request 1 names page 45, but the pool has pages 0 to 44"):
        paged_attention(query, *pages, table, lengths, backend=backend)
    with pytest.raises(ValueError, match="16 or 64 tokens, got 32"):
        paged_attention(query, *(torch.zeros(2, 1, 32, 24),) * 2, table, lengths, backend=backend)


def test_paged_decode_says_that_it_has_no_backward():
    query, *pages, table, lengths = make_pages(16)
    out, _ = paged_attention(query.requires_grad_(), *pages, table, lengths)
    with pytest.raises(RuntimeError, match="paged_attention has no backward"):
        out.sum().backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_no_list_names_may_hold_anything(backend):
    inputs, _, _ = make_case("ragged", torch.float32)
    counts = torch.tensor([[[0, 1, 2]]]).expand(2, 1, 3)
    indices = torch.tensor([1, 2]).expand(2, 1, 3, 2)
    for tensor in inputs[1:]:
        tensor[:, :, :64] = torch.nan  # block 0, to which unused entries could point
    found = run(block_list_attention, inputs, (counts, indices), {"backend": backend})
    assert found[0].isfinite().all()
    assert all(grad.isfinite().all() for grad in found[2:])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_unwritten_end_of_a_page_is_not_read(backend):
    query, key_pages, value_pages, table, lengths = make_pages(16)
    for pages in (key_pages, value_pages):
        for request, length in enumerate(lengths.tolist()):
            pages[table[request, length // 16], :, length % 16 :] = torch.nan
    out, _ = paged_attention(query, key_pages, value_pages, table, lengths, backend=backend)
    assert out.isfinite().all()


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, -1])
def test_no_kind_of_nan_turns_into_a_number(build, bits):
    for dtype in (torch.float32, torch.bfloat16):
        query, key, value = torch.randn(3, 1, 1, 64, 64).to(dtype).unbind()
        nan = torch.tensor([bits], dtype=torch.int32).view(torch.float32)
        if dtype is torch.float32:
            key[0, 0, 5, 3] = nan[0]
        else:
            key.view(torch.int16)[0, 0, 5, 3] = nan.view(torch.int16)[1]
        lists = torch.ones(1, 1, 1).int(), torch.zeros(1, 1, 1, 1).int()
        out, logsumexp = block_list_attention(query, key, value, *lists, backend="native")
        assert out[:, :, 5:].isnan().all()
        assert logsumexp[:, :, 5:].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_leaves_float32_alone(backend):
    inputs, lists, options = make_case("ragged", torch.float32)
    options["backend"] = backend
    expected = run(block_list_attention, inputs, lists, options)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(block_list_attention, inputs, lists, options)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_derivative_is_refused(backend):
    inputs, lists, options = make_case("three tokens")
    inputs = [x.requires_grad_() for x in inputs]
    out, _ = block_list_attention(*inputs, *lists, **options, backend=backend)
    grads = torch.autograd.grad(out.square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        torch.autograd.grad(grads[0].square().sum(), inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_merging_with_an_empty_part_has_finite_gradients(backend):
    inputs = [x.requires_grad_() for x in make_case("more queries than keys")[0]]
    lists = torch.ones(1, 6, 5).int(), torch.zeros(1, 6, 5, 1).int()
    out, logsumexp = block_list_attention(*inputs, *lists, backend=backend)
    assert logsumexp.eq(-torch.inf).any()
    merged = torch.logaddexp(logsumexp, torch.full_like(logsumexp, -torch.inf))
    total = out.sum() + merged[merged.isfinite()].sum()
    assert all(x.isfinite().all() for x in torch.autograd.grad(total, inputs))


@pytest.mark.parametrize("backend", BACKENDS)
def test_options_beyond_any_length_are_no_limit(backend):
    inputs, lists, _ = make_case("ragged", torch.float32)
    plain = block_list_attention(*inputs, *lists, backend=backend)
    far = block_list_attention(*inputs, *lists, window_size=sys.maxsize, backend=backend)
    for a, b in zip(far, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    every = block_list_attention(*inputs, *lists, sink_tokens=sys.maxsize, backend=backend)
    exact = [x.double() for x in inputs]
    dense, _ = reference_block_list_attention(*exact, *lists, sink_tokens=10**6)
    assert relative(every[0], dense) < budget(torch.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_integers_do_not_wrap_into_a_list(backend):
    inputs, _, _ = make_case("one block", torch.float32)
    lists = torch.ones(1, 1, 1).long(), torch.full((1, 1, 1, 1), 2**32)
    with pytest.raises(ValueError, match="names key block 2147483647, but 64 keys"):
        block_list_attention(*inputs, *lists, backend=backend)


def test_threads_that_share_a_key_head_sum_apart():
    inputs, lists, options = make_case("group of 8, a list each", torch.float32)
    expected = run(reference_block_list_attention, [x.double() for x in inputs], lists, options)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = run(block_list_attention, inputs, lists, options | {"backend": "native"})
    finally:
        torch.set_num_threads(before)
    errors = [relative(a, b) for a, b in zip(found, expected, strict=True)]
    assert max(errors) < budget(torch.float32), errors


@pytest.mark.parametrize("name", ["key", "counts"])
def test_tensors_on_another_device_are_named(name):
    inputs, (counts, indices), _ = make_case("one block", torch.float32)
    arguments = dict(zip(("query", "key", "value"), inputs, strict=True))
    arguments |= {"counts": counts, "indices": indices}
    arguments[name] = arguments[name].to("meta")
    with pytest.raises(ValueError, match=f"{name} must be on cpu, as the query is, got meta"):
        block_list_attention(**arguments)
