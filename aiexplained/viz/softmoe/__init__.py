"""The figures of the page on SoftMoE. They take plain numbers.

Their rules run in the browser: ``rules/softmoe.js`` is soft and hard top-k with their gradients,
``rules/softmoe_view.js`` what the figures do with it; layer budgets have rules of their own.
"""

from aiexplained.viz.softmoe.budgets import compete
from aiexplained.viz.softmoe.curve import slide_the_curve
from aiexplained.viz.softmoe.journey import budget_journey
from aiexplained.viz.softmoe.nudge import nudge
from aiexplained.viz.softmoe.style import STYLE, View, curves

__all__ = ["STYLE", "View", "budget_journey", "compete", "curves", "nudge", "slide_the_curve"]
