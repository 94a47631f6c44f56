"""The Triton kernels of the gated delta rule compile for GPUs that are not here.

As for block lists (``test_triton_compiles.py``), launches are recorded with inputs of real sizes
that take no memory. No kernel may spill a register; all but the one that takes token by token must
use the matrix unit, and the one that walks the chunks must load ahead.
"""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from triton_compile import CHIPS, Built, compile_launch

from aiexplained_kernels import _gated_delta_triton as kernels
from aiexplained_kernels._gated_delta_torch import Inputs

IN_CHUNKS = ["invert_kernel", "prepare_kernel", "states_kernel", "outputs_kernel"]
NAMES = [*IN_CHUNKS, "recurrent_kernel"]


def launches(kind: str, head_dim: int, dtype: torch.dtype, *, corrects: bool) -> dict[str, tuple]:
    """What a long sequence and a decode step launch on a kind of GPU, by name."""
    recorded = {}

    def record(kernel, n_programs, device, tile, *arguments, **constants):
        recorded[kernel.__name__.strip("_")] = kernel, tile, arguments, constants

    def empty(*shape, dtype=torch.float32):
        return torch.empty(shape, dtype=dtype, device="meta")

    state = empty(1, 16, head_dim, head_dim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "kind", lambda device: kind)
        patch.setattr(kernels, "launch", record)
        for tokens in (131072, 1):
            x, gate = empty(1, 16, tokens, head_dim, dtype=dtype), empty(1, 16, tokens)
            beta = gate if corrects else None
            kernels.forward(Inputs(x, x, x, gate, beta, state), head_dim**-0.5)
    return recorded


@cache
def build(
    chip: str, name: str, head_dim: int, dtype: torch.dtype = torch.bfloat16, corrects: bool = True
) -> Built:
    launch = launches(CHIPS[chip].kind, head_dim, dtype, corrects=corrects)[name]
    return compile_launch(CHIPS[chip].target, *launch)


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chip", CHIPS)
def test_a_kernel_fits_its_gpu(chip, name, head_dim):
    built = build(chip, name, head_dim)
    assert built.spills == 0
    assert built.shared_bytes <= CHIPS[chip].shared_bytes
    assert (CHIPS[chip].matrix in built.code) == (name in IN_CHUNKS)
    if name == "states_kernel" and CHIPS[chip].copy:
        assert re.search(CHIPS[chip].copy, built.code)


@pytest.mark.parametrize("name", IN_CHUNKS)
@pytest.mark.parametrize("chip", CHIPS)
def test_float32_fits_without_matrix_units(chip, name):
    built = build(chip, name, 128, torch.float32)
    assert built.spills == 0
    assert built.shared_bytes <= CHIPS[chip].shared_bytes


@pytest.mark.parametrize("name", [name for name in NAMES if name != "invert_kernel"])
@pytest.mark.parametrize("chip", CHIPS)
def test_a_kernel_fits_without_beta(chip, name):
    built = build(chip, name, 128, corrects=False)
    assert built.spills == 0
    assert built.shared_bytes <= CHIPS[chip].shared_bytes


def test_without_beta_nothing_is_inverted():
    assert "invert_kernel" not in launches("sm90", 64, torch.bfloat16, corrects=False)


def test_the_check_would_catch_long_chunks_without_matrix_units(monkeypatch):
    monkeypatch.setitem(kernels.CHUNK, torch.float32, 64)
    assert build.__wrapped__("gfx1201", "invert_kernel", 64, torch.float32).spills > 0


def test_the_check_would_catch_loads_that_wait(monkeypatch):
    tile = kernels.Tile(heads=1, columns=32, warps=4, stages=1)
    monkeypatch.setitem(kernels.CONFIGS, ("states", "sm80"), (tile, tile))
    built = build.__wrapped__("sm_80", "states_kernel", 64)
    assert not re.search(CHIPS["sm_80"].copy, built.code)
