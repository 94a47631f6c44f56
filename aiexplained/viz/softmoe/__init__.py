"""The figures of the page on SoftMoE. They take plain numbers."""

from aiexplained.viz.softmoe.budgets import compete
from aiexplained.viz.softmoe.journey import budget_journey

__all__ = [
    "budget_journey",
    "compete",
]
