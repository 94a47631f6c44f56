"""How far a kernel may lie from its definition, and how far it does."""

from __future__ import annotations

import torch


def relative(value, expected):
    finite = expected.isfinite()
    assert value.isfinite().equal(finite)
    scale = expected[finite].norm()
    return float((value.double() - expected)[finite].norm() / scale.clamp_min(1e-300))


def budget(dtype: torch.dtype, terms: int = 512) -> float:
    """Relative error allowed: the weights, their slopes and the result are each rounded once to
    ``dtype`` (half an eps at most), and sums of n terms err by sqrt(n) eps of their own type."""
    exact = torch.float64 if dtype is torch.float64 else torch.float32
    roundings = 0 if dtype is exact else 1.5
    return roundings * torch.finfo(dtype).eps + terms**0.5 * torch.finfo(exact).eps
