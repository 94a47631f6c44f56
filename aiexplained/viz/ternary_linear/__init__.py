"""Figures of the ternary linear layer: one row packed and multiplied, and how fast it is."""

from aiexplained.viz.ternary_linear.row import ternary_row
from aiexplained.viz.ternary_linear.speed import by_processor, bytes_and_time, rows_at_once

__all__ = ["by_processor", "bytes_and_time", "rows_at_once", "ternary_row"]
