"""The figures of the page on block-list attention. They take plain numbers."""

from aiexplained.viz.block_list.reading import block_map
from aiexplained.viz.block_list.speed import Point, SpeedTable, series_of, speed

__all__ = ["Point", "SpeedTable", "block_map", "series_of", "speed"]
