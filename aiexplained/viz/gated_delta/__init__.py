"""Figures of the gated delta rule: its state, step by step, and how fast its forms are."""

from aiexplained.viz.gated_delta.speed import chunk_sizes, forms
from aiexplained.viz.gated_delta.state import state_steps

__all__ = ["chunk_sizes", "forms", "state_steps"]
