"""The figures of the page on SubQ. They take plain numbers.

The matrix is chosen in the browser: ``rules/subq.js`` holds the selectors, ``rules/subq_view.js``
what the figure does with them.
"""

from aiexplained.viz.subq.matrix import selector_matrix

__all__ = ["selector_matrix"]
