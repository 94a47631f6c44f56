"""Which implementation runs: chosen by device and type, or named; what is missing and why."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Container
from typing import Literal

import torch

from . import _native
from ._native import BackendUnavailable

Backend = Literal["auto", "torch", "native", "triton"]
BACKENDS = ("auto", "torch", "native", "triton")
OPERATORS = {
    "block_list_attention": ("torch", "native", "triton"),
    "gated_delta_rule": ("torch", "native", "triton"),
    "ternary_linear": ("torch", "native", "triton"),
}
"""What each operator is written for."""

NATIVE_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
TRITON_TYPES = (torch.float32, torch.bfloat16, torch.float16)
OLDEST_TRITON = (3, 6)
TRITON_HEAD_DIMS: dict[str, tuple[Container[int], str]] = {
    "block_list_attention": ((16, 32, 64, 128), "a head_dim of 16, 32, 64 or 128"),
    "gated_delta_rule": (range(1, 129), "keys of up to 128 numbers"),
}
"""Widths that an operator's Triton kernels have a layout for, and their name; if any, no entry."""


def resolve(backend: str, operator: str, tensor: torch.Tensor) -> str:
    """The implementation to run for ``tensor``: ``"torch"``, ``"native"`` or ``"triton"``.

    ``"auto"`` takes the fastest that can run here; a named one runs or raises.

    Raises:
        ValueError: for an unknown name.
        BackendUnavailable: if the named backend cannot run; the message says why.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "torch":
        return "torch"
    if backend != "auto":
        reason = _missing(backend, operator, tensor)
        if reason:
            raise BackendUnavailable(f"{operator} cannot run with backend {backend!r}: {reason}")
        return backend
    candidate = "native" if tensor.device.type == "cpu" else "triton"
    return "torch" if _missing(candidate, operator, tensor) else candidate


def _missing(backend: str, operator: str, tensor: torch.Tensor) -> str | None:
    """Why ``backend`` cannot run ``operator`` on ``tensor``; None if it can."""
    if backend not in OPERATORS[operator]:
        return f"it is written for {' and '.join(OPERATORS[operator])}"
    types = NATIVE_TYPES if backend == "native" else TRITON_TYPES
    if tensor.dtype not in types:
        return f"it takes {', '.join(str(t) for t in types)}, got {tensor.dtype}"
    if backend == "native":
        if tensor.device.type != "cpu":
            return f"it runs on the CPU, got a tensor on {tensor.device}"
        return _native_missing(operator)
    if operator in TRITON_HEAD_DIMS:
        sizes, wanted = TRITON_HEAD_DIMS[operator]
        if tensor.shape[-1] not in sizes:
            return f"it takes {wanted}, got {tensor.shape[-1]}"
    if tensor.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return "it runs on a GPU (or on the CPU with TRITON_INTERPRET=1), got a tensor on cpu"
    return _triton_missing()


def _native_missing(operator: str) -> str | None:
    try:
        _native.load(operator)
    except BackendUnavailable as reason:
        return str(reason)
    return None


@functools.cache
def _triton_missing() -> str | None:
    try:
        version = importlib.import_module("triton").__version__
    except ImportError:
        return "the package triton is not installed"
    if tuple(map(int, version.split(".")[:2])) < OLDEST_TRITON:
        return f"it takes triton {'.'.join(map(str, OLDEST_TRITON))} or newer, got {version}"
    return None


def backend_report() -> dict[str, dict[str, str]]:
    """For each operator, each backend: ``"ready"``, or the reason why it cannot run here.

    A native kernel is compiled if it was not yet, which takes seconds.
    """
    report = {}
    on_gpu = _triton_missing()
    if on_gpu is None and not torch.cuda.is_available():
        on_gpu = "no GPU is visible to torch"
    for operator, backends in OPERATORS.items():
        reasons = {"torch": None, "native": _native_missing(operator), "triton": on_gpu}
        report[operator] = {backend: reasons[backend] or "ready" for backend in backends}
    return report
