"""The figures of the page on SoftMoE. They take plain numbers.

Two of them compute in the browser: ``rules/softmoe.js`` is soft and hard top-k with their
gradients, ``rules/softmoe_view.js`` is what the figures do with it.
"""

from aiexplained.viz.softmoe.curve import slide_the_curve
from aiexplained.viz.softmoe.nudge import nudge

__all__ = [
    "nudge",
    "slide_the_curve",
]
