"""Figures over a precomputed grid: the build runs the algorithm, the controls pick a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, CustomJS, CustomJSTickFormatter, Model, Select, Slider
from bokeh.models.widgets import RadioButtonGroup
from numpy.typing import ArrayLike

SWAP = """
let cell = 0;
controls.forEach((control, i) => {
  const state = control.options ? control.options.indexOf(control.value)
    : control.labels ? control.active : control.value;
  cell = cell * sizes[i] + state;
});
sources.forEach((source, i) => {
  const data = {...source.data};
  for (const [name, values] of Object.entries(grids[i])) {
    const rows = values.length / cells;
    data[name] = Array.isArray(values) ? values.slice(cell * rows, (cell + 1) * rows)
      : new Float32Array(values.buffer, values.byteOffset + 4 * cell * rows, rows);
  }
  source.data = data;
});
if (alts.length) alt.data = {text: [alts[cell]]};
"""
"""The one script of every grid: row-major cell number, then one slice per column."""


def index_slider(title: str, labels: Sequence[object], value: int = 0) -> Slider:
    """A slider over the positions of ``labels`` that shows the label, not the position.

    Args:
        title: What is chosen, with its unit.
        labels: What to show at positions 0, 1, …; at least two.
        value: Position at the start.

    Returns:
        A Bokeh slider whose ``value`` is the position.

    Raises:
        ValueError: if there are fewer than two labels, or ``value`` is not a position.
    """
    texts = [str(label) for label in labels]
    _check_choice("index_slider", texts, value)
    show_label = CustomJSTickFormatter(args={"labels": texts}, code="return labels[tick]")
    return Slider(
        title=title, start=0, end=len(texts) - 1, step=1, value=value, format=show_label,
        sizing_mode="stretch_width",
    )  # fmt: skip


def choice(title: str, labels: Sequence[object], active: int = 0) -> RadioButtonGroup:
    """Buttons of which one is chosen, with ``title`` above them and as their spoken name.

    Raises:
        ValueError: if there are fewer than two labels, or ``active`` is not a position.
    """
    texts = [str(label) for label in labels]
    _check_choice("choice", texts, active)
    return RadioButtonGroup(name=title, labels=texts, active=active, sizing_mode="stretch_width")


def bind_grid(
    controls: Sequence[Model],
    sources: Mapping[ColumnDataSource, Mapping[str, ArrayLike]],
    *,
    alt: ColumnDataSource | None = None,
    alts: ArrayLike | None = None,
) -> None:
    """Let ``controls`` choose which cell of a precomputed grid ``sources`` show.

    Args:
        controls: ``n`` controls with ``n1, n2, …`` states each: an :func:`index_slider` (or a
            slider from 0 in steps of 1), a :func:`choice`, or a ``Select``.
        sources: For each source, column to values of shape ``(n1, n2, …, rows)``. Numbers are
            kept as float32. Other columns of the source stay as they are and have as many rows.
        alt: The figure's :func:`~aiexplained.viz.alt_source`, if the finding changes.
        alts: Texts of shape ``(n1, n2, …)``; given together with ``alt``.

    Raises:
        TypeError: if a control is of another kind.
        ValueError: if a shape does not fit the controls or the source's other columns.
    """
    if (alt is None) != (alts is None):
        raise ValueError("bind_grid: alt and alts are given together")
    sizes = [_states(control) for control in controls]
    start = tuple(_state(control) for control in controls)
    grids = []
    for source, columns in sources.items():
        arrays = {name: _column(name, values, sizes) for name, values in columns.items()}
        _check_rows(source, arrays, len(sizes))
        source.data = dict(source.data) | {name: grid[start] for name, grid in arrays.items()}
        grids.append({name: _flat(grid) for name, grid in arrays.items()})
    texts = _texts(alts, sizes)
    if alt is not None:
        alt.data = {"text": [str(texts[start])]}
    swap = CustomJS(
        args={
            "controls": list(controls), "sizes": sizes, "cells": int(np.prod(sizes)),
            "sources": list(sources), "grids": grids, "alt": alt, "alts": texts.ravel().tolist(),
        },
        code=SWAP,
    )  # fmt: skip
    for control in controls:
        control.js_on_change("active" if isinstance(control, RadioButtonGroup) else "value", swap)


def _check_choice(caller: str, labels: list[str], position: int) -> None:
    if len(labels) < 2:
        raise ValueError(f"{caller} needs at least two labels, got {labels}")
    if not 0 <= position < len(labels):
        raise ValueError(f"{caller}: {position} is not a position among {len(labels)} labels")


def _states(control: Model) -> int:
    if isinstance(control, Slider):
        if control.start != 0 or control.step != 1:
            raise ValueError(
                "bind_grid: a slider counts 0, 1, … in steps of 1 (see index_slider), got "
                f"start={control.start}, step={control.step}"
            )
        return int(control.end) + 1
    if isinstance(control, RadioButtonGroup):
        return len(control.labels)
    if isinstance(control, Select):
        return len(_options(control))
    kind = type(control).__name__
    raise TypeError(f"bind_grid: a control is a Slider, RadioButtonGroup or Select, got {kind}")


def _state(control: Model) -> int:
    if isinstance(control, Select):
        return _options(control).index(control.value)
    value = control.active if isinstance(control, RadioButtonGroup) else control.value
    return int(value)


def _options(control: Select) -> list[str]:
    if not all(isinstance(option, str) for option in control.options):
        raise ValueError("bind_grid: options of a Select are plain strings")
    return list(control.options)


def _column(name: str, values: ArrayLike, sizes: list[int]) -> Any:
    grid = np.asarray(values)
    if grid.dtype.kind not in "OSU":
        grid = grid.astype(np.float32)
    if grid.ndim != len(sizes) + 1 or list(grid.shape[:-1]) != sizes:
        raise ValueError(
            f"bind_grid: column {name!r} must have shape {(*sizes, 'rows')}, got {grid.shape}"
        )
    return grid


def _check_rows(source: ColumnDataSource, arrays: Mapping[str, Any], axis: int) -> None:
    rows = {name: grid.shape[axis] for name, grid in arrays.items()}
    rows |= {name: len(column) for name, column in source.data.items() if name not in arrays}
    if len(set(rows.values())) > 1:
        raise ValueError(f"bind_grid: columns of one source need equally many rows, got {rows}")


def _flat(grid: Any) -> Any:
    flat = grid.ravel()
    return flat.tolist() if flat.dtype.kind in "OSU" else flat


def _texts(alts: ArrayLike | None, sizes: list[int]) -> Any:
    if alts is None:
        return np.array([], dtype=object)
    texts = np.asarray(alts, dtype=object)
    if list(texts.shape) != sizes:
        raise ValueError(f"bind_grid: alts must have shape {tuple(sizes)}, got {texts.shape}")
    return texts
