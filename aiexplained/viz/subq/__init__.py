"""The figures of the page on SubQ. They take plain numbers.

The matrix is chosen in the browser: ``rules/subq.js`` holds the selectors, ``rules/subq_view.js``
what the figure does with them.
"""

from aiexplained.viz.curves import View
from aiexplained.viz.subq.curves import curves
from aiexplained.viz.subq.lengths import length_law
from aiexplained.viz.subq.matrix import selector_matrix
from aiexplained.viz.subq.recall import needle_recall

__all__ = ["View", "curves", "length_law", "needle_recall", "selector_matrix"]
