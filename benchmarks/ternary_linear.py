"""Ternary weights against torch's products in wider types, side by side.

``python benchmarks/ternary_linear.py`` (or ``nox -s bench -- ternary_linear``) prints ratios;
``--record`` keeps what is missing as records for the kernel's page; ``--device gpu`` compares with
torch's product in bfloat16 on a GPU. Where torchao can be imported, its layers are measured, too.
There is no ratio, and the run fails, unless the kernel agrees with the definition in float64 first.
Rounds alternate between the rivals; on a CPU a time is CPU seconds of the process with one thread,
on a GPU the time between two events on the device.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import aiexplained_kernels as kernels
from aiexplained.nn import reference_ternary_linear
from aiexplained.records import Study
from benchmarks._rounds import compare, prepare, vector_instructions
from benchmarks._studies import run_studies
from benchmarks.block_list_attention import PLACES, accelerator, interleave

SIZES = ((2048, 2048), (14336, 4096))
"""Outputs and inputs of a layer: small enough for a cache, and the widest of a model of 7B."""
ROWS = (1, 4, 16, 64, 128, 512)
GPU_SIZES = ((8192, 4096), (8192, 8192), (14336, 4096))
GPU_ROWS = (1, 4, 16, 64)
TORCHAO_ROWS = (1, 16, 128)
FOLDER = "ternary-linear"
KERNELS = "kernels/torch-ext/aiexplained_kernels"
SOURCES = {
    "cpu": (
        "_ternary_native.py", "_native.py", "_tensors.py", "ternary_linear.cpp", "ternary_float.h",
        "ternary_backward.h", "ternary_int8.h", "ternary_packed.h", "ternary_tiles.h", "matmul.h",
        "rows.h", "tiles.h",
    ),
    "gpu": ("_ternary_triton.py", "_block_list_triton.py"),
}  # fmt: skip
MOST_HALF = 1 << 31
"""Products of numbers in bfloat16 that are waited for without AVX-512: each takes seconds."""


def make_weight(n_out: int, n_in: int) -> Tensor:
    """Normal numbers."""
    return torch.randn(n_out, n_in, generator=torch.Generator().manual_seed(0))


def make_rows(rows: int, n_in: int) -> Tensor:
    """Normal numbers, on a grid that rounding to 8 bits leaves as they are.

    Else the definition in float64 and a kernel in float32 may round a number differently that lies
    in the middle, and the results differ by more than the kernel errs.
    """
    x = torch.randn(rows, n_in, generator=torch.Generator().manual_seed(1))
    grid = (32 * x).round().clamp(-127, 127)
    grid[:, 0] = 127
    return grid / 32


def check(out: Tensor, x: Tensor, weight: Tensor, activations: str, group_size: int | None) -> None:
    """Compare the first outputs with the definition in float64; raise if they are wrong.

    The budget: the result is rounded once to its type, and float32 sums of n terms err by about
    sqrt(n) of its eps.
    """
    expected = reference_ternary_linear(
        x.double(), weight[:256].double(), activations=activations, group_size=group_size
    )
    error = float((out[:, :256].double().cpu() - expected).norm() / expected.norm())
    budget = torch.finfo(torch.float32).eps * x.shape[1] ** 0.5
    budget += 0.0 if x.dtype is torch.float32 else torch.finfo(x.dtype).eps
    if not error < budget:
        raise SystemExit(f"FAILED: relative error {error:.1e}, allowed {budget:.1e}; no ratio")


def rivals(x: Tensor, weight: Tensor, activations: str) -> dict[str, Callable[[], Any]]:
    """Products of torch with weights of wider types, as fast as torch has them on a CPU."""
    half, as_half = x.bfloat16(), weight.bfloat16()
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    as_int8 = (weight / scale).round().to(torch.int8)
    forms = {
        "float32": lambda: x @ weight.T,
        "int8": lambda: torch.ops.aten._weight_int8pack_mm(x, as_int8, scale[:, 0]),
    }
    if vector_instructions() == "AVX-512" or len(x) * weight.numel() <= MOST_HALF:
        forms["bfloat16"] = lambda: half @ as_half.T
    if activations == "int8":
        by_column = as_int8.T

        def dynamic() -> Tensor:
            factor = 127 / x.abs().amax(dim=1, keepdim=True)
            rounded = (factor * x).round().to(torch.int8)
            return torch._int_mm(rounded, by_column) * scale[:, 0] / factor

        forms["dynamic int8"] = dynamic
    codes = torch.randint(16, weight.shape, dtype=torch.int32)
    int4 = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    scales = torch.rand(weight.shape[1] // 128, weight.shape[0], 2).bfloat16()
    forms["int4"] = lambda: torch.ops.aten._weight_int4pack_mm_for_cpu(half, int4, 128, scales)
    return forms


def measure_product(
    instructions: str, activations: str, rows: int, n_out: int, n_in: int
) -> dict[str, Any]:
    """A product of ``rows`` rows with a ternary weight, and with wider weights."""
    prepare(instructions)
    weight, x = make_weight(n_out, n_in), make_rows(rows, n_in)
    group_size = None if activations == "int8" else 128
    packed, scale = kernels.pack_ternary(weight, group_size)
    options = {"activations": activations, "group_size": group_size}
    forms = {
        "ours": lambda: kernels.ternary_linear(x, packed, scale, **options),
        **rivals(x, weight, activations),
    }
    check(forms["ours"](), x, weight, activations, group_size)
    with torch.no_grad():
        found = compare("cpu", forms, rounds=11 if rows < 64 else 5)
    moved = packed.numel() + 4 * scale.numel()
    return {
        **found, "packed_bytes": moved, "gb_a_s": moved / found["seconds"]["ours"] / 1e9,
        "bandwidth_gb_a_s": bandwidth(),
    }  # fmt: skip


def torchao_rivals(x: Tensor, weight: Tensor) -> dict[str, Callable[[], Any]]:
    """Linear layers of torchao, in bfloat16 as it is faster in it, not compiled."""
    from torchao import quantization as ao
    from torchao.quantization.granularity import PerGroup

    half = x.bfloat16()
    configs = {
        "int8 weights": ao.Int8WeightOnlyConfig(),
        "dynamic int8": ao.Int8DynamicActivationInt8WeightConfig(),
        "2 bits": ao.IntxWeightOnlyConfig(weight_dtype=torch.int2, granularity=PerGroup(128)),
    }

    def layer(config: Any) -> Callable[[], Any]:
        linear = nn.Linear(*weight.T.shape, bias=False, dtype=torch.bfloat16)
        linear.weight = nn.Parameter(weight.bfloat16())
        ao.quantize_(linear, config)
        return lambda: linear(half)

    return {name: layer(config) for name, config in configs.items()}


def measure_torchao(instructions: str, rows: int, n_out: int, n_in: int) -> dict[str, Any]:
    """A product of ``rows`` rows, with activations rounded to int8, beside layers of torchao."""
    prepare(instructions)
    weight, x = make_weight(n_out, n_in), make_rows(rows, n_in)
    packed, scale = kernels.pack_ternary(weight, None)
    grouped = kernels.pack_ternary(weight)
    options = {"activations": "int8", "group_size": None}
    forms = {
        "ours": lambda: kernels.ternary_linear(x, packed, scale, **options),
        "ours native": lambda: kernels.ternary_linear(x, *grouped),
        **torchao_rivals(x, weight),
    }
    check(forms["ours"](), x, weight, **options)
    with torch.no_grad():
        found = compare("cpu", forms, rounds=5)
    return {**found, "torchao": importlib.metadata.version("torchao")}


def measure_gpu(activations: str, rows: int, n_out: int, n_in: int) -> dict[str, Any]:
    """A product of ``rows`` rows in bfloat16 on a GPU, against torch's in bfloat16."""
    weight, x = make_weight(n_out, n_in), make_rows(rows, n_in).bfloat16()
    options: dict[str, Any] = {
        "activations": activations, "group_size": None if activations == "int8" else 128,
    }  # fmt: skip
    place = PLACES["gpu"]
    packed, scale = (t.to(place) for t in kernels.pack_ternary(weight, options["group_size"]))
    there, half = x.to(place), weight.bfloat16().to(place)
    forms = {
        "ours": lambda: kernels.ternary_linear(there, packed, scale, **options, backend="triton"),
        "bfloat16": lambda: there @ half.T,
    }
    check(forms["ours"](), x, weight, **options)
    with torch.no_grad():
        found = compare("gpu", forms, rounds=11)
    moved = packed.numel() + 4 * scale.numel()
    return {
        **found, "packed_bytes": moved, "gb_a_s": moved / found["seconds"]["ours"] / 1e9,
        **accelerator("gpu"),
    }  # fmt: skip


def bandwidth() -> float:
    """Highest rate at which one thread read memory far larger than the caches, in GB/s."""
    x = torch.ones(1 << 26)
    calls = {"sum": x.sum, "amax": x.amax, "as integers": x.view(torch.int64).sum}
    times = interleave("cpu", calls, rounds=3)
    return 4 * x.numel() / min(map(min, times.values())) / 1e9


def has_torchao() -> bool:
    """Whether its layers can be measured; it is no dependency of ours."""
    return importlib.util.find_spec("torchao") is not None


@functools.cache
def studies(device: str) -> tuple[Study, ...]:
    """What is measured on a CPU like this one, or on a GPU."""
    settings: dict[str, list[dict[str, Any]]]
    if device == "gpu":
        settings = {"gpu": [
            {"activations": activations, "rows": rows, "n_out": n_out, "n_in": n_in}
            for activations in ("int8", "native")
            for n_out, n_in in GPU_SIZES
            for rows in GPU_ROWS
        ]}  # fmt: skip
    else:
        on = {"instructions": vector_instructions()}
        settings = {"product": [
            {**on, "activations": activations, "rows": rows, "n_out": n_out, "n_in": n_in}
            for activations in ("int8", "native")
            for n_out, n_in in SIZES
            for rows in ROWS
            if rows <= 128 or n_out == SIZES[0][0]
        ]}  # fmt: skip
        if has_torchao():
            settings["torchao"] = [
                {**on, "rows": rows, "n_out": n_out, "n_in": n_in}
                for n_out, n_in in SIZES
                for rows in TORCHAO_ROWS
            ]
    sources = tuple(f"{KERNELS}/{name}" for name in SOURCES[device])
    module = "benchmarks.ternary_linear"
    return tuple(
        Study(name, f"{module}:measure_{name}", tuple(runs), sources)
        for name, runs in settings.items()
    )


if __name__ == "__main__":
    if not has_torchao():
        print("torchao is not installed: its layers are not measured")
    sys.exit(run_studies(__doc__, studies, FOLDER))
