"""The gated delta rule against its chunked forms and a loop in torch, side by side.

``python benchmarks/gated_delta_rule.py`` (or ``nox -s bench -- gated_delta_rule``) prints ratios;
``--record`` keeps what is missing as records for the kernel's page; ``--device gpu`` compares with
flash-linear-attention on a GPU. There is no ratio, and the run fails, unless every form agrees with
the definition in float64 first. Rounds alternate between the rivals; on a CPU a time is CPU seconds
of the process with one thread, on a GPU the time between two events on the device.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers.models.qwen3_next import modeling_qwen3_next as qwen

import aiexplained_kernels as kernels
from aiexplained.nn import reference_gated_delta_rule
from aiexplained.records import Study
from aiexplained_kernels import _gated_delta_torch as in_torch
from benchmarks import _hub_form
from benchmarks._rounds import compare, prepare, vector_instructions
from benchmarks._studies import run_studies
from benchmarks.block_list_attention import (
    accelerator,
    gemm_tflops,
    generator_on,
)

HEADS = 4
CHECKED = 256
"""First tokens that are compared with the definition."""
GPU_SIZE = {"batch": 2, "heads": 16, "tokens": 16384, "width": 128}
QWEN = {
    "hidden_size": 512, "intermediate_size": 512, "moe_intermediate_size": 256,
    "shared_expert_intermediate_size": 256, "num_attention_heads": 8, "num_key_value_heads": 2,
    "head_dim": 64, "linear_num_key_heads": 4, "linear_num_value_heads": 4,
    "linear_key_head_dim": 128, "linear_value_head_dim": 128,
}  # fmt: skip
"""Of the random model: four layers of width 512, three of them linear, with Qwen3-Next's width of
a head."""
FOLDER = "gated-delta-rule"
KERNELS = "kernels/torch-ext/aiexplained_kernels"
SOURCES = {
    "cpu": (
        "_gated_delta_native.py", "_native.py", "_tensors.py", "gated_delta_rule.cpp",
        "gated_delta_backward.h", "gated_delta_forward.h", "gated_delta_slice.h", "matmul.h",
        "rows.h",
    ),
    "gpu": ("_gated_delta_triton.py",),
}  # fmt: skip

Inputs = Sequence[Tensor]


def make_inputs(
    device: str, batch: int, heads: int, tokens: int, width: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Query, unit keys, values of normal numbers; log-decays from -0.3 to 0; betas from 0 to 1."""
    source = generator_on(device, 0)
    place, shape = source.device, (batch, heads, tokens, width)
    query, key, value = (torch.randn(shape, generator=source, device=place) for _ in range(3))
    decay, beta = (torch.rand(shape[:3], generator=source, device=place) for _ in range(2))
    rows = (x.to(dtype) for x in (query, normalize(key, dim=-1), value))
    return [*rows, -0.3 * decay, beta]


def check(forms: Mapping[str, Callable[[], tuple[Tensor, Any]]], inputs: Inputs) -> None:
    """Compare each form's first tokens with the definition in float64; raise if one is wrong.

    The budget: values and results are each rounded once to the inputs' type, by half an eps, and
    float32 sums of n terms err by about sqrt(n) of its eps; a rival may err by twice as much.
    """
    exact = [x[:, :, :CHECKED].double().cpu() for x in inputs]
    expected, _ = reference_gated_delta_rule(*exact)
    dtype, terms = inputs[0].dtype, CHECKED + inputs[0].shape[-1]
    rounding = 0 if dtype is torch.float32 else torch.finfo(dtype).eps
    budget = 2 * (rounding + torch.finfo(torch.float32).eps * terms**0.5)
    for name, form in forms.items():
        out = form()[0][:, :, :CHECKED].double().cpu()
        error = float((out - expected).norm() / expected.norm())
        if not error < budget:
            raise SystemExit(f"FAILED: {name}: relative error {error:.1e}, allowed {budget:.1e}")


def theirs(function: Callable[..., Any], inputs: Inputs, **options: Any) -> Callable[[], Any]:
    """A call of a function that takes tokens before heads; the result has heads first, as ours."""
    laid_out = [x.transpose(1, 2).contiguous() for x in inputs]
    names = dict(zip(("query", "key", "value", "g", "beta"), laid_out, strict=True))

    def call() -> tuple[Tensor, Tensor]:
        out, state = function(**names, output_final_state=True, **options)
        return out.transpose(1, 2), state

    return call


def measure_forward(instructions: str, width: int, tokens: int) -> dict[str, Any]:
    """A whole sequence on a CPU: our loop in C++ against chunks, and a loop, in torch."""
    prepare(instructions)
    inputs = make_inputs("cpu", 1, HEADS, tokens, width)
    forms = {
        "ours": lambda: kernels.gated_delta_rule(*inputs, backend="native"),
        "transformers": theirs(qwen.torch_chunk_gated_delta_rule, inputs),
        "chunks": lambda: kernels.gated_delta_rule(*inputs, backend="torch"),
        "loop": lambda: reference_gated_delta_rule(*inputs),
    }
    check(forms, inputs)
    with torch.no_grad():
        found = compare("cpu", forms, rounds=21)
    flops = 6 * HEADS * tokens * width * width
    return {
        "heads": HEADS, "checked": CHECKED, **found,
        "tflops": flops / found["seconds"]["ours"] / 1e12,
        "gemm_tflops": gemm_tflops("cpu", torch.float32),
    }  # fmt: skip


def measure_chunks(instructions: str, width: int, tokens: int, chunk: int) -> dict[str, Any]:
    """Our chunked form in torch with another number of tokens in a chunk, beside the loop."""
    prepare(instructions)
    inputs = make_inputs("cpu", 1, HEADS, tokens, width)
    with patch.object(in_torch, "CHUNK", chunk), torch.no_grad():
        forms = {
            "ours": lambda: kernels.gated_delta_rule(*inputs, backend="native"),
            "chunks": lambda: kernels.gated_delta_rule(*inputs, backend="torch"),
        }
        check(forms, inputs)
        return {"heads": HEADS, **compare("cpu", forms, rounds=11)}


def measure_training(instructions: str, width: int, tokens: int) -> dict[str, Any]:
    """Forward and backward on a CPU, against autograd through chunks in torch."""
    prepare(instructions)
    inputs = [x.requires_grad_() for x in make_inputs("cpu", 1, HEADS, tokens, width)]
    weight = torch.randn_like(inputs[2])

    def train(run: Callable[[], tuple[Tensor, Any]]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad((run()[0] * weight).sum(), inputs)

    def autograd_through_chunks() -> tuple[Tensor, Any]:
        return in_torch.forward(in_torch.Inputs(*inputs, None), width**-0.5)

    forms = {
        "ours": lambda: kernels.gated_delta_rule(*inputs, backend="native"),
        "chunks": autograd_through_chunks,
        "transformers": lambda: theirs(qwen.torch_chunk_gated_delta_rule, inputs)(),
    }
    check({name: lambda form=form: (form()[0].detach(),) for name, form in forms.items()},
          [x.detach() for x in inputs])  # fmt: skip
    calls = {name: train(form) for name, form in forms.items()}
    expected = calls["chunks"]()
    for one, other in zip(calls["ours"](), expected, strict=True):
        error = float((one - other).norm() / other.norm())
        if not error < 1e-4:
            raise SystemExit(f"FAILED: a gradient differs by {error:.1e}; no ratio")
    return {"heads": HEADS, **compare("cpu", calls, rounds=11)}


def measure_decode(instructions: str, heads: int, width: int) -> dict[str, Any]:
    """One token with state in and out on a CPU, with no gradients wanted."""
    prepare(instructions)
    inputs = make_inputs("cpu", 1, heads, 1, width)
    state = torch.randn(1, heads, width, width, generator=generator_on("cpu", 1))
    forms = {
        "ours": lambda: kernels.gated_delta_rule(*inputs, initial_state=state, backend="native"),
        "transformers": theirs(qwen.torch_recurrent_gated_delta_rule, inputs, initial_state=state),
        "loop": lambda: reference_gated_delta_rule(*inputs, initial_state=state),
    }
    with torch.no_grad():
        results = {name: form() for name, form in forms.items()}
        for name, (out, after) in results.items():
            for one, other in ((out, results["loop"][0]), (after, results["loop"][1])):
                error = float((one - other).norm() / other.norm())
                if not error < 1e-5:
                    raise SystemExit(f"FAILED: {name} differs by {error:.1e}; no ratio")
        return compare("cpu", forms, rounds=21)


def measure_model(instructions: str, prompt: int, new: int) -> dict[str, Any]:
    """A random Qwen3-Next of transformers with our kernel and without, in a process of its own."""
    prepare(instructions)
    sizes = {"config": QWEN, "prompt": prompt, "new": new, "batch": 1, "rounds": 11}
    with tempfile.TemporaryDirectory() as folder:
        _hub_form.lay_out(Path(folder) / "build", "_aiexplained_kernels_bench")
        script = Path(_hub_form.__file__).with_name("_qwen3_next.py")
        done = subprocess.run(
            [sys.executable, script, Path(folder) / "build", json.dumps(sizes)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    if not (found["same_tokens"] and found["error"] < 1e-5 and not found["their_calls"]):
        raise SystemExit(f"FAILED: the model differs: {found}")
    return {k: v for k, v in found.items() if not k.endswith("_calls")}


def measure_gpu(dtype: str, width: int, tokens: int) -> dict[str, Any]:
    """A whole sequence on a GPU, against flash-linear-attention and chunks in torch."""
    fla = importlib.import_module("fla.ops.gated_delta_rule")
    sizes = GPU_SIZE | {"width": width, "tokens": tokens}
    inputs = make_inputs("gpu", **sizes, dtype=getattr(torch, dtype))
    laid_out = [x.transpose(1, 2).contiguous() for x in inputs]

    def rival() -> tuple[Tensor, Tensor]:
        query, key, value, decay, beta = laid_out
        out, state = fla.chunk_gated_delta_rule(
            query, key, value, g=decay, beta=beta, output_final_state=True
        )
        return out.transpose(1, 2), state

    forms = {
        "ours": lambda: kernels.gated_delta_rule(*inputs, backend="triton"),
        "fla": rival,
        "chunks": lambda: kernels.gated_delta_rule(*inputs, backend="torch"),
    }
    check(forms, inputs)
    with torch.no_grad():
        found = compare("gpu", forms, rounds=5)
    return {**sizes, **found, **accelerator("gpu")}


@functools.cache
def studies(device: str) -> tuple[Study, ...]:
    """What is measured on a CPU like this one, or on a GPU."""
    settings: dict[str, list[dict[str, Any]]]
    if device == "gpu":
        settings = {
            "gpu": [
                {"dtype": "bfloat16", "width": w, "tokens": GPU_SIZE["tokens"]} for w in (64, 128)
            ]
        }
    else:
        on = {"instructions": vector_instructions()}
        widths, chunks = (64, 128), (4, 8, 16, 32, 64, 128, 256)
        settings = {
            "forward": [{**on, "width": width, "tokens": 4096} for width in widths],
            "chunks": [
                {**on, "width": width, "tokens": 4096, "chunk": chunk}
                for width in widths
                for chunk in chunks
            ],
            "training": [{**on, "width": width, "tokens": 2048} for width in widths],
            "decode": [
                {**on, "heads": heads, "width": width}
                for heads, width in ((4, 64), (4, 128), (32, 128))
            ],
            "model": [{**on, "prompt": 2048, "new": 64}],
        }
    sources = tuple(f"{KERNELS}/{name}" for name in SOURCES[device])
    module = "benchmarks.gated_delta_rule"
    return tuple(
        Study(name, f"{module}:measure_{name}", tuple(runs), sources)
        for name, runs in settings.items()
    )


if __name__ == "__main__":
    sys.exit(run_studies(__doc__, studies, FOLDER))
