"""Triton kernels compiled for GPUs that are not here, as they are launched on them."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.tools.tensor_descriptor import TensorDescriptor

from aiexplained_kernels._block_list_triton import launch_options


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
TYPES = {
    torch.bfloat16: "bf16", torch.float32: "fp32", torch.int32: "i32", torch.int8: "i8",
    torch.uint8: "u8",
}  # fmt: skip


def argument(value) -> tuple[str, bool]:
    """How the launcher types an argument, and whether it knows it to be a multiple of 16."""
    if isinstance(value, torch.Tensor):
        return f"*{TYPES[value.dtype]}", True
    if isinstance(value, TensorDescriptor):
        return f"tensordesc<{TYPES[value.base.dtype]}{value.block_shape}>", False
    if isinstance(value, float):
        return "fp32", False
    return ("constexpr", False) if value in (None, 1) else ("i32", value % 16 == 0)


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


def compile_launch(target: GPUTarget, kernel, tile, arguments, constants) -> Built:
    """Compile a recorded launch for a target."""
    compiled = triton.compile(
        source(kernel, arguments, constants), target=target, options=launch_options(tile)
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
