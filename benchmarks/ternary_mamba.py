"""Decoding with a Mamba-2 whose projections are packed ternary weights, beside bfloat16.

``python benchmarks/ternary_mamba.py`` (or ``nox -s bench -- ternary_mamba``) prints tokens a second
and bytes on disk of public shapes with random weights, which cost as much as trained ones;
``--record`` keeps what is missing as records for the concept's page. There is no figure, and the
run fails, unless two packed layers give the logits of the rounded ones. A time is CPU seconds of
the process with one thread; rounds alternate between the rivals. The largest shape takes 10 GB of
memory, and 3 GB on disk for a moment.
"""

from __future__ import annotations

import copy
import functools
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import linear

import aiexplained_kernels as kernels
from aiexplained.concepts import ternary_mamba as tm
from aiexplained.records import Study
from benchmarks._rounds import prepare, vector_instructions
from benchmarks._studies import run_studies
from benchmarks.block_list_attention import interleave

FOLDER = "ternary_mamba"
OPERATORS = {"pack": kernels.pack_ternary, "multiply": kernels.ternary_linear}


def measure_decode(*, instructions: str, shape: str, rounds: int) -> dict[str, Any]:
    """Seconds a token of one text, and bytes on disk.

    Args:
        instructions: The vector instructions of this machine.
        shape: A name in ``tm.SHAPES``.
        rounds: Timed turns of each model.

    Returns:
        ``tokens_per_s`` of ``"bf16"`` and ``"ternary"``, an entry a round; ``speedup``, of the
        medians; ``shares`` of the ternary model's time that its ``projections`` and the output
        layer, ``head``, take; and ``bytes`` of two files in safetensors' format, both with a tied
        head.
    """
    prepare(instructions)
    full = _make(shape)
    packed = copy.deepcopy(full)
    tm.pack_model(packed, **OPERATORS)
    _check(full)
    token = torch.zeros(1, 1, dtype=torch.long)
    states = {"bf16": full.make_state(1), "ternary": packed.make_state(1)}
    hidden = torch.randn(1, 1, full.shape.d_model).bfloat16()
    inner = torch.randn(1, 1, full.shape.d_inner).bfloat16()
    calls = {
        "bf16": lambda: full(token, states["bf16"]),
        "ternary": lambda: packed(token, states["ternary"]),
        "head": lambda: linear(hidden, full.embedding),
        "projections": lambda: [
            (layer.in_proj(hidden), layer.out_proj(inner)) for layer in packed.layers
        ],
    }
    with torch.inference_mode():
        times = interleave("cpu", calls, rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "tokens_per_s": {name: [1 / t for t in times[name]] for name in ("bf16", "ternary")},
        "speedup": medians["bf16"] / medians["ternary"],
        "shares": {part: medians[part] / medians["ternary"] for part in ("projections", "head")},
        "bytes": {"bf16": _file_size(full), "ternary": _file_size(packed)},
    }


def _make(shape: str) -> tm.Mamba2:
    """A model of a public shape with random weights, in bfloat16."""
    return tm.Mamba2(tm.SHAPES[shape]).bfloat16().eval().requires_grad_(False)


@torch.inference_mode()
def _check(full: tm.Mamba2) -> None:
    """Pack the first layers in float32 and compare with rounding them; raise if they differ.

    Sums of n terms in float32 err by about sqrt(n) of its eps, and a layer has two of them.
    """
    shape = replace(full.shape, n_layers=2)
    rounded, ours = (tm.Mamba2(shape) for _ in range(2))
    for small in (rounded, ours):
        small.load_state_dict(_first_layers(full, small))
    tm.round_weights(rounded)
    tm.pack_model(ours, **OPERATORS)
    tokens = torch.arange(5)[None]
    expected, out = rounded(tokens), ours(tokens)
    error = float((out - expected).norm() / expected.norm())
    budget = 4 * torch.finfo(torch.float32).eps * shape.d_inner**0.5
    if not error < budget:
        raise SystemExit(f"FAILED: relative error {error:.1e}, allowed {budget:.1e}; no figure")


def _first_layers(full: tm.Mamba2, small: tm.Mamba2) -> dict[str, Tensor]:
    state = full.state_dict()
    return {name: state[name].float() for name in small.state_dict()}


def _file_size(model: nn.Module) -> int:
    """Bytes of the model as a file; scales are kept in 16 bits, as in the source."""
    tensors = {
        name: value.half() if name.endswith(".scale") else value
        for name, value in model.state_dict().items()
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")
        save_file(tensors, file)
        return file.stat().st_size


@functools.cache
def studies(device: str) -> tuple[Study, ...]:
    """What is measured on a CPU like this one; nothing on a GPU."""
    if device == "gpu":
        return ()
    (study,) = (study for study in tm.STUDIES if study.name == "decode")
    here = {"instructions": vector_instructions()}
    return (replace(study, settings=tuple({**s, **here} for s in study.settings)),)


if __name__ == "__main__":
    sys.exit(run_studies(__doc__, studies, FOLDER))
