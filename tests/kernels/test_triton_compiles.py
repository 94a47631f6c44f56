"""The Triton kernels compile for GPUs that are not here, as they are launched on them.

The launches are recorded with inputs of real sizes that take no memory, and each kernel is then
compiled to machine code for its target: it must use the matrix unit and, on NVIDIA, asynchronous
copies, fit the shared memory of a program, and spill no register to memory (under a cap on the
registers: none in the main loop).
"""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from triton_compile import CHIPS, Built, compile_launch

from aiexplained_kernels import _block_list_triton as shared
from aiexplained_kernels import _block_list_triton_backward as in_reverse
from aiexplained_kernels import _block_list_triton_paged as in_pages
from aiexplained_kernels import block_list_attention_triton as kernels

MODULES = shared, kernels, in_reverse, in_pages


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


@cache
def build(chip: str, name: str, head_dim: int) -> Built:
    kernel, tile, arguments, constants = launches(CHIPS[chip].kind, head_dim)[name]
    return compile_launch(CHIPS[chip].target, kernel, tile, arguments, constants)


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
