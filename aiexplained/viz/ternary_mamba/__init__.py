"""The figures of the page on Ternary Mamba. They take plain numbers."""

from aiexplained.viz.ternary_mamba.size import size_account

__all__ = [
    "size_account",
]
