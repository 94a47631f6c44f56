"""The ternary linear layer in torch and in C++: equal to the definition, forward and backward."""

from __future__ import annotations

import math

import pytest
import torch
from accuracy import budget, relative
from ternary_cases import CASES, excess, make_case, rounded

from aiexplained.nn import reference_ternary_linear, ternarize
from aiexplained_kernels import (
    BackendUnavailable,
    backend_report,
    pack_ternary,
    ternary_linear,
    unpack_ternary,
)

BACKENDS = ["torch", "native"]
BUILDS = [
    None,
    ("MARCH", "x86-64-v3"),
    ("MARCH", "x86-64"),
    ("DEFINES", "EMULATE_VNNI"),
    ("DEFINES", "EMULATE_VNNI EMULATE_TILES"),
]
GROUP_SIZES = [32, 64, 128, 256, None]


@pytest.mark.parametrize("group_size", GROUP_SIZES)
def test_unpacking_returns_what_the_definition_rounds_to(group_size):
    for columns in range(1, 301):
        _, weight = make_case(1, 3, columns, seed=columns)
        ternary, scale = ternarize(weight, group_size)
        packed, found = pack_ternary(weight, group_size)
        assert packed.shape == (3, 32 * math.ceil(columns / 128))
        torch.testing.assert_close(found, scale)
        each = found.repeat_interleave(group_size or columns, dim=1)[:, :columns]
        assert unpack_ternary(packed, found, columns, group_size).equal(each * ternary)


def test_the_bytes_are_laid_out_as_documented():
    _, weight = make_case(1, 3, 300)
    ternary, _ = ternarize(weight)
    packed, _ = pack_ternary(weight)
    for n in range(3):
        for k in range(384):
            run, plane, i = k // 128, k % 128 // 32, k % 32
            stored = int(packed[n, 32 * run + i]) >> 2 * plane & 3
            assert stored == 1 + (int(ternary[n, k]) if k < 300 else 0)


def test_a_group_of_zeros_has_no_scale_and_stays_zero():
    weight = torch.ones(2, 300)
    weight[0, 128:256] = 0
    packed, scale = pack_ternary(weight)
    assert scale.tolist() == [[1, 0, 1], [1, 1, 1]]
    assert unpack_ternary(packed, scale, 300).equal(weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_weight_of_another_type_is_packed_as_its_numbers_are(dtype):
    _, weight = make_case(1, 5, 300)
    weight = weight.to(torch.bfloat16).to(dtype).requires_grad_()
    packed, scale = pack_ternary(weight)
    expected = pack_ternary(weight.float())
    assert packed.equal(expected[0])
    assert scale.dtype is torch.float32
    assert not scale.requires_grad
    torch.testing.assert_close(scale, expected[1])


def test_about_31_percent_of_normal_weights_become_zero():
    _, weight = make_case(1, 256, 1024)
    packed, scale = pack_ternary(weight, None)
    zeros = float((unpack_ternary(packed, scale, 1024, None) == 0).double().mean())
    share = math.erf(0.5 / math.sqrt(math.pi))  # P(|w| < E|w| / 2)
    assert abs(zeros - share) < 4 * math.sqrt(share * (1 - share) / weight.numel())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_equals_the_definition(backend, dtype, name):
    *sizes, group_size = CASES[name]
    x, weight = make_case(*sizes, dtype)
    packed, scale = pack_ternary(weight, group_size)
    out = ternary_linear(x, packed, scale, group_size=group_size, backend=backend)
    unpacked = unpack_ternary(packed, scale, x.shape[1], group_size)
    assert out.dtype is dtype
    assert excess(out, x, unpacked, dtype) < 1
    reference = reference_ternary_linear(x.double(), weight.double(), group_size=group_size)
    torch.testing.assert_close(x.double() @ unpacked.double().mT, reference, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("columns", [1, 31, 32, 127, 128, 129, 1000, 4096])
@pytest.mark.parametrize("backend", BACKENDS)
def test_int8_sums_are_exact(backend, columns):
    for rows in (1, 2, 3, 7, 8, 33, 129):
        for outputs in (1, 5, 64, 100):
            x, weight = make_case(rows, outputs, columns, seed=rows)
            packed, scale = pack_ternary(weight, None)
            found = ternary_linear(x, packed, scale, activations="int8", backend=backend)
            _check_sums(found, x, weight, scale)


def _check_sums(found, x, weight, scale):
    """The sums of integers are below 2^24 here, so a rounding of float32 leaves them apart."""
    integers, factor = rounded(x)
    sums = integers @ ternarize(weight, None)[0].long().mT
    unit = scale[:, 0].double() / factor.double()
    assert (found.double() / unit).round().long().equal(sums)
    torch.testing.assert_close(found.double(), sums * unit, rtol=3 * 2**-24, atol=0)


@pytest.mark.parametrize("build", BUILDS)
def test_extreme_activations_do_not_overflow(set_build, build):
    """Every product as large as it can be, all of one sign: 16 bits hold 16 runs of them."""
    if build:
        set_build(*build)
    for columns in (4096, 2048 + 128, 16 * 1024):
        for rows in (1, 2, 3, 4, 8, 13):
            weight = torch.ones(5, columns)
            weight[1] = -1
            weight[2, ::2] = -1
            weight[3, 1::2] = -1
            x = torch.full((rows, columns), 127.0)
            x[rows // 2] = -127
            x[rows // 3, ::2] *= -1
            packed, scale = pack_ternary(weight, None)
            out = ternary_linear(x, packed, scale, activations="int8", backend="native")
            assert out.equal(x @ weight.mT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("build", BUILDS)
def test_every_build_of_the_native_kernel_keeps_the_budget(set_build, build, dtype):
    if build:
        set_build(*build)
    for *sizes, group_size in CASES.values():
        x, weight = make_case(*sizes, dtype)
        packed, scale = pack_ternary(weight, group_size)
        x.requires_grad_()
        out = ternary_linear(x, packed, scale, group_size=group_size, backend="native")
        unpacked = unpack_ternary(packed, scale, sizes[2], group_size)
        assert excess(out.detach(), x.detach(), unpacked, dtype) < 1
        slope, _ = make_case(sizes[0], 1, sizes[1], dtype, seed=1)
        (grad,) = torch.autograd.grad(out, x, slope)
        assert excess(grad, slope, unpacked.mT, dtype) < 1
        packed, scale = pack_ternary(weight, None)
        found, expected = (
            ternary_linear(x.detach(), packed, scale, activations="int8", backend=backend)
            for backend in ("native", "torch")
        )
        assert found.equal(expected)  # integers, and then the same roundings


@pytest.mark.parametrize("build", BUILDS)
def test_rows_together_are_what_each_is_alone(set_build, build):
    """Sums of integers are exact, so no way to share the work may change a bit."""
    if build:
        set_build(*build)
    for rows, outputs, columns in ((17, 31, 257), (37, 67, 127), (67, 3, 33_001)):
        x, weight = make_case(rows, outputs, columns)
        packed, scale = pack_ternary(weight, None)
        options = {"activations": "int8", "group_size": None, "backend": "native"}
        alone = torch.stack([ternary_linear(row, packed, scale, **options) for row in x])
        for n in (rows, *range(2, rows, 5)):
            assert ternary_linear(x[:n], packed, scale, **options).equal(alone[:n])
        assert not ternary_linear(x.roll(1, 0), packed, scale, **options).equal(alone)


def test_the_checks_would_catch_four_neighbors_to_a_byte():
    x, weight = make_case(7, 5, 128)
    packed, scale = pack_ternary(weight, None)
    neighbors = weight.unflatten(1, (32, 4)).mT.flatten(1)
    other, _ = pack_ternary(neighbors, None)
    unpacked = unpack_ternary(packed, scale, 128, None)
    wrong = ternary_linear(x, other, scale, group_size=None)
    assert excess(wrong, x, unpacked, torch.float32) > 1000
    wrong = ternary_linear(x, other, scale, activations="int8")
    with pytest.raises(AssertionError):
        _check_sums(wrong, x, weight, scale)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rows", [1, 4, 9])
def test_nan_and_infinity_reach_every_output_of_their_row_and_no_other(backend, rows):
    x, weight = make_case(rows + 3, 70, 300)
    x[rows], x[rows + 1, 5], x[rows + 2, 7] = -0.0, torch.nan, -torch.inf
    packed, scale = pack_ternary(weight)
    out = torch.cat([
        ternary_linear(part, packed, scale, backend=backend) for part in x.split([rows, 1, 1, 1])
    ])  # fmt: skip
    whole = ternary_linear(x, packed, scale, backend=backend)
    unpacked = unpack_ternary(packed, scale, 300)
    for found in (out, whole):
        expected = x @ unpacked.mT  # zero times infinity is NaN
        torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-4, atol=1e-4)
        assert not found[rows].any()
        assert found[rows + 1].isnan().all()
        assert found[rows + 2].isnan().any()
        assert found[rows + 2].isinf().any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_that_have_no_largest_magnitude_are_nan_in_int8_and_zeros_are_zero(backend, dtype):
    x, weight = make_case(6, 70, 300, dtype)
    x[0], x[1], x[2, 5], x[3, 7] = 0.0, -0.0, torch.nan, torch.inf
    x[4] = x[4].sign() * torch.finfo(dtype).smallest_normal / 8  # 127 over it is infinite
    packed, scale = pack_ternary(weight, None)
    out = ternary_linear(x, packed, scale, activations="int8", backend=backend)
    assert not out[[0, 1]].any()
    assert out[[2, 3]].isnan().all()
    assert out[[4, 5]].isfinite().all()
    assert not out[4].any()
    assert out[5].equal(ternary_linear(x[5], packed, scale, activations="int8", backend="torch"))


@pytest.mark.parametrize("activations", ["native", "int8"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_batch_of_rows_will_do(backend, activations):
    x, weight = make_case(12, 5, 129)
    packed, scale = pack_ternary(weight, None)

    def run(x):
        options = {"activations": activations, "group_size": None, "backend": backend}
        return ternary_linear(x, packed, scale, **options)

    whole = run(x)
    for shape in ((12,), (2, 6), (3, 1, 4)):
        assert run(x.view(*shape, 129)).equal(whole.view(*shape, 5))
    torch.testing.assert_close(run(x[3]), whole[3])
    for shape in ((0,), (2, 0, 3)):
        empty = torch.zeros(*shape, 129, requires_grad=True)
        out = run(empty)
        assert out.shape == (*shape, 5)
        assert torch.autograd.grad(out.sum(), empty)[0].shape == empty.shape


@pytest.mark.parametrize("activations", ["native", "int8"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_do_not_matter(backend, activations):
    x, weight = make_case(12, 5, 129)
    packed, scale = pack_ternary(weight, None)
    options = {"activations": activations, "group_size": None, "backend": backend}
    expected = ternary_linear(x, packed, scale, **options)
    padded = torch.cat([x, torch.full_like(x, torch.nan)], dim=1)[:, :129]
    for strided in (x.mT.contiguous().mT, padded):
        torch.testing.assert_close(ternary_linear(strided, packed, scale, **options), expected)
    by_column = packed.mT.contiguous().mT, torch.stack([scale, scale], dim=1)[:, 0]
    torch.testing.assert_close(ternary_linear(x, *by_column, **options), expected)
    repeated = ternary_linear(x[:1].expand(12, -1), packed, scale, **options)
    torch.testing.assert_close(repeated, expected[:1].expand(12, -1))


def test_threads_share_the_work_and_agree():
    before = torch.get_num_threads()
    x, weight = make_case(33, 300, 333)
    packed, scale = pack_ternary(weight, None)
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            for some in (x, x[:3]):
                for mode in ("native", "int8"):
                    leaf = some.clone().requires_grad_()
                    options = {"activations": mode, "group_size": None, "backend": "native"}
                    out = ternary_linear(leaf, packed, scale, **options)
                    results += [out, *torch.autograd.grad(out.sum(), leaf)]
    finally:
        torch.set_num_threads(before)
    assert all(a.equal(b) for a, b in zip(results[:8], results[8:], strict=True))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_is_that_of_the_outputs_times_the_weight(backend, dtype, name):
    *sizes, group_size = CASES[name]
    x, weight = make_case(*sizes, dtype)
    packed, scale = pack_ternary(weight, group_size)
    x.requires_grad_()
    out = ternary_linear(x, packed, scale, group_size=group_size, backend=backend)
    slope, _ = make_case(x.shape[0], 1, len(weight), dtype, seed=1)
    (grad,) = torch.autograd.grad(out, x, slope)
    assert grad.dtype is dtype
    assert excess(grad, slope, unpack_ternary(packed, scale, sizes[2], group_size).mT, dtype) < 1


@pytest.mark.parametrize("activations", ["native", "int8"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_passes_the_rounding_as_in_the_definition(backend, activations):
    x, weight = make_case(7, 600, 300, torch.float64)
    packed, scale = pack_ternary(weight, None)
    slope, _ = make_case(7, 1, 600, torch.float64, seed=1)
    options = {"activations": activations, "group_size": None}
    x.requires_grad_()
    out = ternary_linear(x, packed, scale, **options, backend=backend)
    (grad,) = torch.autograd.grad(out, x, slope)
    out = reference_ternary_linear(x, weight.double(), **options)
    (expected,) = torch.autograd.grad(out, x, slope)
    assert relative(grad, expected) < budget(torch.float32, 1)  # the packed scale is a float32


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("int8", [False, True])
def test_torch_accepts_the_registration(backend, int8):
    x, weight = make_case(7, 5, 129)
    packed, scale = pack_ternary(weight, None)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    operator = torch.ops.aiexplained.ternary_linear.default
    arguments = packed, scale, 0, int8, backend
    torch.library.opcheck(operator, (x.clone().requires_grad_(), *arguments), test_utils=checks)
    plain = torch.ops.aiexplained.ternary_linear_forward.default
    torch.library.opcheck(plain, (x, *arguments), test_utils=checks[::2])
    backward = torch.ops.aiexplained.ternary_linear_backward.default
    inputs = (torch.ones(7, 5), packed, scale, 129, 0, backend)
    torch.library.opcheck(backward, inputs, test_utils=checks[::2])


@pytest.mark.parametrize("activations", ["native", "int8"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_it_compiles_in_one_piece_with_its_backward(backend, activations):
    x, weight = make_case(7, 5, 129)
    packed, scale = pack_ternary(weight, None)

    def doubled(x):
        options = {"activations": activations, "group_size": None, "backend": backend}
        return 2 * ternary_linear(x, packed, scale, **options)

    compiled = torch.compile(doubled, fullgraph=True, backend="aot_eager")
    results = []
    for run in (compiled, doubled):
        leaf = x.clone().requires_grad_()
        out = run(leaf)
        results.append((out, *torch.autograd.grad(out.square().sum(), leaf)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("activations", ["native", "int8"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_does_not_lower_the_precision(backend, activations):
    x, weight = make_case(7, 5, 129)
    packed, scale = pack_ternary(weight, None)
    results = []
    for enabled in (False, True):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = ternary_linear(leaf, packed, scale, activations=activations, group_size=None,
                                 backend=backend)  # fmt: skip
        results.append((out, *torch.autograd.grad(out.sum(), leaf)))
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("activations", ["native", "int8"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_result_asks_for_a_gradient_if_x_does_and_gradients_are_on(backend, activations):
    x, weight = make_case(7, 5, 129)
    packed, scale = pack_ternary(weight, None)
    options = {"activations": activations, "group_size": None, "backend": backend}
    plain = ternary_linear(x, packed, scale, **options)
    asked = ternary_linear(x.requires_grad_(), packed, scale, **options)
    with torch.no_grad():
        off = ternary_linear(x, packed, scale, **options)
    assert [out.requires_grad for out in (plain, asked, off)] == [False, True, False]
    assert plain.equal(asked)
    assert plain.equal(off)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_derivative_is_refused(backend):
    x, weight = make_case(7, 5, 129)
    packed, scale = pack_ternary(weight)
    out = ternary_linear(x.requires_grad_(), packed, scale, backend=backend)
    (grad,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        grad.sum().backward()


def test_what_cannot_run_is_named():
    x, weight = make_case(7, 5, 129)
    packed, scale = pack_ternary(weight)
    with pytest.raises(BackendUnavailable, match=r"on a GPU.*got a tensor on cpu"):
        ternary_linear(x, packed, scale, backend="triton")
    with pytest.raises(BackendUnavailable, match=r"got torch\.float64"):
        ternary_linear(x.double(), packed, scale, backend="triton")
    with pytest.raises(ValueError, match="backend must be one of"):
        ternary_linear(x, packed, scale, backend="fpga")
    report = backend_report()["ternary_linear"]
    assert list(report) == ["torch", "native", "triton"]
    assert report["torch"] == report["native"] == "ready"


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({0: lambda x: x.long()}, {}, r"x must be floating, .* got torch.int64 \(7, 300\)"),
        ({0: lambda x: x[:, :0]}, {}, "K at least 1"),
        ({0: lambda x: x[:, :256]}, {}, r"packed must be \(N, 64\) for 256 columns.*\(5, 96\)"),
        ({0: lambda x: x.repeat(1, 2)}, {}, r"packed must be \(N, 160\) for 600 columns"),
        ({1: lambda x: x.to(torch.int8)}, {}, "packed must be torch.uint8.*got torch.int8"),
        ({1: lambda x: x[0]}, {}, r"packed must be \(N, 96\).*got \(96,\)"),
        ({1: lambda x: x.to("meta")}, {}, "packed must be on cpu, as x is, got meta"),
        ({2: lambda x: x.double()}, {}, "scale torch.float32, got .*torch.float64"),
        ({2: lambda x: x[1:]}, {}, r"scale must be \(5, 3\) for groups of 128, got \(4, 3\)"),
        ({2: lambda x: x.requires_grad_()}, {}, "scale gets no gradient here"),
        ({}, {"group_size": 64}, r"scale must be \(5, 5\) for groups of 64, got \(5, 3\)"),
        ({}, {"group_size": 48}, "group_size must be a multiple of 32, or None, got 48"),
        ({}, {"group_size": 0}, "group_size must be a multiple of 32"),
        ({}, {"group_size": None}, r"scale must be \(5, 1\) for one group a row, got \(5, 3\)"),
        ({}, {"activations": "int8"}, r"scale must be \(5, 1\) for one group a row"),
        ({}, {"activations": "int4"}, "activations must be 'native' or 'int8', got 'int4'"),
    ],
)
def test_bad_input_is_named(change, options, message):
    x, weight = make_case(7, 5, 300)
    inputs = [change.get(i, lambda x: x)(x) for i, x in enumerate((x, *pack_ternary(weight)))]
    with pytest.raises(ValueError, match=message):
        ternary_linear(*inputs, **options)


def test_what_cannot_be_packed_or_unpacked_is_named():
    weight = torch.ones(5, 300)
    for wrong in (weight[0], weight[:, :0], weight.int()):
        with pytest.raises(ValueError, match="floating matrix"):
            pack_ternary(wrong)
    with pytest.raises(ValueError, match="multiple of 32"):
        pack_ternary(weight, 100)
    weight[1, 2] = torch.nan
    with pytest.raises(ValueError, match="weight must be finite"):
        pack_ternary(weight)
    packed, scale = pack_ternary(torch.ones(5, 300))
    with pytest.raises(ValueError, match="n_columns must be at least 1, got 0"):
        unpack_ternary(packed, scale, 0)
    with pytest.raises(ValueError, match=r"packed must be \(N, 128\) for 385 columns"):
        unpack_ternary(packed, scale, 385)
