"""How many weights become zero while a ternary model is trained, and which of a patch they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, LinearColorMapper, LinearInterpolator, Range1d
from numpy.typing import NDArray

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice, index_slider
from aiexplained.viz.parts import call_rule, fixed, legend_above, legend_columns
from aiexplained.viz.ternary_linear.row import LOOKS
from aiexplained.viz.theme import PALETTE, figure, follow_theme

CURVES = (
    (PALETTE["greedy"], "solid", "circle"),
    (PALETTE["warning"], "11 4", "square"),
    (PALETTE["reused"], "13 4 3 4", "triangle"),
    (PALETTE["retrieval"], "4 5", "inverted_triangle"),
)
"""Color, dash and marker of the runs, in their order."""

Run = Mapping[str, Any]
RULE = "ternary_mamba_drift"
THIN, THICK = 2, 4


def zero_drift(
    runs: Sequence[Run], *, patch: str, first: tuple[int, int] | None = None
) -> Explorable:
    """Share of zeros over training, and the codes of a patch at the step of the reader's choice.

    Args:
        runs: For each: ``label``; ``zeros``, a list of ``(step, share)`` with the mean over seeds,
            from 0 to 1; ``low`` and ``high``, the least and greatest share of any seed at those
            steps; ``codes``, an array ``(R, C)`` of -1, 0 and 1 at each step. All have the same
            steps and the same patch.
        patch: Which weights ``codes`` are.
        first: Positions of the controls at the start, run and step; default: the last of both.

    Raises:
        ValueError: if there are not two to four runs of different names, steps or shapes differ,
            a share is outside its spread or 0 to 1, or a code is not -1, 0 or 1.
    """
    steps, shares, codes = _checked(runs)
    labels = [run["label"] for run in runs]
    run, at = first or (len(runs) - 1, len(steps) - 1)
    texts = [f"{step:,}" for step in steps]
    pick = choice("Scales", labels, run)
    slider = index_slider("Training step", texts, at)
    height, width = codes.shape[2:]
    flat = codes.reshape(len(runs), len(steps), -1)
    cells = ColumnDataSource(
        {"x": np.tile(np.arange(width, dtype=np.int16) + 1, height),
         "y": np.repeat(np.arange(height, dtype=np.int16) + 1, width), "code": flat[run, at]},
        name="aix-patch",
    )  # fmt: skip
    now = ColumnDataSource({"x": [steps[at]], "y": [float(shares[run, 1, at])]}, name="aix-now")
    when = [f"after {text} steps" if step else "before training"
            for step, text in zip(steps, texts, strict=True)]  # fmt: skip
    told = {"labels": labels, "steps": texts, "when": when, "patch": patch}
    title, alt = _tell(told, shares, codes, run, at)
    caption = alt_source(alt)
    top = _curves(title, labels, steps, shares, now)
    lines = [top.select_one({"name": label}).glyph for label in labels]
    lines[run].line_width = THICK
    bottom = _patch(cells, patch, height, width)
    args = {
        **told, "pick": pick, "slider": slider, "shares": shares.ravel(), "at": steps,
        "codes": flat.transpose(2, 0, 1).ravel(), "shape": [height, width], "cells": cells,
        "now": now, "lines": lines, "thin": THIN, "thick": THICK, "title": top.title,
        "alt": caption,
    }  # fmt: skip
    # One callback for both: each would carry the codes again.
    draw = call_rule(RULE, "draw", args)
    pick.js_on_change("active", draw)
    slider.js_on_change("value", draw)
    for drawn in (*top.renderers, *bottom.renderers):
        # Nothing is selected or muted: glyphs for that would be a third of the document.
        drawn.update(nonselection_glyph=None, muted_glyph=None)
    return show(column(pick, slider, top, bottom), alt=caption, rules=[RULE])


def _checked(runs: Sequence[Run]) -> tuple[list[int], NDArray[Any], NDArray[np.int8]]:
    """Steps; low, mean and high in percent, ``(runs, 3, steps)``; codes ``(runs, steps, R, C)``.

    Raises:
        ValueError: as :func:`zero_drift` does.
    """
    labels = [run["label"] for run in runs]
    if not 2 <= len(labels) <= len(CURVES) or len(set(labels)) < len(labels):
        raise ValueError(f"zero_drift: two to {len(CURVES)} runs differ in name, got {labels}")
    steps = [index(step) for step, _ in runs[0]["zeros"]]
    shape = np.shape(runs[0]["codes"][0])
    for run in runs:
        own = [index(step) for step, _ in run["zeros"]]
        if own != steps or sorted(set(steps)) != steps or len(steps) < 2:
            raise ValueError(
                f"zero_drift: runs share two or more rising steps, {run['label']!r} has {own} and "
                f"{labels[0]!r} has {steps}"
            )
        sizes = {name: len(run[name]) for name in ("low", "high", "codes")}
        if set(sizes.values()) != {len(steps)}:
            raise ValueError(
                f"zero_drift: {run['label']!r} needs {len(steps)} of each, one a step, got {sizes}"
            )
        found = {np.shape(codes) for codes in run["codes"]}
        if len(shape) != 2 or found != {shape}:
            raise ValueError(
                f"zero_drift: all patches have one shape (R, C), {run['label']!r} has {found}"
            )
        _check_values(run)
    shares = [[run["low"], [share for _, share in run["zeros"]], run["high"]] for run in runs]
    return steps, 100 * np.array(shares), np.array([run["codes"] for run in runs], dtype=np.int8)


def _check_values(run: Run) -> None:
    for low, (step, mean), high in zip(run["low"], run["zeros"], run["high"], strict=True):
        if not 0 <= low <= mean <= high <= 1:
            raise ValueError(
                f"zero_drift: 0 <= low <= share <= high <= 1, but {run['label']!r} has "
                f"{low}, {mean}, {high} at step {step:g}"
            )
    odd = set(np.unique(run["codes"]).tolist()) - set(LOOKS)
    if odd:
        raise ValueError(f"zero_drift: codes are -1, 0 and 1, {run['label']!r} has {sorted(odd)}")


def _tell(told: Mapping[str, Any], shares: Any, codes: Any, run: int, at: int) -> tuple[str, str]:
    """Title and alternative as ``rules/ternary_mamba_drift.js`` makes them."""
    labels, when = told["labels"], told["when"][at]
    low, mean, high = (fixed(share, 1) for share in shares[run, :, at])
    count = {code: int((codes[run, at] == code).sum()) for code in LOOKS}
    others = "; ".join(
        f"{label} {fixed(shares[i, 1, at], 1)} %" for i, label in enumerate(labels) if i != run
    )
    height, width = codes.shape[2:]
    return (
        f"{labels[run]}: {fixed(shares[run, 1, at], 0)} % of the weights are zero {when}",
        f"{labels[run]}: {mean} % of the weights are zero {when} ({low} to {high} % over seeds), "
        f"{fixed(shares[run, 1, 0], 1)} % at step {told['steps'][0]}. At the same step: {others}. "
        f"Of the {height} x {width} weights of {told['patch']}, {count[0]} are zero, {count[1]} "
        f"are +1 and {count[-1]} are −1.",
    )


def _curves(
    title: str, labels: Sequence[str], steps: Sequence[int], shares: Any, now: ColumnDataSource
) -> Any:
    room = 0.08 * (shares.max() - shares.min() or 1)
    columns = legend_columns(labels)
    plot = figure(
        title, height=290 + 22 * -(-len(labels) // columns), x_axis_label="training step",
        y_axis_label="zeros (% of weights)",
        y_range=Range1d(max(shares.min() - room, -2), min(shares.max() + room, 102)),
    )  # fmt: skip
    plot.x_range.range_padding = 0.1
    plot.xaxis.ticker.desired_num_ticks = 5
    line = plot.vspan("x", source=now, line_width=1.5, line_dash="dotted")
    follow_theme(line.glyph, line_color="ink")
    for label, share, look in zip(labels, shares, CURVES, strict=False):
        _curve(plot, label, steps, share, look)
    ring = plot.scatter("x", "y", source=now, size=18, fill_color=None, line_width=2)
    follow_theme(ring.glyph, line_color="ink")
    legend_above(plot, columns)
    return plot


def _curve(
    plot: Any, label: str, steps: Sequence[int], shares: Any, look: tuple[str, str, str]
) -> None:
    color, dash, marker = look
    low, mean, high = (share.tolist() for share in shares)
    points = ColumnDataSource({"x": steps, "y": mean, "low": low, "high": high})
    heads = {"x": "step", "y": "zeros (%)", "low": "least (%)", "high": "most (%)"}
    data_table(points, f"Zeros, {label}", heads, name=f"zeros-{label.replace(' ', '-')}")
    plot.varea("x", "low", "high", source=points, fill_color=color, fill_alpha=0.2)
    plot.line("x", "y", source=points, line_width=THIN, line_color=color, line_dash=dash,
              legend_label=label, name=label)  # fmt: skip
    plot.scatter("x", "y", source=points, size=9, marker=marker, color=color, legend_label=label)


def _patch(cells: ColumnDataSource, patch: str, height: int, width: int) -> Any:
    plot = figure(
        f"Codes of {patch}", height=110 + min(14 * height, 300), x_axis_label="input",
        x_range=Range1d(0.5, width + 0.5), y_range=Range1d(height + 0.5, 0.5),
        y_axis_label="output",
    )  # fmt: skip
    plot.grid.visible = False
    plot.xaxis.ticker.desired_num_ticks = plot.yaxis.ticker.desired_num_ticks = 5
    colors = LinearColorMapper(palette=[LOOKS[c][1] for c in sorted(LOOKS)], low=-1.5, high=1.5)
    fill = {"field": "code", "transform": colors}
    plot.rect("x", "y", 1, 1, source=cells, line_color=None, fill_color=fill)
    # Stripes that all rectangles share are made once, so the others have no width.
    striped = {"field": "code", "transform": LinearInterpolator(x=[-1, 0, 1], y=[1, 0, 0])}
    plot.rect("x", "y", striped, 1, source=cells, line_color=None, fill_color=None,
              **LOOKS[-1][2])  # fmt: skip
    for label, color, look in LOOKS.values():
        # A legend shows the first row of its glyph: these stand outside the plot's ranges.
        plot.quad(left=[-9], right=[-8], bottom=[-9], top=[-8], fill_color=color, line_color=None,
                  legend_label=label, **look)  # fmt: skip
    legend_above(plot)
    return plot
