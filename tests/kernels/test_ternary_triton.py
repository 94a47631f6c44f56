"""The Triton kernels of the ternary linear layer in Triton's interpreter: equal to the definition.

Each group of cases runs in a process of its own (this file, run as a script), on guarded memory;
what the kernels read lies between NaN.
"""

from __future__ import annotations

import sys
from itertools import cycle, product
from unittest.mock import patch

import pytest
import torch
import triton
import triton.language as tl
from ternary_cases import excess, make_case
from triton_interpreter import (
    MARGIN,
    bfloat16_as_on_a_gpu,
    check_group,
    guarded_buffers,
    inside_nan,
    report,
)

from aiexplained_kernels import (
    BackendUnavailable,
    pack_ternary,
    ternary_linear,
    unpack_ternary,
)
from aiexplained_kernels import _ternary_torch as in_torch
from aiexplained_kernels import _ternary_triton as kernels

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
ROWS, OUTPUTS, COLUMNS = (1, 3, 17, 70), (5, 64, 100), (1, 31, 129, 300, 1000)
GROUP_SIZES = (32, 128, 256, None)


def between_nan(x):
    """``x`` as a contiguous part of a larger tensor of NaN."""
    whole = x.new_full((x.numel() + 2 * MARGIN,), float("nan"))
    view = whole[MARGIN:-MARGIN].view(x.shape)
    view.copy_(x)
    return view


def interpreted(x, packed, scale, group_size=None, *, int8=False):
    """The product by the kernels, on guarded memory."""
    x, scale = inside_nan(x[None, None])[0, 0], between_nan(scale)
    with guarded_buffers(), bfloat16_as_on_a_gpu():
        return kernels.forward(x, packed, scale, group_size or 0, int8)


def measure(rows, outputs, columns, group_size, dtype):
    x, weight = make_case(rows, outputs, columns, dtype)
    packed, scale = pack_ternary(weight, group_size)
    found = interpreted(x, packed, scale, group_size)
    assert found.dtype is dtype
    return excess(found, x, unpack_ternary(packed, scale, columns, group_size), dtype)


def check(*case):
    found = measure(*case)
    assert found < 1, (case, found)


def check_rows(rows):
    """All widths and groups; outputs and types take turns, nine pairs of them."""
    cases = product(COLUMNS, GROUP_SIZES)
    turns = cycle(product(OUTPUTS, (F32, BF16, F16)))
    for (columns, group_size), (outputs, dtype) in zip(cases, turns, strict=False):
        check(rows, outputs, columns, group_size, dtype)


def check_int8(rows, outputs, columns, dtype):
    """Integers, and then the same roundings as in torch."""
    x, weight = make_case(rows, outputs, columns, dtype, seed=rows)
    packed, scale = pack_ternary(weight, None)
    expected = in_torch.forward(x, packed, scale, 0, int8=True)
    assert interpreted(x, packed, scale, int8=True).equal(expected), (outputs, columns, dtype)


def check_rows_in_int8(rows):
    turns = cycle((F32, BF16, F16))
    for (columns, outputs), dtype in zip(product(COLUMNS, (5, 100)), turns, strict=False):
        check_int8(rows, outputs, columns, dtype)


def check_with_tiles(kind):
    """Cut as on this kind of GPU; the interpreter has no data sheet."""
    with patch.object(kernels, "kind", lambda device: kind):
        for rows, group_size in product((1, 3, 70), (32, 128)):
            check(rows, 100, 300, group_size, BF16)


def check_one_by_one():
    with patch.object(kernels, "ONE_BY_ONE_ROWS", 3):
        check(3, 100, 300, 128, BF16)
        check_int8(3, 100, 300, BF16)


def check_more_blocks_than_neighbors():
    with patch.dict(kernels.CONFIGS, {("many rows", "float32"): kernels._cut(16, 16, 4)}):
        check(150, 40, 129, 128, F32)


def ties():
    """Rows of numbers half way between integers, tiny, zero, not finite, and a usual one."""
    x, _ = make_case(7, 1, 300, seed=1)
    x[0, :256] = torch.arange(256) / 2 - 64
    x[0, 256:] = 127
    x[1] = x[1].sign() * torch.finfo(F32).smallest_normal / 8
    x[2], x[3], x[4, 5], x[5, 7] = 0.0, -0.0, torch.nan, -torch.inf
    return x


def check_integers():
    x = ties()
    with guarded_buffers():
        integers, factors = kernels._quantize(inside_nan(x[None, None])[0, 0], 384)
    expected, factor = in_torch._quantize(x)
    assert integers[:, :300].equal(expected.to(torch.int8))
    assert not integers[:, 300:].any()
    torch.testing.assert_close(factors[:, None], factor, rtol=0, atol=0, equal_nan=True)


def check_rows_without_a_largest_magnitude():
    _, weight = make_case(1, 70, 300)
    packed, scale = pack_ternary(weight, None)
    x = ties()
    whole = interpreted(x, packed, scale, int8=True)
    alone = torch.cat([interpreted(row, packed, scale, int8=True) for row in x.split(1)])
    for out in (whole, alone):
        assert not out[1:4].any()
        assert out[4:6].isnan().all()
        expected = in_torch.forward(x, packed, scale, 0, int8=True)
        torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)


def check_nan_and_infinity():
    x, weight = make_case(4, 70, 300)
    x[0], x[1, 5], x[2, 7] = -0.0, torch.nan, -torch.inf
    packed, scale = pack_ternary(weight)
    expected = x @ unpack_ternary(packed, scale, 300).mT  # zero times infinity is NaN
    whole = interpreted(x, packed, scale, 128)
    alone = torch.cat([interpreted(row, packed, scale, 128) for row in x.split(1)])
    for out in (whole, alone):
        torch.testing.assert_close(out, expected, equal_nan=True, rtol=1e-4, atol=1e-4)
        assert out[2].isinf().any()


def check_shapes_and_strides(activations):
    x, weight = make_case(12, 5, 129)
    packed, scale = pack_ternary(weight, None)
    options = {"activations": activations, "group_size": None}
    expected = ternary_linear(x, packed, scale, **options, backend="torch")
    by_column = packed.mT.contiguous().mT, torch.stack([scale, scale], dim=1)[:, 0]
    for given in (x, x.mT.contiguous().mT, x.view(2, 6, 129), x[:1].expand(12, -1), x[3], x[:0]):
        found = ternary_linear(given, *by_column, **options, backend="triton")
        rows = expected[:1].expand(12, -1) if given.stride(0) == 0 else expected
        rows = expected[3] if given.ndim == 1 else rows[: given.numel() // 129]
        torch.testing.assert_close(found, rows.reshape(found.shape))


def check_the_gradient(activations):
    x, weight = make_case(7, 5, 300, F32)
    packed, scale = pack_ternary(weight, None)
    slope, _ = make_case(7, 1, 5, F32, seed=1)
    options = {"activations": activations, "group_size": None, "backend": "triton"}
    out = ternary_linear(x.requires_grad_(), packed, scale, **options)
    (grad,) = torch.autograd.grad(out, x, slope)
    assert excess(grad, slope, unpack_ternary(packed, scale, 300, None).mT, F32) < 1


def check_torch_accepts_the_registration():
    x, weight = make_case(3, 5, 129)
    packed, scale = pack_ternary(weight, None)
    checks = "test_schema", "test_autograd_registration", "test_faketensor"
    operator = torch.ops.aiexplained.ternary_linear.default
    arguments = x.requires_grad_(), packed, scale, 0, False, "triton"
    torch.library.opcheck(operator, arguments, test_utils=checks)


def check_limits_are_named():
    x, weight = make_case(3, 5, 129)
    with pytest.raises(BackendUnavailable, match=r"got torch\.float64"):
        ternary_linear(x.double(), *pack_ternary(weight), backend="triton")


@triton.jit
def scale_of_the_next_group(scale, column, group_size, n_groups):
    return tl.load(scale + tl.minimum(column // group_size + 1, n_groups - 1))


def check_another_scale_is_caught():
    with patch.object(kernels, "_load_scale", scale_of_the_next_group):
        for rows, group_size in product((1, 3, 70), (32, 128)):
            assert measure(rows, 5, 300, group_size, F32) > 1000


def check_integers_cut_off_are_caught():
    with (
        patch.object(kernels, "ROUNDS", tl.constexpr(0.0)),
        pytest.raises(AssertionError),
    ):
        check_integers()


GROUPS = {
    "rows": {f"{rows} rows": (check_rows, rows) for rows in ROWS},
    "the rest": {
        **{f"{rows} rows, int8": (check_rows_in_int8, rows) for rows in ROWS},
        **{kind: (check_with_tiles, kind) for kind in ("sm80", "cdna", "rdna")},
        "the last of few rows": (check, 16, 64, 300, 96, BF16),
        "one more": (check, 17, 64, 300, 96, BF16),
        "three rows one by one": (check_one_by_one,),
        "many blocks": (check_more_blocks_than_neighbors,),
        "integers": (check_integers,),
        "no largest magnitude": (check_rows_without_a_largest_magnitude,),
        "NaN and infinity": (check_nan_and_infinity,),
        "shapes and strides": (check_shapes_and_strides, "native"),
        "shapes and strides, int8": (check_shapes_and_strides, "int8"),
        "gradient": (check_the_gradient, "native"),
        "gradient, int8": (check_the_gradient, "int8"),
        "registration": (check_torch_accepts_the_registration,),
        "limits": (check_limits_are_named,),
        "another scale": (check_another_scale_is_caught,),
        "cut off": (check_integers_cut_off_are_caught,),
    },
}  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
def test_in_the_interpreter(group, subtests):
    check_group(__file__, group, GROUPS[group], subtests)


if __name__ == "__main__":
    print(report(GROUPS[sys.argv[1]]))
