"""Triton kernels in Triton's interpreter, on guarded memory, in a process of their own.

The interpreter must be chosen before Triton is imported, and stays chosen, so a test file runs
itself as a script for a group of cases. There every buffer that a kernel fills starts as NaN or as
an index out of range, between margins that must stay as they were.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch

MARGIN = 64 * 128  # a block of vectors


def poison(dtype: torch.dtype) -> float:
    return float("nan") if dtype.is_floating_point else min(1 << 24, torch.iinfo(dtype).max)


@contextmanager
def guarded_buffers():
    """Allocate poisoned memory between margins; on leaving, fail if a margin was written to."""
    buffers = []

    def empty(*shape, dtype=torch.float32, device=None):
        shape = torch.Size(shape[0]) if isinstance(shape[0], (tuple, list)) else torch.Size(shape)
        size = shape.numel()
        buffer = torch.full((size + 2 * MARGIN,), poison(dtype), dtype=dtype, device=device)
        buffers.append(buffer)
        return buffer[MARGIN : MARGIN + size].view(shape)

    def new_empty(x, *shape, device=None):
        return empty(*shape, dtype=x.dtype, device=device)

    def empty_like(x):
        return empty(x.shape, dtype=x.dtype)

    with (
        patch.object(torch, "empty", empty),
        patch.object(torch, "empty_like", empty_like),
        patch.object(torch.Tensor, "new_empty", new_empty),
    ):
        yield
    assert buffers
    for buffer in buffers:
        for margin in (buffer[:MARGIN], buffer[len(buffer) - MARGIN :]):
            intact = torch.full_like(margin, poison(buffer.dtype))
            torch.testing.assert_close(margin, intact, rtol=0, atol=0, equal_nan=True)


def inside_nan(x: torch.Tensor) -> torch.Tensor:
    """``x`` as a part of a larger tensor of NaN, its rows 8 numbers apart."""
    whole = x.new_full((*x.shape[:2], x.shape[2] + 2, x.shape[3] + 8), float("nan"))
    view = whole[:, :, 1:-1, :-8]
    view.copy_(x)
    return view


@contextmanager
def bfloat16_as_on_a_gpu():
    """Round to the nearest, and multiply numbers: the interpreter cuts, and multiplies bits."""
    import triton.language as tl
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    plain_cast, plain_dot = builder.cast_impl, builder.create_dot

    def cast_impl(self, source, target):
        if target.scalar == tl.bfloat16 and source.dtype.scalar.is_int():
            source = plain_cast(self, source, tl.float32)
        if (source.dtype.scalar, target.scalar) != (tl.float32, tl.bfloat16):
            return plain_cast(self, source, target)
        rounded = torch.from_numpy(np.array(source.data)).to(torch.bfloat16)
        bits = rounded.view(torch.uint16).numpy()
        return interpreter.TensorHandle(bits, tl.bfloat16)

    def create_dot(self, a, b, *rest):
        a, b = (
            self.cast_impl(x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b)
        )
        return plain_dot(self, a, b, *rest)

    with (
        patch.object(builder, "cast_impl", cast_impl),
        patch.object(builder, "create_dot", create_dot),
    ):
        yield


def report(cases: dict[str, tuple]) -> str:
    """What went wrong in each case (a function and its arguments), empty if nothing did; JSON."""
    failures = {}
    for case, (function, *arguments) in cases.items():
        failures[case] = ""
        try:
            function(*arguments)
        except Exception as error:
            failures[case] = f"{type(error).__name__}: {error}"
    return json.dumps(failures)


def check_group(file: str, group: str, cases: dict[str, tuple], subtests) -> None:
    """Run ``file`` as a script that prints the report of a group, and hold each case to it."""
    environment = os.environ | {
        "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # fmt: skip
    command = [sys.executable, file, group]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    failures = json.loads(done.stdout.splitlines()[-1])
    assert list(failures) == list(cases)
    for case, failure in failures.items():
        with subtests.test(case):
            assert not failure
