"""The gated delta rule in Triton, for NVIDIA and AMD GPUs: the forward pass, in chunks.

With ``A`` as in :mod:`._gated_delta_torch`, a chunk that starts from the state ``S`` writes ``W``:

    W = (I + A)^-1 diag(beta) X,    X = V - e^G K S

Only ``X``, what is missing under the keys, depends on the state. So kernels that take all chunks at
once multiply the inverse with all that is made of ``W`` (:mod:`._gated_delta_triton_solve`): the
last state is ``e^{G_last} S + M^T X`` and the outputs are ``e^G Q S + N X``. The states are then
found chunk after chunk, for a slice of the values, with two products each, and the outputs again
for all chunks at once. ``M``, ``N``, ``X`` and the states are rounded to the type of the inputs,
the writes never: where keys resemble one another they nearly cancel, and their errors do not.

A few tokens, as in decoding, are taken one by one by a single kernel.

In all kernels ``shape`` is (heads, tokens, key width, value width), and ``width`` and ``columns``
are powers of two: the key width rounded up, and the slice of the values.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block_list_triton import Tile, kind, launch
from ._gated_delta_torch import Inputs
from ._gated_delta_triton_solve import invert_kernel, load_rows, locate, prepare_kernel
from ._tensors import rows

# In float32 most GPUs have no matrix unit, and the products of a long chunk would not fit the
# registers.
CHUNK = {torch.float32: 16, torch.bfloat16: 64, torch.float16: 64}
RECURRENT_TOKENS = 16


def _cut(columns: int, warps: int, stages: int = 1) -> Tile:
    """A program of one head, for up to so many value columns; 0 where it takes no values."""
    return Tile(heads=1, warps=warps, stages=stages, columns=columns)


# By kernel and kind of GPU, for keys of up to 64 and up to 128 numbers of 16 bits; float32 is cut
# alike everywhere.
CONFIGS = {
    ("invert", "sm90"): (_cut(0, 4), _cut(0, 4)),
    ("invert", "sm80"): (_cut(0, 4), _cut(0, 4)),
    ("invert", "cdna"): (_cut(0, 4), _cut(0, 4)),
    ("invert", "rdna"): (_cut(0, 4), _cut(0, 4)),
    ("invert", "float32"): (_cut(0, 8), _cut(0, 8)),
    ("prepare", "sm90"): (_cut(0, 4), _cut(0, 4)),
    ("prepare", "sm80"): (_cut(0, 4), _cut(0, 8)),
    ("prepare", "cdna"): (_cut(0, 4), _cut(0, 4)),
    ("prepare", "rdna"): (_cut(0, 4), _cut(0, 8)),
    ("prepare", "float32"): (_cut(0, 8), _cut(0, 8)),
    ("states", "sm90"): (_cut(32, 4, 3), _cut(32, 4, 3)),
    ("states", "sm80"): (_cut(32, 4, 3), _cut(32, 4, 3)),
    ("states", "cdna"): (_cut(32, 4, 2), _cut(32, 4, 2)),
    ("states", "rdna"): (_cut(32, 4, 2), _cut(32, 8, 2)),
    ("states", "float32"): (_cut(16, 8), _cut(16, 8)),
    ("outputs", "sm90"): (_cut(64, 4), _cut(128, 8)),
    ("outputs", "sm80"): (_cut(64, 4), _cut(128, 8)),
    ("outputs", "cdna"): (_cut(64, 4), _cut(64, 4)),
    ("outputs", "rdna"): (_cut(64, 4), _cut(64, 8)),
    ("outputs", "float32"): (_cut(16, 4), _cut(16, 4)),
    ("recurrent", "sm90"): (_cut(32, 4), _cut(32, 4)),
    ("recurrent", "sm80"): (_cut(32, 4), _cut(32, 4)),
    ("recurrent", "cdna"): (_cut(32, 4), _cut(32, 4)),
    ("recurrent", "rdna"): (_cut(32, 4), _cut(32, 4)),
    ("recurrent", "float32"): (_cut(32, 4), _cut(32, 4)),
}


@triton.jit
def _states_kernel(
    key, value, initial_state, from_start, to_state, missing, states, final_state,
    key_strides, value_strides, shape,
    corrects: tl.constexpr, chunk: tl.constexpr, width: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """The states of one sequence, and what is missing there, for one slice of the values.

    Nothing is missing but the values themselves if nothing is corrected.
    """
    heads, tokens, key_dim, value_dim = shape
    n_slices = tl.cdiv(value_dim, columns)
    n_chunks = tl.cdiv(tokens, chunk)
    sequence = (tl.program_id(0) // n_slices).to(tl.int64)
    row = tl.arange(0, width)
    column = tl.program_id(0) % n_slices * columns + tl.arange(0, columns)
    lane = tl.arange(0, chunk)
    keys = key + locate(sequence, heads, key_strides)
    values = value + locate(sequence, heads, value_strides)
    effects = to_state + sequence * tokens * key_dim
    shares = from_start + sequence * tokens
    found = missing + sequence * tokens * value_dim + column[None, :]
    in_state = row[:, None] * value_dim + column[None, :]
    stored = (row < key_dim)[:, None] & (column < value_dim)[None, :]
    state_size = key_dim * value_dim
    if initial_state is not None:
        given = initial_state + sequence * state_size + in_state
        state = tl.load(given, mask=stored, other=0.0).to(tl.float32)
    else:
        state = tl.zeros((width, columns), tl.float32)
    for i in range(n_chunks):
        first = i * chunk
        x = load_rows(values, value_strides[2], first, tokens, column, value_dim, chunk)
        before = state.to(x.dtype)
        tl.store(states + (sequence * n_chunks + i) * state_size + in_state, before, mask=stored)
        if corrects:
            k = load_rows(keys, key_strides[2], first, tokens, row, key_dim, chunk)
            inside = first + lane < tokens
            share = tl.load(shares + first + lane, mask=inside, other=0.0)
            seen = tl.dot(k, before, input_precision="ieee")
            x = (x.to(tl.float32) - share[:, None] * seen).to(x.dtype)
            at = found + (first + lane).to(tl.int64)[:, None] * value_dim
            tl.store(at, x, mask=inside[:, None] & (column < value_dim)[None, :])
        effect = load_rows(effects, key_dim, first, tokens, row, key_dim, chunk)
        state *= tl.load(shares + tl.minimum(first + chunk, tokens) - 1)
        state = tl.dot(tl.trans(effect), x, state, input_precision="ieee")
    tl.store(final_state + sequence * state_size + in_state, state, mask=stored)


@triton.jit
def _outputs_kernel(
    query, missing, from_start, to_outputs, states, out, query_strides, missing_strides, shape,
    scale, chunk: tl.constexpr, width: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Outputs of one chunk, for one slice of the values."""
    heads, tokens, key_dim, value_dim = shape
    n_slices = tl.cdiv(value_dim, columns)
    n_chunks = tl.cdiv(tokens, chunk)
    index = (tl.program_id(0) // n_slices).to(tl.int64)
    sequence = index // n_chunks
    first = (index % n_chunks).to(tl.int32) * chunk
    column = tl.program_id(0) % n_slices * columns + tl.arange(0, columns)
    lane = tl.arange(0, chunk)
    inside = first + lane < tokens
    token = sequence * tokens + first + lane
    queries = query + locate(sequence, heads, query_strides)
    given = states + index * key_dim * value_dim + column[None, :]
    acc = tl.zeros((chunk, columns), tl.float32)
    part: tl.constexpr = min(width, 64)
    for start in tl.static_range(0, width, part):
        row = start + tl.arange(0, part)
        q = load_rows(queries, query_strides[2], first, tokens, row, key_dim, chunk)
        stored = (row < key_dim)[:, None] & (column < value_dim)[None, :]
        state = tl.load(given + row[:, None] * value_dim, mask=stored, other=0.0)
        acc = tl.dot(q, state, acc, input_precision="ieee")
    acc *= tl.load(from_start + token, mask=inside, other=0.0)[:, None]
    shown = to_outputs + sequence * tokens * chunk
    reads = load_rows(shown, chunk, first, tokens, lane, chunk, chunk)
    found = missing + locate(sequence, heads, missing_strides)
    x = load_rows(found, missing_strides[2], first, tokens, column, value_dim, chunk)
    acc = tl.dot(reads, x, acc, input_precision="ieee")
    at = out + token[:, None] * value_dim + column[None, :]
    tl.store(at, acc * scale, mask=inside[:, None] & (column < value_dim)[None, :])


@triton.jit
def _recurrent_kernel(
    query, key, value, log_decay, beta, initial_state, out, final_state,
    query_strides, key_strides, value_strides, decay_strides, beta_strides, shape, scale,
    width: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """One sequence token by token, for one slice of the values."""
    heads, tokens, key_dim, value_dim = shape
    n_slices = tl.cdiv(value_dim, columns)
    sequence = (tl.program_id(0) // n_slices).to(tl.int64)
    row = tl.arange(0, width)
    column = tl.program_id(0) % n_slices * columns + tl.arange(0, columns)
    queries = query + locate(sequence, heads, query_strides) + row
    keys = key + locate(sequence, heads, key_strides) + row
    values = value + locate(sequence, heads, value_strides) + column
    decays = log_decay + locate(sequence, heads, decay_strides)
    if beta is not None:
        shares = beta + locate(sequence, heads, beta_strides)
    outputs = out + sequence * tokens * value_dim + column
    at = sequence * key_dim * value_dim + row[:, None] * value_dim + column[None, :]
    stored = (row < key_dim)[:, None] & (column < value_dim)[None, :]
    if initial_state is not None:
        state = tl.load(initial_state + at, mask=stored, other=0.0).to(tl.float32)
    else:
        state = tl.zeros((width, columns), tl.float32)
    for _ in range(tokens):
        q = tl.load(queries, mask=row < key_dim, other=0.0).to(tl.float32)[:, None]
        k = tl.load(keys, mask=row < key_dim, other=0.0).to(tl.float32)[:, None]
        write = tl.load(values, mask=column < value_dim, other=0.0).to(tl.float32)
        state *= tl.exp(tl.load(decays).to(tl.float32))
        if beta is not None:
            write = tl.load(shares).to(tl.float32) * (write - tl.sum(k * state, 0))
            shares += beta_strides[2]
        state += k * write[None, :]
        tl.store(outputs, tl.sum(q * state, 0) * scale, mask=column < value_dim)
        queries += query_strides[2]
        keys += key_strides[2]
        values += value_strides[2]
        decays += decay_strides[2]
        outputs += value_dim
    tl.store(final_state + at, state, mask=stored)


def pick_tile(kernel: str, key: Tensor, value_dim: int) -> Tile:
    """The configuration of ``kernel``; no slice is wider than it must be for the values."""
    row = "float32" if key.dtype == torch.float32 else kind(key.device)
    tile = CONFIGS[kernel, row][key.shape[3] > 64]
    return tile._replace(columns=min(tile.columns, _width(value_dim)))


def _width(size: int) -> int:
    """The width of a tile that holds ``size`` numbers: matrix units take no fewer than 16."""
    return max(16, int(triton.next_power_of_2(size)))


def forward(inputs: Inputs, scale: float) -> tuple[Tensor, Tensor]:
    """See :func:`.gated_delta_rule`; in float16, a state beyond its range would be infinite."""
    query, key, value, log_decay, beta, state = inputs
    state = None if state is None else state.contiguous()
    inputs = Inputs(rows(query), rows(key), rows(value), log_decay, beta, state)
    out = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    shape = (*key.shape[:2], key.shape[3], value.shape[3])
    final_state = torch.empty(shape, dtype=torch.float32, device=value.device)
    run = _run_recurrent if key.shape[2] <= RECURRENT_TOKENS else _run_chunks
    run(inputs, scale, out, final_state)
    return out, final_state


def _run_recurrent(inputs: Inputs, scale: float, out: Tensor, final_state: Tensor) -> None:
    query, key, value, log_decay, beta, _ = inputs
    batch, heads, tokens, key_dim = key.shape
    value_dim = value.shape[3]
    tile = pick_tile("recurrent", key, value_dim)
    launch(
        _recurrent_kernel, batch * heads * triton.cdiv(value_dim, tile.columns), key.device, tile,
        *inputs, out, final_state,
        query.stride(), key.stride(), value.stride(), log_decay.stride(),
        (0, 0, 0) if beta is None else beta.stride(), (heads, tokens, key_dim, value_dim), scale,
        width=_width(key_dim), columns=tile.columns,
    )  # fmt: skip


def _run_chunks(inputs: Inputs, scale: float, out: Tensor, final_state: Tensor) -> None:
    query, key, value, log_decay, beta, initial_state = inputs
    batch, heads, tokens, key_dim = key.shape
    chunk = CHUNK[key.dtype]
    n_chunks, value_dim = triton.cdiv(tokens, chunk), value.shape[3]
    shape, width = (heads, tokens, key_dim, value_dim), _width(key_dim)
    inverses = None
    if beta is not None:
        inverses = key.new_empty((batch, heads, n_chunks, 2, chunk, chunk))
        launch(
            invert_kernel, batch * heads * n_chunks, key.device,
            pick_tile("invert", key, value_dim),
            key, log_decay, beta, inverses, key.stride(), log_decay.stride(), beta.stride(), shape,
            chunk=chunk, width=width,
        )  # fmt: skip
    from_start = torch.empty(key.shape[:3], dtype=torch.float32, device=key.device)
    to_state = key.new_empty(key.shape)
    to_outputs = key.new_empty((*key.shape[:3], chunk))
    launch(
        prepare_kernel, batch * heads * n_chunks, key.device, pick_tile("prepare", key, value_dim),
        query, key, log_decay, inverses, from_start, to_state, to_outputs,
        query.stride(), key.stride(), log_decay.stride(), shape,
        chunk=chunk, width=width,
    )  # fmt: skip
    missing = value if beta is None else torch.empty_like(out)
    states = key.new_empty((batch, heads, n_chunks, key_dim, value_dim))
    tile = pick_tile("states", key, value_dim)
    launch(
        _states_kernel, batch * heads * triton.cdiv(value_dim, tile.columns), key.device, tile,
        key, value, initial_state, from_start, to_state, missing, states, final_state,
        key.stride(), value.stride(), shape,
        corrects=beta is not None, chunk=chunk, width=width, columns=tile.columns,
    )  # fmt: skip
    tile = pick_tile("outputs", key, value_dim)
    launch(
        _outputs_kernel, batch * heads * n_chunks * triton.cdiv(value_dim, tile.columns),
        key.device, tile,
        query, missing, from_start, to_outputs, states, out,
        query.stride(), missing.stride(), shape, scale,
        chunk=chunk, width=width, columns=tile.columns,
    )  # fmt: skip
