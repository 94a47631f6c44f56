"""Numbers that the page's sentences quote: computed in a cell, never typed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

HIDDEN = "application/papermill.record/"
"""Prefix that keeps an output off the page; the glue roles of MyST-NB still read it."""


def publish(**values: float | str) -> None:
    """Make values available to the page's text under their names.

    A sentence then says ``{glue:text}`ttft_cut:.1f```. On the site nothing else is shown; in a
    plain notebook, or without one, each value is printed as ``name = value``.

    Args:
        values: Finite numbers, or texts.

    Raises:
        TypeError: if a value is neither a number nor text.
        ValueError: if a number is not finite: a sentence must not say "nan".
    """
    plain = {name: _plain(name, value) for name, value in values.items()}
    width = max(map(len, plain), default=0)
    for name, value in plain.items():
        _display(name, value, f"{name:<{width}} = {value}")


def _plain(name: str, value: Any) -> float | str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"publish: {name} must be a number or text, got {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"publish: {name} must be finite, got {value}")
    return value


def _display(name: str, value: float | str, line: str) -> None:
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        print(line)
        return
    shell = get_ipython()
    if shell is None:
        print(line)
        return
    shell.display_pub.publish(
        data={f"{HIDDEN}text/plain": repr(value), "text/plain": line},
        metadata={"scrapbook": {"name": name, "mime_prefix": HIDDEN}},
    )
