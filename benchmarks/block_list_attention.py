"""Block-list attention against dense attention and FlexAttention: the same lists, side by side.

``python benchmarks/block_list_attention.py`` (or ``nox -s bench -- block_list_attention``) prints
ratios beside their bars; ``--record`` keeps what is missing as records for the kernel's page;
``--device gpu`` runs the studies of the GPU. There is no ratio, and the run fails, unless the
kernel agrees with the definition first. Rounds alternate between the rivals. On a CPU a time is
CPU seconds of the process with one thread, so that other load weighs on all alike; on a GPU it is
the time between two events on the device.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import aiexplained_kernels as kernels
from aiexplained.nn import reference_block_list_attention
from aiexplained.records import Study
from aiexplained_kernels import _block_list_native, _native
from benchmarks._studies import run_studies

BLOCK = kernels.BLOCK_SIZE
PICKED = 16
"""Blocks that a query block picks at random besides its own; a group of heads shares a list."""
PLACES = {"cpu": "cpu", "gpu": "cuda"}
HEADS = {"cpu": (8, 2), "gpu": (32, 8)}
DENSE_ROWS = 1024
"""Where dense attention would take minutes, so many rows of it are timed and scaled by pairs."""
FLEX_OPTIONS = {"BLOCK_M": BLOCK, "BLOCK_N": BLOCK, "num_warps": 4, "num_stages": 3}
"""Of FlexAttention on a GPU, which does not choose tiles for blocks of 64 by itself."""
FOLDER = "block-list-attention"
KERNELS = Path("kernels/torch-ext/aiexplained_kernels")
SOURCES = {
    "cpu": (
        "_block_list_native.py",
        "_native.py",
        "_tensors.py",
        "block_list_*.cpp",
        "block_list_*.h",
        "matmul.h",
        "rows.h",
        "tiles.h",
    ),
    "gpu": ("*block_list*triton*.py",),
}
"""Files that a result rests on besides this one."""


def make_lists(device: str, tokens: int, n_kv_heads: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Lists of each query block's own block and up to 16 earlier ones, at random, sorted."""
    generator = torch.Generator().manual_seed(seed)
    n = tokens // BLOCK
    indices = torch.zeros(1, n_kv_heads, n, PICKED + 1, dtype=torch.int32)
    for head in range(n_kv_heads):
        for block in range(n):
            picked = torch.randperm(block, generator=generator)[:PICKED].sort().values
            indices[0, head, block, : len(picked)] = picked.int()
            indices[0, head, block, len(picked)] = block
    counts = torch.arange(1, n + 1, dtype=torch.int32).clamp(max=PICKED + 1)
    counts = counts.expand(1, n_kv_heads, n).contiguous()
    return counts.to(PLACES[device]), indices.to(PLACES[device])


def generator_on(device: str, seed: int) -> torch.Generator:
    """A seeded generator there."""
    return torch.Generator(PLACES[device]).manual_seed(seed)


def make_inputs(
    device: str, dtype: torch.dtype, tokens: int, head_dim: int, seed: int = 1
) -> list[Tensor]:
    """Query, key and value of normal numbers."""
    source = generator_on(device, seed)
    heads, kv_heads = HEADS[device]
    shapes = [(1, h, tokens, head_dim) for h in (heads, kv_heads, kv_heads)]
    return [
        torch.randn(shape, generator=source, device=source.device).to(dtype) for shape in shapes
    ]


def check(inputs: list[Tensor], lists: tuple[Tensor, Tensor], out: Tensor) -> None:
    """Compare the first group's last query block with the definition in float64; raise if wrong.

    The budget: weights and result are each rounded once to the inputs' type, by half an eps, and
    float32 sums of n terms err by about sqrt(n) of its eps.
    """
    group = inputs[0].shape[1] // inputs[1].shape[1]
    query, out = (x[:, :group, -BLOCK:].cpu().double() for x in (inputs[0], out))
    key, value = (x[:, :1].cpu().double() for x in inputs[1:])
    counts, indices = (x[:, :1, -1:].cpu() for x in lists)
    expected, _ = reference_block_list_attention(query, key, value, counts, indices)
    error = float((out - expected).norm() / expected.norm())
    terms = BLOCK * int(counts.max()) + query.shape[-1]
    budget = torch.finfo(inputs[0].dtype).eps + torch.finfo(torch.float32).eps * terms**0.5
    if not error < budget:
        raise SystemExit(f"FAILED: relative error {error:.1e}, allowed {budget:.1e}; no ratio")


def seconds(device: str, call: Callable[[], Any], repeats: int = 1) -> float:
    """Time of one call, the mean of ``repeats`` in a row."""
    if device == "gpu":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats
    begin = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - begin) / repeats


def interleave(
    device: str, calls: dict[str, Callable[[], Any]], rounds: int
) -> dict[str, list[float]]:
    """Times of each call over alternating rounds, after two to warm up.

    A time is the mean over as many calls in a row as take 30 ms, 50 at most.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    repeats = dict.fromkeys(calls, 1)
    for i in range(rounds + 2):
        for name, call in calls.items():
            taken = seconds(device, call, repeats[name])
            if i == 1:
                repeats[name] = min(max(round(0.03 / taken), 1), 50)
            elif i > 1:
                times[name].append(taken)
    return times


def flex_rival(inputs: list[Tensor], lists: tuple[Tensor, Tensor]) -> Callable[[], Any]:
    """Compiled FlexAttention over the same lists, told which blocks need no mask."""
    query, key, value = inputs
    heads, tokens = query.shape[1:3]
    n, group = tokens // BLOCK, heads // key.shape[1]
    counts, indices = (x.repeat_interleave(group, dim=1) for x in lists)
    full, own = (
        torch.zeros(1, heads, n, n, dtype=torch.int32, device=query.device) for _ in range(2)
    )
    full[..., :PICKED] = indices[..., :PICKED]
    own[..., 0] = torch.arange(n, device=query.device)
    mask = BlockMask.from_kv_blocks(
        torch.ones_like(counts), own, counts - 1, full,
        BLOCK_SIZE=BLOCK, seq_lengths=(tokens, tokens),
        mask_mod=lambda batch, head, i, j: i >= j,
    )  # fmt: skip
    torch.compiler.reset()
    run = torch.compile(flex_attention, dynamic=False)
    options = FLEX_OPTIONS if query.is_cuda else None
    return lambda: run(query, key, value, block_mask=mask, enable_gqa=True, kernel_options=options)


def dense_rival(inputs: list[Tensor], rows: int) -> Callable[[], Any]:
    """Fused attention of torch: causal over all tokens, or the last ``rows`` over all keys."""
    query, key, value = inputs
    last = query[:, :, -rows:]
    return lambda: scaled_dot_product_attention(
        last, key, value, is_causal=rows == query.shape[2], enable_gqa=True
    )


def gemm_tflops(device: str, dtype: torch.dtype) -> float:
    """Measured rate of a large square product in the type in which the kernel multiplies.

    That is the inputs' type, but float32 on a CPU without a matrix unit for it.
    """
    if device == "cpu" and not (dtype is torch.bfloat16 and instructions_of(device) == "AMX"):
        dtype = torch.float32
    size = 8192 if device == "gpu" else 2048
    a, b = (torch.randn(size, size, device=PLACES[device]).to(dtype) for _ in range(2))
    times = interleave(device, {"product": lambda: a @ b}, rounds=5)["product"]
    return 2 * size**3 / min(times) / 1e12


def instructions_of(device: str) -> str:
    """What the kernel's products run on."""
    if device == "gpu":
        return "Triton"
    if _block_list_native.uses_tiles(_native.load("block_list_attention")):
        return "AMX"
    capability = torch.backends.cpu.get_cpu_capability()
    return {"AVX512": "AVX-512"}.get(capability, capability)


def prepare(device: str, instructions: str) -> None:
    """One thread; raise unless this machine runs the kernel on ``instructions``."""
    torch.set_num_threads(1)
    if instructions != instructions_of(device):
        raise ValueError(f"this machine runs on {instructions_of(device)}, not on {instructions}")


def measure_forward(
    device: str, instructions: str, dtype: str, head_dim: int, tokens: int
) -> dict[str, Any]:
    """Forward (and ours backward) against dense attention and FlexAttention."""
    prepare(device, instructions)
    kind = getattr(torch, dtype)
    inputs = make_inputs(device, kind, tokens, head_dim)
    heads, kv_heads = HEADS[device]
    lists = make_lists(device, tokens, kv_heads)
    rows = tokens if device == "gpu" or tokens <= 8192 else DENSE_ROWS
    dense_pairs = tokens * (tokens + 1) / 2
    timed_pairs = dense_pairs if rows == tokens else rows * tokens
    listed_pairs = float(lists[0].sum()) / kv_heads * BLOCK * BLOCK
    calls = {
        "ours": lambda: kernels.block_list_attention(*inputs, *lists),
        "flex": flex_rival(inputs, lists),
        "dense": dense_rival(inputs, rows),
    }
    check(inputs, lists, calls["ours"]()[0])
    check(inputs, lists, calls["flex"]())
    rounds = 5 if tokens <= 32768 else 3
    times = interleave(device, calls, rounds)
    times["dense"] = [t * dense_pairs / timed_pairs for t in times["dense"]]
    median = {name: statistics.median(values) for name, values in times.items()}
    grads = measure_backward(device, inputs, lists, rounds)
    flops = 4 * heads * head_dim * listed_pairs
    work_ratio = dense_pairs / listed_pairs
    over = {
        name: [b / a for a, b in zip(times["ours"], times[name], strict=True)]
        for name in ("flex", "dense")
    }
    return {
        "heads": heads, "kv_heads": kv_heads, "blocks_a_list": PICKED + 1, "rounds": rounds,
        "work_ratio": work_ratio, "dense_rows": rows,
        **{f"{name}_s": value for name, value in median.items()},
        "efficiency": statistics.median(over["dense"]) / work_ratio,
        **{f"over_{name}": statistics.median(ratios) for name, ratios in over.items()},
        "spread": {f"over_{name}": [min(x), max(x)] for name, x in over.items()},
        "ours_tflops": flops / median["ours"] / 1e12,
        "flex_tflops": flops / median["flex"] / 1e12,
        "dense_tflops": flops * work_ratio / median["dense"] / 1e12,
        "gemm_tflops": gemm_tflops(device, kind), **grads, **accelerator(device),
    }  # fmt: skip


def measure_backward(
    device: str, inputs: list[Tensor], lists: tuple[Tensor, Tensor], rounds: int
) -> dict[str, float]:
    """Backward against forward of the same call."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    out, _ = kernels.block_list_attention(*inputs, *lists)
    grad = torch.randn_like(out)
    calls = {
        "forward": lambda: kernels.block_list_attention(*inputs, *lists),
        "backward": lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True),
    }
    times = interleave(device, calls, rounds)
    ratios = [b / a for a, b in zip(times["forward"], times["backward"], strict=True)]
    return {
        "backward_s": statistics.median(times["backward"]),
        "backward_over_forward": statistics.median(ratios),
    }


def measure_paged(
    device: str, instructions: str, head_dim: int, length: int, page_size: int
) -> dict[str, Any]:
    """One decode step over a paged cache against gathering the pages and dense attention.

    The rival gets the heads of a group as rows of one query, which is faster than as heads.
    """
    prepare(device, instructions)
    heads, kv_heads = HEADS[device]
    batch = 8 if device == "gpu" else 1
    n = length // page_size
    source = generator_on(device, 0)
    place = source.device
    table = torch.randperm(batch * n, generator=source, device=place).view(batch, n)
    shape = (batch * n, kv_heads, page_size, head_dim)
    pages = [torch.randn(shape, generator=source, device=place).bfloat16() for _ in range(2)]
    query = torch.randn(batch, heads, 1, head_dim, generator=source, device=place).bfloat16()
    lengths = torch.full((batch,), length, device=place)

    def gather() -> Tensor:
        key, value = (
            x[table].transpose(1, 2).reshape(batch, kv_heads, length, head_dim) for x in pages
        )
        rows = query.view(batch, kv_heads, heads // kv_heads, head_dim)
        return scaled_dot_product_attention(rows, key, value)

    calls = {
        "ours": lambda: kernels.paged_attention(query, *pages, table, lengths),
        "gather": gather,
    }
    own = [x[table[0]].cpu().double() for x in pages]
    expected = kernels.paged_attention(
        query[:1].cpu().double(), *own, torch.arange(n)[None], lengths[:1].cpu(), backend="torch"
    )[0]
    error = float((calls["ours"]()[0][:1].cpu().double() - expected).norm() / expected.norm())
    if not error < torch.finfo(torch.bfloat16).eps:
        raise SystemExit(f"FAILED: relative error {error:.1e} of a paged step; no ratio")
    times = interleave(device, calls, rounds=9)
    ratios = [b / a for a, b in zip(times["ours"], times["gather"], strict=True)]
    read = 2 * batch * kv_heads * length * head_dim * 2
    ours = statistics.median(times["ours"])
    return {
        "batch": batch, "ours_s": ours, "gather_s": statistics.median(times["gather"]),
        "ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)],
        "gb_a_s": read / ours / 1e9, **accelerator(device),
    }  # fmt: skip


def measure_million(device: str, instructions: str) -> dict[str, Any]:
    """One forward of 2 heads over 1,048,576 tokens, checked at its end."""
    prepare(device, instructions)
    tokens = 1 << 20
    source = generator_on(device, 0)
    inputs = [
        torch.randn(1, h, tokens, 64, generator=source, device=source.device).bfloat16()
        for h in (2, 1, 1)
    ]
    lists = make_lists(device, tokens, 1)
    out: list[Tensor] = []
    for _ in range(2 if device == "gpu" else 1):  # a GPU's first call compiles
        taken = seconds(
            device, lambda: out.append(kernels.block_list_attention(*inputs, *lists)[0])
        )
    check(inputs, lists, out[0])
    pairs = float(lists[0].sum()) * BLOCK * BLOCK
    return {
        "tokens": tokens, "heads": 2, "seconds": taken, "finite": bool(out[0].isfinite().all()),
        "tflops": 4 * 2 * 64 * pairs / taken / 1e12,
        "work_ratio": tokens * (tokens + 1) / 2 / pairs, **accelerator(device),
    }  # fmt: skip


def measure_threads(instructions: str, tokens: int) -> dict[str, Any]:
    """Wall-clock time with one thread and with two."""
    prepare("cpu", instructions)
    inputs = make_inputs("cpu", torch.bfloat16, tokens, 64)
    lists = make_lists("cpu", tokens, HEADS["cpu"][1])
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(7):
        for threads in times:
            torch.set_num_threads(threads)
            start = time.perf_counter()
            kernels.block_list_attention(*inputs, *lists)
            times[threads].append(time.perf_counter() - start)
    torch.set_num_threads(1)
    one, two = (statistics.median(values[1:]) for values in times.values())
    return {"one_s": one, "two_s": two, "ratio": one / two}


def accelerator(device: str) -> dict[str, str]:
    """The GPU's name, for the record's provenance."""
    return {"device": torch.cuda.get_device_name()} if device == "gpu" else {}


@functools.cache
def studies(device: str) -> tuple[Study, ...]:
    """What is measured on a CPU like this one, or on a GPU."""
    on = {"device": device, "instructions": instructions_of(device)}
    dims = (64, 128) if device == "gpu" else (64,)
    types = ("bfloat16",) if device == "gpu" else ("bfloat16", "float32")
    lengths = (8192, 32768, 131072)
    settings: dict[str, list[dict[str, Any]]] = {
        "forward": [
            {**on, "dtype": dtype, "head_dim": dim, "tokens": tokens}
            for dtype in types
            for tokens in lengths
            for dim in dims
            if dtype == "bfloat16" or tokens < lengths[-1]
        ],
        "paged": [
            {**on, "head_dim": dims[-1], "length": length, "page_size": size}
            for length in lengths[:2]
            for size in (16, 64)
        ],
        "million": [on],
    }
    if device == "cpu":
        settings["threads"] = [{"instructions": on["instructions"], "tokens": 32768}]
    root = Path(__file__).parents[1]
    files = [file for name in SOURCES[device] for file in sorted((root / KERNELS).glob(name))]
    sources = tuple(str(file.relative_to(root)) for file in files)
    module = f"benchmarks.{Path(__file__).stem}"
    return tuple(
        Study(name, f"{module}:measure_{name}", tuple(runs), sources)
        for name, runs in settings.items()
    )


if __name__ == "__main__":
    sys.exit(run_studies(__doc__, studies, FOLDER))
