"""The Triton kernels of the ternary linear layer on a real GPU: equal to the definition."""

from __future__ import annotations

import pytest
import torch
from ternary_cases import CASES, excess, make_case

from aiexplained_kernels import backend_report, pack_ternary, ternary_linear, unpack_ternary

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible to torch")
TYPES = [torch.float32, torch.bfloat16, torch.float16]


def on_gpu(*tensors):
    return [x.cuda() for x in tensors]


def on_triton(x, packed, scale, **options):
    return ternary_linear(*on_gpu(x, packed, scale), backend="triton", **options).cpu()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", TYPES)
def test_forward_and_gradient_equal_the_definition(dtype, name):
    rows, outputs, columns, group_size = CASES[name]
    x, weight = make_case(rows, outputs, columns, dtype)
    packed, scale = pack_ternary(weight, group_size)
    unpacked = unpack_ternary(packed, scale, columns, group_size)
    leaf, *weights = on_gpu(x, packed, scale)
    leaf.requires_grad_()
    out = ternary_linear(leaf, *weights, group_size=group_size, backend="triton")
    assert out.dtype is dtype
    assert excess(out.detach().cpu(), x, unpacked, dtype) < 1
    slope, _ = make_case(rows, 1, outputs, dtype, seed=1)
    (grad,) = torch.autograd.grad(out, leaf, slope.cuda())
    assert excess(grad.cpu(), slope, unpacked.mT, dtype) < 1


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", TYPES)
def test_int8_gives_the_bits_of_torch(dtype, name):
    x, weight = make_case(*CASES[name][:3], dtype)
    packed, scale = pack_ternary(weight, None)
    found = on_triton(x, packed, scale, activations="int8")
    expected = ternary_linear(x, packed, scale, activations="int8", backend="torch")
    assert found.equal(expected)


def test_numbers_half_way_between_integers_go_to_the_even_one():
    x = torch.arange(255) / 2
    x[0] = 127
    packed, scale = pack_ternary(torch.ones(3, len(x)) * torch.tensor([[1.0], [-1.0], [2.0]]), None)
    found = on_triton(x, packed, scale, activations="int8")
    assert found.equal(x.round().sum() * torch.tensor([1.0, -1.0, 2.0]))


def test_the_check_would_catch_the_scale_of_another_group():
    x, weight = make_case(70, 5, 300)
    packed, scale = pack_ternary(weight)
    found = on_triton(x, packed, scale.roll(1, dims=1))
    assert excess(found, x, unpack_ternary(packed, scale, 300), torch.float32) > 1000


@pytest.mark.parametrize("activations", ["native", "int8"])
def test_rows_with_nan_infinity_or_nothing(activations):
    x, weight = make_case(20, 70, 300)
    x[0], x[1, 5], x[2, 7] = -0.0, torch.nan, -torch.inf
    x[3] = x[3].sign() * torch.finfo(torch.float32).smallest_normal / 8
    packed, scale = pack_ternary(weight, None)
    options = {"activations": activations, "group_size": None}
    expected = ternary_linear(x, packed, scale, backend="torch", **options)
    alone = torch.cat([on_triton(row, packed, scale, **options) for row in x.split(1)])
    for found in (on_triton(x, packed, scale, **options), alone):
        torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-4, atol=1e-4)
        assert not found[0].any()
        assert found[1].isnan().all()


@pytest.mark.parametrize("activations", ["native", "int8"])
@pytest.mark.parametrize("rows", [1, 3, 300])
def test_two_runs_give_the_same_bits(rows, activations):
    x, weight = make_case(rows, 300, 1000, torch.bfloat16)
    arguments = x, *pack_ternary(weight, None)
    options = {"activations": activations, "group_size": None}
    assert on_triton(*arguments, **options).equal(on_triton(*arguments, **options))


@pytest.mark.parametrize("activations", ["native", "int8"])
def test_shapes_and_strides_do_not_matter(activations):
    x, weight = make_case(12, 5, 129)
    packed, scale = pack_ternary(weight, None)
    options = {"activations": activations, "group_size": None, "backend": "triton"}
    x, packed, scale = on_gpu(x, packed, scale)
    expected = ternary_linear(x, packed, scale, **options)
    padded = torch.cat([x, torch.full_like(x, torch.nan)], dim=1)[:, :129]
    for given in (x.mT.contiguous().mT, padded, x.view(3, 4, 129)):
        found = ternary_linear(given, packed, scale, **options)
        assert found.view(12, 5).equal(expected)
    by_column = packed.mT.contiguous().mT, torch.stack([scale, scale], dim=1)[:, 0]
    assert ternary_linear(x, *by_column, **options).equal(expected)
    assert ternary_linear(x[:0], packed, scale, **options).shape == (0, 5)


@pytest.mark.parametrize("activations", ["native", "int8"])
def test_offsets_beyond_32_bits_in_rows(activations):
    """More than 2^31 numbers in x and in the result: the last rows are as alone (about 15 GB)."""
    _need_gigabytes(20)
    rows, outputs, columns = (1 << 20) + 67, 2053, 2049
    x = torch.randn(rows, columns, dtype=torch.bfloat16, device="cuda")
    assert x.numel() > 1 << 31
    packed, scale = pack_ternary(torch.randn(outputs, columns, device="cuda"), None)
    options = {"activations": activations, "group_size": None, "backend": "triton"}
    found = ternary_linear(x, packed, scale, **options)
    assert found.numel() > 1 << 31
    assert found[-67:].equal(ternary_linear(x[-67:].clone(), packed, scale, **options))


@pytest.mark.parametrize("rows", [1, 3, 70])
def test_offsets_beyond_32_bits_in_the_weight(rows):
    """More than 2^31 bytes: the last outputs are as alone."""
    _need_gigabytes(20)
    x, weight = make_case(rows, 101, 1 << 17, torch.bfloat16)
    x, packed, scale = on_gpu(x, *pack_ternary(weight))
    many = packed.repeat(650, 1), scale.repeat(650, 1)
    assert many[0].numel() > 1 << 31
    found = ternary_linear(x, *many, backend="triton")
    assert found[:, -101:].equal(ternary_linear(x, packed, scale, backend="triton"))


def _need_gigabytes(size):
    if torch.cuda.get_device_properties(0).total_memory < size * 1e9:
        pytest.skip(f"needs {size} GB of GPU memory")


def test_the_registration_satisfies_torch_and_auto_takes_triton():
    x, weight = make_case(7, 5, 129)
    x, packed, scale = on_gpu(x, *pack_ternary(weight, None))
    operator = torch.ops.aiexplained.ternary_linear.default
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    for int8 in (False, True):
        arguments = x.clone().requires_grad_(), packed, scale, 0, int8
        found = torch.library.opcheck(operator, (*arguments, "triton"), test_utils=checks)
        assert set(found.values()) == {"SUCCESS"}
        assert operator(*arguments, "auto").equal(operator(*arguments, "triton"))
    assert backend_report()["ternary_linear"]["triton"] == "ready"


def test_a_compiled_model_is_one_graph_with_equal_results():
    x, weight = make_case(7, 5, 129)
    x, packed, scale = on_gpu(x, *pack_ternary(weight))

    def model(x):
        return ternary_linear(2 * x, packed, scale).tanh()

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    results = []
    for run in (compiled, model):
        leaf = x.clone().requires_grad_()
        out = run(leaf)
        results.append((out, *torch.autograd.grad(out.sum(), leaf)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
