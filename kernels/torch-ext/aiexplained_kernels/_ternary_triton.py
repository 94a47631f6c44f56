"""Products with packed ternary weights in Triton, for NVIDIA and AMD GPUs: the forward pass.

The packed weight is all that is read of it. One row of ``x``, as in decoding, is multiplied and
added number by number; more rows go to the matrix unit with weights of -1, 0 and 1 in the type of
``x``, which holds them exactly. Scales are applied to sums in float32, after the products of a
group, or at the end where a row of the weight has one group.

For int8 a small kernel rounds the rows of ``x`` first, to the very integers of
:mod:`._ternary_torch`; their products are summed in int32.

In all kernels ``shape`` is (rows of ``x``, outputs, columns, groups of a row of the weight), and
``part`` is how many columns, one after another, have one scale: a run, or a plane of 32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block_list_triton import Tile, kind, launch
from ._tensors import rows
from ._ternary_torch import RUN, RUN_BYTES

WEIGHTS = tl.constexpr(RUN)
BYTES = tl.constexpr(RUN_BYTES)
PLANES = tl.constexpr(RUN // RUN_BYTES)
# A float32 of this size has no room for fractions: what is added is rounded, halves to even.
ROUNDS = tl.constexpr(1.5 * 2**23)
# Tiles that run side by side cover so many blocks of rows, so that they find x in the cache.
NEIGHBORS = tl.constexpr(8)
ONE_BY_ONE_ROWS = 1
FEW_ROWS = 16
RUNS_AT_ONCE = 4


def _cut(n_rows: int, outputs: int, warps: int, stages: int = 1) -> Tile:
    """A program of so many rows of ``x`` (``Tile.heads`` here) and outputs."""
    return Tile(heads=n_rows, warps=warps, stages=stages, columns=outputs)


# By rows and kind of GPU, for x of 16 bits and in int8; float32 is cut alike everywhere. Scales are
# fine if groups are no whole runs, and many rows then take more registers.
CONFIGS = {
    ("one row", "sm90"): _cut(1, 16, 4),
    ("one row", "sm80"): _cut(1, 16, 4),
    ("one row", "cdna"): _cut(1, 16, 4),
    ("one row", "rdna"): _cut(1, 16, 4),
    ("one row", "float32"): _cut(1, 16, 4),
    ("few rows", "sm90"): _cut(16, 32, 4, 4),
    ("few rows", "sm80"): _cut(16, 32, 4, 4),
    ("few rows", "cdna"): _cut(16, 64, 4, 2),
    ("few rows", "rdna"): _cut(16, 64, 4, 2),
    ("few rows", "float32"): _cut(16, 32, 8),
    ("many rows", "sm90"): _cut(128, 128, 8, 3),
    ("many rows", "sm80"): _cut(64, 128, 8, 3),
    ("many rows", "cdna"): _cut(64, 128, 8, 2),
    ("many rows", "rdna"): _cut(64, 64, 8, 2),
    ("many rows", "float32"): _cut(32, 32, 8),
    ("fine scales", "sm90"): _cut(128, 64, 8, 3),
    ("fine scales", "sm80"): _cut(64, 128, 8, 3),
    ("fine scales", "cdna"): _cut(64, 128, 8, 2),
    ("fine scales", "rdna"): _cut(64, 64, 8, 2),
    ("fine scales", "float32"): _cut(32, 32, 8),
}
QUANTIZE = Tile(heads=1, warps=4, stages=1, columns=1024)


@triton.jit
def _quantize_kernel(
    x, integers, factors, x_stride, n_columns, width, chunk: tl.constexpr,
):  # fmt: skip
    """One row as integers from -127 to 127, up to ``width`` filled with zeros, and its factor."""
    row = tl.program_id(0).to(tl.int64)
    numbers = x + row * x_stride
    lane = tl.arange(0, chunk)
    largest = tl.zeros((chunk,), tl.float32)
    for start in range(0, n_columns, chunk):
        column = start + lane
        size = tl.abs(tl.load(numbers + column, mask=column < n_columns, other=0.0).to(tl.float32))
        largest = tl.maximum(largest, tl.where(size < float("inf"), size, float("inf")))
    most = tl.max(largest, 0)
    factor = tl.where(most < float("inf"), tl.div_rn(127.0, most), float("nan"))
    tl.store(factors + row, factor)
    for start in range(0, width, chunk):
        column = start + lane
        number = tl.load(numbers + column, mask=column < n_columns, other=0.0).to(tl.float32)
        scaled = factor * number
        # Bounds first, which are integers: they also keep product and sum from being fused.
        scaled = tl.where(scaled == scaled, scaled, 0.0)
        scaled = tl.minimum(tl.maximum(scaled, -127.0), 127.0)
        integer = ((scaled + ROUNDS) - ROUNDS).to(tl.int8)
        tl.store(integers + row * width + column, integer, mask=column < width)


@triton.jit
def _load_scale(scale, column, group_size, n_groups):
    """Scales at a column; past the last group the last one, which multiplies zeros there."""
    return tl.load(scale + tl.minimum(column // group_size, n_groups - 1))


@triton.jit
def _with_scale_of_row(sums, scale, factor):
    """Sums times the scale of their only group, over the factor of integers if there is one."""
    scale = tl.load(scale)
    if factor is not None:
        scale = tl.div_rn(scale, tl.load(factor))
    return sums.to(tl.float32) * scale


@triton.jit
def _one_row_kernel(
    x, packed, scale, factor, out, shape, x_stride, group_size,
    grouped: tl.constexpr, part: tl.constexpr, columns: tl.constexpr, runs: tl.constexpr,
):  # fmt: skip
    """Some outputs of one row of ``x``, summed by lane, ``runs`` runs at once."""
    _, n_outputs, n_columns, n_groups = shape
    n_runs = tl.cdiv(n_columns, WEIGHTS)
    n_blocks = tl.cdiv(n_outputs, columns)
    row = (tl.program_id(0) // n_blocks).to(tl.int64)
    output = tl.program_id(0) % n_blocks * columns + tl.arange(0, columns)
    # Past the last output, the last one is found again, and not stored.
    known = tl.minimum(output, n_outputs - 1).to(tl.int64)
    scales = scale + known[:, None, None] * n_groups
    lane = tl.arange(0, BYTES)[None, None, :]
    numbers = x + row * x_stride + lane
    weights = packed + known[:, None, None] * (n_runs * BYTES) + lane
    share: tl.constexpr = part // BYTES
    type_: tl.constexpr = tl.float32 if factor is None else tl.int32
    acc = tl.zeros((columns, runs, BYTES), type_)
    for first in range(0, n_runs, runs):
        run = first + tl.arange(0, runs)[None, :, None]
        stored = tl.load(weights + run * BYTES, mask=run < n_runs, other=0).to(tl.int32)
        for begin in tl.static_range(0, PLANES, share):
            sums = tl.zeros_like(acc)
            for plane in tl.static_range(begin, begin + share):
                column = run * WEIGHTS + plane * BYTES
                # Loaded by every thread that multiplies it; to pass it on would take a barrier.
                at = tl.broadcast_to(numbers + column, (columns, runs, BYTES))
                number = tl.load(at, mask=column + lane < n_columns, other=0)
                sums += ((stored >> 2 * plane & 3) - 1).to(type_) * number.to(type_)
            if grouped:
                column = run * WEIGHTS + begin * BYTES
                sums *= _load_scale(scales, column, group_size, n_groups)
            acc += sums
    total = tl.sum(acc.reshape(columns, runs * BYTES), 1)
    if not grouped:
        total = _with_scale_of_row(total, scale + known, None if factor is None else factor + row)
    tl.store(out + row * n_outputs + output, total, mask=output < n_outputs)


@triton.jit
def _locate_tile(n_rows, n_outputs, height: tl.constexpr, columns: tl.constexpr):
    """Rows and outputs of this program."""
    n_row_blocks = tl.cdiv(n_rows, height)
    n_programs = NEIGHBORS * tl.cdiv(n_outputs, columns)
    first = tl.program_id(0) // n_programs * NEIGHBORS
    place = tl.program_id(0) % n_programs
    together = tl.minimum(n_row_blocks - first, NEIGHBORS)
    row = (first + place % together) * height + tl.arange(0, height)
    return row, place // together * columns + tl.arange(0, columns)


@triton.jit
def _add_product(acc, x, weight, scale, first, shape, group_size, grouped: tl.constexpr):
    """``acc`` and the product of the columns from ``first`` on with ``weight`` (outputs, part)."""
    _, _, n_columns, n_groups = shape
    column = first + tl.arange(0, weight.shape[1])[None, :]
    number = tl.load(x + column, mask=column < n_columns, other=0)
    weight = tl.trans(weight.to(number.dtype))
    if grouped:
        sums = tl.dot(number, weight, input_precision="ieee")
        return acc + sums * _load_scale(scale, first, group_size, n_groups)[None, :]
    return tl.dot(number, weight, acc, input_precision="ieee", out_dtype=acc.dtype)


@triton.jit
def _rows_kernel(
    x, packed, scale, factor, out, shape, x_stride, group_size,
    grouped: tl.constexpr, part: tl.constexpr, columns: tl.constexpr, height: tl.constexpr,
):  # fmt: skip
    """Some outputs of some rows of ``x``."""
    n_rows, n_outputs, n_columns, n_groups = shape
    n_runs = tl.cdiv(n_columns, WEIGHTS)
    row, output = _locate_tile(n_rows, n_outputs, height, columns)
    stored_row = row.to(tl.int64)
    known_row = tl.minimum(row, n_rows - 1).to(tl.int64)
    known = tl.minimum(output, n_outputs - 1).to(tl.int64)
    numbers = x + known_row[:, None] * x_stride
    scales = scale + known * n_groups
    weights = packed + known[:, None] * (n_runs * BYTES) + tl.arange(0, BYTES)[None, :]
    acc = tl.zeros((height, columns), tl.float32 if factor is None else tl.int32)
    for run in range(n_runs):
        stored = tl.load(weights + run * BYTES).to(tl.int8, bitcast=True)
        first = run * WEIGHTS
        if part == WEIGHTS:
            even = tl.join(stored & 3, stored >> 4 & 3)
            odd = tl.join(stored >> 2 & 3, stored >> 6 & 3)
            planes = tl.join(even, odd).permute(0, 2, 3, 1) - 1
            weight = planes.reshape(columns, WEIGHTS)
            acc = _add_product(acc, numbers, weight, scales, first, shape, group_size, grouped)
        else:
            for plane in tl.static_range(PLANES):
                weight = (stored >> 2 * plane & 3) - 1
                column = first + plane * BYTES
                acc = _add_product(acc, numbers, weight, scales, column, shape, group_size, grouped)
    if not grouped:
        factors = None if factor is None else factor + known_row[:, None]
        acc = _with_scale_of_row(acc, scale + known[None, :], factors)
    at = out + stored_row[:, None] * n_outputs + output[None, :]
    tl.store(at, acc, mask=(row < n_rows)[:, None] & (output < n_outputs)[None, :])


def pick_tile(x: Tensor, part: int) -> Tile:
    """The configuration for the rows of ``x``."""
    name = "many rows" if part == RUN else "fine scales"
    if len(x) <= FEW_ROWS:
        name = "one row" if len(x) <= ONE_BY_ONE_ROWS else "few rows"
    return CONFIGS[name, "float32" if x.dtype == torch.float32 else kind(x.device)]


def forward(x: Tensor, packed: Tensor, scale: Tensor, group_size: int, int8: bool) -> Tensor:
    """See :func:`.ternary_linear`; ``group_size`` 0 is one group a row."""
    n_outputs, n_bytes = packed.shape
    out = torch.empty((*x.shape[:-1], n_outputs), dtype=x.dtype, device=x.device)
    x, factor = rows(x.reshape(-1, x.shape[-1])), None
    if int8:
        x, factor = _quantize(x, n_bytes // RUN_BYTES * RUN)
    group_size = group_size if scale.shape[1] > 1 else n_bytes // RUN_BYTES * RUN
    _multiply(x, packed.contiguous(), scale.contiguous(), factor, out, group_size)
    return out


def _quantize(x: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Rows of ``width`` integers, and the factor of each."""
    n_rows, n_columns = x.shape
    integers = torch.empty((n_rows, width), dtype=torch.int8, device=x.device)
    factors = torch.empty((n_rows,), dtype=torch.float32, device=x.device)
    launch(
        _quantize_kernel, n_rows, x.device, QUANTIZE,
        x, integers, factors, x.stride(0), n_columns, width,
        chunk=QUANTIZE.columns,
    )  # fmt: skip
    return integers, factors


def _multiply(
    x: Tensor, packed: Tensor, scale: Tensor, factor: Tensor | None, out: Tensor, group_size: int
) -> None:
    """Fill ``out``."""
    (n_rows, n_columns), (n_outputs, n_groups) = x.shape, scale.shape
    part = RUN_BYTES if group_size % RUN else RUN
    tile = pick_tile(x, part)
    arguments = (
        x, packed, scale, factor, out, (n_rows, n_outputs, n_columns, n_groups), x.stride(0),
        group_size,
    )  # fmt: skip
    n_programs = triton.cdiv(n_rows, tile.heads) * triton.cdiv(n_outputs, tile.columns)
    if n_rows <= ONE_BY_ONE_ROWS:
        launch(
            _one_row_kernel, n_programs, x.device, tile, *arguments,
            grouped=n_groups > 1, part=part, columns=tile.columns, runs=RUNS_AT_ONCE,
        )  # fmt: skip
    else:
        # Without matrix units, the products of a run would not fit the registers.
        part = RUN_BYTES if x.dtype == torch.float32 else part
        launch(
            _rows_kernel, n_programs, x.device, tile, *arguments,
            grouped=n_groups > 1, part=part, columns=tile.columns, height=tile.heads,
        )  # fmt: skip
