"""Inputs on which every form of the ternary linear layer is held to its definition."""

from __future__ import annotations

import torch
from accuracy import budget

# Rows of x, outputs, columns, group size: every path of the kernel, and its ragged ends.
CASES = {
    "one number": (1, 1, 1, 128),
    "less than a plane": (2, 5, 31, 32),
    "one plane": (3, 7, 32, 32),
    "a run but one": (1, 5, 127, 64),
    "one run": (4, 64, 128, 128),
    "a run and one": (5, 65, 129, 128),
    "odd groups": (1, 67, 333, 96),
    "odd groups, more rows": (11, 67, 333, 96),
    "wide groups": (2, 13, 1000, 256),
    "one group a row": (3, 100, 1000, None),
    "a last group that is short": (7, 100, 1000, 128),
    "one vector of rows": (8, 64, 300, 64),
    "vectors and a rest": (33, 100, 300, 128),
    "many rows": (129, 5, 1000, 128),
    "more rows than a block": (523, 3, 131, 128),
    "deep": (2, 5, 4096, 128),
    "deep, more rows": (9, 130, 4096, 128),
}


def make_case(rows, outputs, columns, dtype=torch.float32, seed=0):
    """``x`` and a weight, rounded to their type first, so that every form gets the same."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randn(outputs, columns, generator=generator)


def excess(found, x, weight, dtype):
    """The error of ``x`` times the transpose of ``weight`` as a share of what is allowed.

    The terms of a sum may cancel, so an error is set against the root of the sum of their squares,
    which for independent terms is what the result is expected to be.
    """
    x, weight = x.double(), weight.double()
    error = (found.double() - x @ weight.mT).norm()
    size = (x.square() @ weight.square().mT).sum().sqrt()
    if not size:
        return float(error > 0)
    return float(error / size) / budget(dtype, x.shape[-1])


def rounded(x):
    """``x`` as integers of which the largest is 127, and the factor, in the type of ``x``."""
    factor = torch.full_like(x[..., :1], 127) / x.abs().amax(dim=-1, keepdim=True)
    return (factor * x).round().clamp(-127, 127).long(), factor
