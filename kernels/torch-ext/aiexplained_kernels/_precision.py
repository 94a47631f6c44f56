"""Arithmetic in the types of the inputs, whatever surrounds the call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def exactly(run: Callable[P, R]) -> Callable[P, R]:
    """Keep the types of the inputs: autocast would multiply float32 in a lower precision."""

    @functools.wraps(run)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return run(*args, **kwargs)

    return inner
