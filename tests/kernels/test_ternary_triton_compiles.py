"""The Triton kernels of the ternary linear layer compile for GPUs that are not here.

As for block lists (``test_triton_compiles.py``), launches are recorded with inputs of real sizes
that take no memory. No kernel may spill a register, and all that multiply more than one row must
use the matrix unit.
"""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from triton_compile import CHIPS, Built, compile_launch

from aiexplained_kernels import _ternary_triton as kernels

SIZES = 14336, 4096  # outputs and columns
BF16, F32 = torch.bfloat16, torch.float32
KERNELS = {1: "one_row_kernel", 3: "rows_kernel", 128: "rows_kernel"}
MATRIX = {"sm_80": r"\b[HI]MMA", "sm_90": r"\b[HI]G?MMA", "gfx942": "v_mfma", "gfx1201": "v_wmma"}


def launches(
    kind: str, rows: int, sizes: tuple[int, int], dtype: torch.dtype, group_size: int, *, int8: bool
) -> dict[str, tuple]:
    """What a product launches on a kind of GPU, by name."""
    recorded = {}

    def record(kernel, n_programs, device, tile, *arguments, **constants):
        recorded[kernel.__name__.strip("_")] = kernel, tile, arguments, constants

    def empty(*shape, dtype):
        return torch.empty(shape, dtype=dtype, device="meta")

    outputs, columns = sizes
    groups = 1 if int8 else -(-columns // (group_size or columns))
    x, scale = empty(rows, columns, dtype=dtype), empty(outputs, groups, dtype=F32)
    packed = empty(outputs, -(-columns // 128) * 32, dtype=torch.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "kind", lambda device: kind)
        patch.setattr(kernels, "launch", record)
        kernels.forward(x, packed, scale, group_size, int8)
    return recorded


@cache
def build(
    chip: str, name: str, rows: int, dtype: torch.dtype = BF16, group_size: int = 128,
    int8: bool = False, sizes: tuple[int, int] = SIZES,
) -> Built:  # fmt: skip
    launch = launches(CHIPS[chip].kind, rows, sizes, dtype, group_size, int8=int8)[name]
    return compile_launch(CHIPS[chip].target, *launch)


def fits(chip: str, built: Built) -> bool:
    return built.spills == 0 and built.shared_bytes <= CHIPS[chip].shared_bytes


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("rows", KERNELS)
@pytest.mark.parametrize("chip", CHIPS)
def test_a_kernel_fits_its_gpu(chip, rows, int8):
    built = build(chip, KERNELS[rows], rows, int8=int8)
    assert fits(chip, built)
    assert bool(re.search(MATRIX[chip], built.code)) == (rows > 1)


@pytest.mark.parametrize("group_size", [32, 0])
@pytest.mark.parametrize("rows", KERNELS)
@pytest.mark.parametrize("chip", CHIPS)
def test_a_kernel_fits_with_fine_scales_and_with_one_a_row(chip, rows, group_size):
    assert fits(chip, build(chip, KERNELS[rows], rows, group_size=group_size))


@pytest.mark.parametrize("rows", KERNELS)
@pytest.mark.parametrize("chip", CHIPS)
def test_float32_fits_without_matrix_units(chip, rows):
    assert fits(chip, build(chip, KERNELS[rows], rows, F32))


@pytest.mark.parametrize("sizes", [(1, 1), (5, 300)])
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("rows", KERNELS)
def test_odd_sizes_compile(rows, int8, sizes):
    """A size of 1 is a constant to the compiler; rows that begin anywhere may cost registers."""
    for name in (KERNELS[rows], *(["quantize_kernel"] if int8 else [])):
        built = build("sm_90", name, rows, int8=int8, sizes=sizes)
        assert built.shared_bytes <= CHIPS["sm_90"].shared_bytes


@pytest.mark.parametrize("chip", CHIPS)
def test_a_product_is_rounded_before_its_integer_is(chip):
    """A fused multiply-add with the number that rounds would round both at once."""
    built = build(chip, "quantize_kernel", 1, int8=True)
    assert fits(chip, built)
    if CHIPS[chip].target.backend == "cuda":
        assert re.search(r"FADD .*12582912", built.code)
        assert not re.search(r"FFMA .*12582912", built.code)


def test_the_check_would_catch_fine_scales_in_a_wide_tile(monkeypatch):
    monkeypatch.setitem(kernels.CONFIGS, ("fine scales", "sm90"), kernels._cut(128, 128, 8, 3))
    assert build.__wrapped__("sm_90", "rows_kernel", 128, group_size=32).spills > 0
