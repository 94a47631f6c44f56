"""The figures of the page on variable widths. They take plain numbers.

The stack of layers is solved in the browser: ``rules/variable_width.js`` is the solver,
``rules/variable_width_view.js`` what the figure does with it.
"""

from aiexplained.viz.variable_width.budget import layer_rates, two_layers
from aiexplained.viz.variable_width.results import loss_matched, seeds_by_arm
from aiexplained.viz.variable_width.stack import stack_of_layers
from aiexplained.viz.variable_width.stream import follow_coordinate

__all__ = [
    "follow_coordinate",
    "layer_rates",
    "loss_matched",
    "seeds_by_arm",
    "stack_of_layers",
    "two_layers",
]
