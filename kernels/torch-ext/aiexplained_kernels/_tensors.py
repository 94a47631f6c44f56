"""Tensors as C++ sees them, and entries of a compiled library."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}


class View(ctypes.Structure):
    """A tensor of four axes, the last one contiguous."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("batch", ctypes.c_int64),
        ("head", ctypes.c_int64),
        ("row", ctypes.c_int64),
    )


def view(x: Tensor) -> View:
    """``x`` as a :class:`View`; it must outlive the call."""
    return View(x.data_ptr(), *x.stride()[:3])


def rows(x: Tensor) -> Tensor:
    """``x`` with rows that lie contiguous in memory; other axes may have any stride."""
    return x if x.stride(-1) == 1 else x.contiguous()


def exact(x: Tensor) -> torch.dtype:
    """The type of sums: float32, or float64 for float64."""
    return torch.promote_types(x.dtype, torch.float32)


@functools.cache
def entry(
    library: ctypes.CDLL, name: str, problem_bytes: int, argument: Any
) -> Callable[[Any], int]:
    """A function of the library, once it is known to share with us the structure that it takes.

    Args:
        library: What was compiled.
        name: Of the function.
        problem_bytes: Our size of the structure.
        argument: The type, for ctypes, of a pointer to it.
    """
    library.problem_bytes.restype = ctypes.c_int64
    if library.problem_bytes() != problem_bytes:
        raise RuntimeError("the C++ kernel and its Python side disagree on the arguments")
    function = getattr(library, name)
    function.argtypes = [argument]
    function.restype = ctypes.c_int64
    return cast("Callable[[Any], int]", function)
