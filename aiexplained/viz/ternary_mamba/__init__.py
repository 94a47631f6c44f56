"""The figures of the page on Ternary Mamba. They take plain numbers."""

from aiexplained.viz.ternary_mamba.dots import dots
from aiexplained.viz.ternary_mamba.drift import zero_drift
from aiexplained.viz.ternary_mamba.size import size_account
from aiexplained.viz.ternary_mamba.weight_budget import loss_by_bytes

__all__ = [
    "dots",
    "loss_by_bytes",
    "size_account",
    "zero_drift",
]
