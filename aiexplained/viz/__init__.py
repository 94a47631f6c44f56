"""Figures: takes numbers, returns things that a notebook cell displays. Bokeh, and no torch.

A cell ends in ``viz.show(model, alt=...)``. The same object works in JupyterLab, Colab, VS Code and
on the site, where one shared copy of BokehJS draws it when the reader comes near.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiexplained.viz.assets import static_files
    from aiexplained.viz.claims import ClaimsTable, claims_table
    from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
    from aiexplained.viz.glue import publish
    from aiexplained.viz.grid import bind_grid, choice, index_slider
    from aiexplained.viz.theme import PALETTE, dress, figure, follow_theme, ink_on

_HOME = {
    "static_files": "assets",
    "ClaimsTable": "claims",
    "claims_table": "claims",
    "Explorable": "explorable",
    "alt_source": "explorable",
    "data_table": "explorable",
    "show": "explorable",
    "bind_grid": "grid",
    "choice": "grid",
    "index_slider": "grid",
    "publish": "glue",
    "PALETTE": "theme",
    "dress": "theme",
    "figure": "theme",
    "follow_theme": "theme",
    "ink_on": "theme",
}

__all__ = [
    "PALETTE",
    "ClaimsTable",
    "Explorable",
    "alt_source",
    "bind_grid",
    "choice",
    "claims_table",
    "data_table",
    "dress",
    "figure",
    "follow_theme",
    "index_slider",
    "ink_on",
    "publish",
    "show",
    "static_files",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that a site build that renders stored outputs does not pay for importing Bokeh.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
