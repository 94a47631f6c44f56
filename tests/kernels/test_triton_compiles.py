"""The Triton kernels compile for GPUs that are not here, as they are launched on them.

The launches are recorded with inputs of real sizes that take no memory, and each kernel is then
compiled to machine code for its target: it must use the matrix unit and, on NVIDIA, asynchronous
copies, fit the shared memory of a program, and spill no register to memory (under a cap on the
registers: none in the main loop).
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from aiexplained_kernels import _block_list_triton as shared
from aiexplained_kernels import _block_list_triton_backward as in_reverse
from aiexplained_kernels import _block_list_triton_paged as in_pages
from aiexplained_kernels import block_list_attention_triton as kernels

MODULES = shared, kernels, in_reverse, in_pages


class Chip(NamedTuple):
    """What a program may use. Shared memory: CUDA C++ Programming Guide, table of technical
    specifications per compute capability; the LDS of the CDNA 3 and RDNA 4 ISA guides."""

    target: GPUTarget
    kind: str
    shared_bytes: int
    matrix: str
    copy: str | None


CHIPS = {
    "sm_80": Chip(GPUTarget("cuda", 80, 32), "sm80", 163 << 10, "HMMA", "LDGSTS"),
    "sm_90": Chip(GPUTarget("cuda", 90, 32), "sm90", 227 << 10, "HGMMA", "LDGSTS|UTMALDG"),
    "gfx942": Chip(GPUTarget("hip", "gfx942", 64), "cdna", 64 << 10, "v_mfma", None),
    "gfx1201": Chip(GPUTarget("hip", "gfx1201", 32), "rdna", 64 << 10, "v_wmma", None),
}
TYPES = {torch.bfloat16: "bf16", torch.float32: "fp32", torch.int32: "i32"}


def argument(value) -> tuple[str, bool]:
    """How the launcher types an argument, and whether it knows it to be a multiple of 16."""
    if isinstance(value, torch.Tensor):
        return f"*{TYPES[value.dtype]}", True
    if isinstance(value, kernels.TensorDescriptor):
        return f"tensordesc<{TYPES[value.base.dtype]}{value.block_shape}>", False
    if isinstance(value, float):
        return "fp32", False
    return ("constexpr", False) if value == 1 else ("i32", value % 16 == 0)


def source(kernel, arguments, constants) -> ASTSource:
    """A launch as the compiler sees it."""
    signature, attributes, values = {}, {}, {}
    for i, (name, value) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
        is_tuple = isinstance(value, tuple)
        types = []
        for j, part in enumerate(value if is_tuple else (value,)):
            path = (i, j) if is_tuple else (i,)
            type_, is_multiple = argument(part)
            types.append(type_)
            if type_ == "constexpr":
                values[path] = part
            if is_multiple:
                attributes[path] = [["tt.divisibility", 16]]
        signature[name] = tuple(types) if is_tuple else types[0]
    for name, value in constants.items():
        signature[name] = "constexpr"
        values[kernel.arg_names.index(name),] = value
    return ASTSource(fn=kernel, signature=signature, constexprs=values, attrs=attributes)


def launches(kind: str, head_dim: int) -> dict[str, tuple]:
    """What forward, backward and paged decode launch on a kind of GPU, by name."""
    recorded = {}

    def record(kernel, n_programs, device, tile, *arguments, **constants):
        name = kernel.__name__.strip("_") + (" of sinks" if constants.get("sinks_only") else "")
        recorded[name] = kernel, tile, arguments, constants

    def empty(*shape, dtype=torch.bfloat16):
        return torch.empty(shape, dtype=dtype, device="meta")

    query, key, counts = empty(1, 32, 131072, head_dim), empty(1, 8, 131072, head_dim), (1, 8, 2048)
    lists = empty(*counts, dtype=torch.int32), empty(*counts, 17, dtype=torch.int32)
    logsumexp = empty(1, 32, 131072, dtype=torch.float32)
    pages, table = empty(4096, 8, 64, head_dim), empty(8, 512, dtype=torch.int32)
    options = 0, 4, head_dim**-0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "kind", lambda device: kind)
        for module in MODULES:
            patch.setattr(module, "launch", record)
        kernels.forward(query, key, key, *lists, True, *options)
        kernels.backward(
            query, logsumexp, query, key, key, query, logsumexp, *lists, True, *options
        )
        kernels.paged(
            empty(8, 32, 1, head_dim), pages, pages, table, empty(8, dtype=torch.int32), *options
        )
    return recorded


class Built(NamedTuple):
    """Machine code of a kernel, and instructions that spill: in all, and in its main loop."""

    code: str
    shared_bytes: int
    spills: int
    spills_in_loop: int
    registers_are_capped: bool


def main_loop(sass: str) -> str:
    """The shortest loop with matrix instructions: that over blocks without a mask."""
    labels = {found[1]: found.end() for found in re.finditer(r"^(\w+):$", sass, re.MULTILINE)}
    jumps = [(labels[found[1]], found.start()) for found in re.finditer(r"\bBRA (\w+);", sass)]
    loops = [sass[begin:end] for begin, end in jumps if begin < end]
    return min((loop for loop in loops if "MMA" in loop), key=len, default="")


@cache
def build(chip: str, name: str, head_dim: int) -> Built:
    kernel, tile, arguments, constants = launches(CHIPS[chip].kind, head_dim)[name]
    target = CHIPS[chip].target
    compiled = triton.compile(
        source(kernel, arguments, constants), target=target, options=shared.launch_options(tile)
    )
    if target.backend == "cuda":
        code = compiled.asm["sass"]
        spills, in_loop = (
            len(re.findall(r"\b(?:STL|LDL)\b", part)) for part in (code, main_loop(code))
        )
    else:
        code = compiled.asm["amdgcn"]
        counts = re.findall(r"\.(?:vgpr_spill_count|private_segment_fixed_size): +(\d+)", code)
        spills = in_loop = max(map(int, counts))
    return Built(code, compiled.metadata.shared, spills, in_loop, tile.registers is not None)


NAMES = ["forward_kernel", "grad_query_kernel", "grad_key_kernel", "split_kernel"]
CASES = [(chip, name, head_dim) for chip in CHIPS for name in NAMES for head_dim in (64, 128)]
CASES += [(chip, "grad_key_kernel of sinks", 128) for chip in ("sm_90", "gfx1201")]


@pytest.mark.parametrize(("chip", "name", "head_dim"), CASES)
def test_a_kernel_fits_its_gpu(chip, name, head_dim):
    built = build(chip, name, head_dim)
    # Under a cap, a few numbers for before and after the loop may wait in memory.
    assert built.spills_in_loop == 0
    assert built.spills == 0 or built.registers_are_capped
    assert built.shared_bytes <= CHIPS[chip].shared_bytes
    # A decode step has 16 rows; the warp group instruction of Hopper needs 64.
    matrix = "HMMA" if (chip, name) == ("sm_90", "split_kernel") else CHIPS[chip].matrix
    assert matrix in built.code
    if CHIPS[chip].copy:
        assert re.search(CHIPS[chip].copy, built.code)


@pytest.mark.parametrize("name", ["sort_kernel", "merge_kernel"])
def test_a_small_kernel_compiles_without_spills(name):
    assert all(build(chip, name, 64).spills == 0 for chip in CHIPS)


def test_the_check_would_catch_a_tile_too_large_for_the_registers(monkeypatch):
    tile = shared.Tile(heads=2, warps=4, stages=2)
    monkeypatch.setitem(shared.CONFIGS, ("forward", "sm90"), (tile, tile))
    assert build.__wrapped__("sm_90", "forward_kernel", 128).spills_in_loop > 0


def test_the_check_would_catch_loads_that_wait(monkeypatch):
    tile = shared.Tile(heads=1, warps=4, stages=1)
    monkeypatch.setitem(shared.CONFIGS, ("forward", "sm80"), (tile, tile))
    built = build.__wrapped__("sm_80", "forward_kernel", 64)
    assert not re.search(CHIPS["sm_80"].copy, built.code)
