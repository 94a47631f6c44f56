"""How layers came to share a budget while they were trained, in each of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, NumeralTickFormatter, Range1d
from numpy.typing import ArrayLike, NDArray

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice, index_slider
from aiexplained.viz.parts import call_rule, fixed, legend_above, legend_columns
from aiexplained.viz.softmoe.budgets import draw_bars
from aiexplained.viz.theme import PALETTE, figure, follow_theme

RULE = "softmoe_journey"
LAST = 0.3
"""Share of the layers, from the top, whose budgets are added up."""
APART = 0.5
"""Room that the marks of a layer take, in layers."""

Run = Mapping[str, Any]


def budget_journey(
    runs: Sequence[Run],
    *,
    steps: Sequence[int],
    floor: float = 1.0,
    reported_share: float | None = None,
    first: tuple[int, int] | None = None,
) -> Explorable:
    """Budgets of all layers at the reader's step, and the share of the last layers over training.

    Args:
        runs: For each: ``label``; ``budgets``, an array ``(steps, L)`` from the bottom layer.
        steps: When they were recorded, steps of training.
        floor: What every layer keeps in any case.
        reported_share: Share of the sum that the last layers take in the source, from 0 to 1.
        first: Positions of the controls at the start, run and step; default: the first run and the
            last step.

    Raises:
        ValueError: if there are fewer than two runs or names are equal, steps do not rise, budgets
            have another shape or fall below the floor, or the reported share is not a share.
    """
    at_steps, budgets = _checked(runs, steps, floor, reported_share)
    labels = [str(run["label"]) for run in runs]
    n_layers = budgets.shape[2]
    n_last = max(1, round(LAST * n_layers))
    shares = 100 * budgets[..., -n_last:].sum(axis=-1) / budgets.sum(axis=-1)
    run, at = first or (0, len(at_steps) - 1)
    texts = [f"{step:,}" for step in at_steps]
    pick, slider = choice("Run", labels, run), index_slider("Training step", texts, at)
    told = _told(labels, at_steps, n_last, n_layers, reported_share)
    title, alt = _tell(told, budgets, shares, run, at)
    caption = alt_source(alt)
    bars = ColumnDataSource({"layer": np.arange(n_layers) + 1, "budget": budgets[run, at].tolist()})
    data_table(bars, "Budgets at this step", {"layer": "layer", "budget": "budget"})
    marks = ColumnDataSource(_marks(np.delete(budgets[:, at], run, axis=0)), name="aix-others")
    now = ColumnDataSource({"x": [at_steps[at]], "y": [float(shares[run, at])]}, name="aix-now")
    chosen = ColumnDataSource({"x": at_steps, "y": shares[run].tolist()}, name="aix-run")
    top = _bars(title, bars, marks, floor, budgets.max())
    ends = {"even": 100 * n_last / n_layers}
    ends |= {} if reported_share is None else {"reported": 100 * reported_share}
    bottom = _lines(f"Budget of {told['who']}", labels, at_steps, shares, chosen, now, ends)
    args = {
        **told, "pick": pick, "slider": slider, "budgets": budgets.astype(np.float32).ravel(),
        "at": at_steps, "nLast": n_last, "apart": APART, "bars": bars, "marks": marks,
        "now": now, "chosen": chosen, "title": top.title, "alt": caption,
    }  # fmt: skip
    # One callback for both: each would carry the budgets again.
    draw = call_rule(RULE, "draw", args)
    pick.js_on_change("active", draw)
    slider.js_on_change("value", draw)
    for drawn in (*top.renderers, *bottom.renderers):
        # Nothing is selected or muted: glyphs for that would be a good part of the document.
        drawn.update(nonselection_glyph=None, muted_glyph=None)
    return show(column(pick, slider, top, bottom), alt=caption, rules=[RULE])


def _checked(
    runs: Sequence[Run], steps: Sequence[int], floor: float, reported: float | None
) -> tuple[list[int], NDArray[Any]]:
    """Steps; budgets ``(runs, steps, L)`` with the digits that the page carries.

    Raises:
        ValueError: as :func:`budget_journey` does.
    """
    labels = [run["label"] for run in runs]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"budget_journey: two runs or more that differ in name, got {labels}")
    found = [index(step) for step in steps]
    if sorted(set(found)) != found or len(found) < 2 or found[0] < 0:
        raise ValueError(f"budget_journey: two steps or more, rising from 0 on, got {found}")
    shape = np.shape(runs[0]["budgets"])
    if len(shape) != 2 or shape[0] != len(found) or shape[1] < 2:
        raise ValueError(
            f"budget_journey: budgets are ({len(found)}, L) with two layers or more, got {shape}"
        )
    for run in runs:
        _check_budgets(run["label"], run["budgets"], shape, floor)
    if reported is not None and not 0 <= reported <= 1:
        raise ValueError(f"budget_journey: a reported share is from 0 to 1, got {reported}")
    carried = np.array([run["budgets"] for run in runs], dtype=np.float32)
    return found, carried.astype(np.float64)


def _check_budgets(label: str, budgets: ArrayLike, shape: tuple[int, ...], floor: float) -> None:
    if np.shape(budgets) != shape:
        raise ValueError(
            f"budget_journey: all runs have budgets {shape}, {label!r} has {np.shape(budgets)}"
        )
    values = np.asarray(budgets, dtype=float)
    # A layer that has just its floor may lie below it by the rounding of a softmax in float32.
    if not (np.isfinite(values).all() and values.min() > 0 and values.min() >= floor - 1e-5):
        raise ValueError(
            f"budget_journey: budgets are finite, positive and at least the floor of {floor:g}, "
            f"{label!r} has {values.min():g}"
        )


def _told(
    labels: Sequence[str], steps: Sequence[int], n_last: int, n_layers: int, reported: float | None
) -> dict[str, Any]:
    """The words of title and alternative that Python and the page share."""
    last = "last" if n_last == 1 else f"last {n_last}"
    return {
        "labels": list(labels),
        "when": [f"After {step:,} steps" if step else "Before training" for step in steps],
        "who": f"the {last} of {n_layers} layers",
        "hold": "holds" if n_last == 1 else "hold",
        "other": f"{fixed(100 * n_last / n_layers, 1)} % if shared evenly"
        + ("" if reported is None else f", {fixed(100 * reported, 0)} % in the source"),
    }


def _tell(told: Mapping[str, Any], budgets: Any, shares: Any, run: int, at: int) -> tuple[str, str]:
    """Title and alternative as ``rules/softmoe_journey.js`` makes them."""
    who, hold, when = told["who"], told["hold"], told["when"][at]
    here = budgets[run, at]
    others = "; ".join(
        f"{label} {fixed(shares[i, at], 1)} %" for i, label in enumerate(told["labels"]) if i != run
    )
    return (
        f"{when} {who} {hold} {fixed(shares[run, at], 0)} %",
        f"{told['labels'][run]}: {when[0].lower()}{when[1:]} {who} {hold} "
        f"{fixed(shares[run, at], 1)} % of the budget ({told['other']}). Budgets from the bottom "
        f"layer: {', '.join(fixed(budget, 2) for budget in here)}. In the other runs: {others}.",
    )


def _marks(others: NDArray[Any]) -> dict[str, Any]:
    """Budgets ``(runs, L)`` of the runs that are not chosen, side by side within a layer."""
    n_runs, n_layers = others.shape
    place = APART * ((np.arange(n_runs) + 0.5) / n_runs - 0.5)
    return {
        "x": (place[:, None] + np.arange(n_layers) + 1).ravel().tolist(),
        "y": others.ravel().tolist(),
    }


def _bars(
    title: str, bars: ColumnDataSource, marks: ColumnDataSource, floor: float, highest: float
) -> Any:
    n_layers = len(bars.data["layer"])
    plot = figure(
        title, height=310, x_axis_label="layer", y_axis_label="budget",
        x_range=Range1d(0.5, n_layers + 0.5), y_range=Range1d(0, 1.08 * highest),
    )  # fmt: skip
    draw_bars(plot, bars, floor)
    other = plot.scatter("x", "y", source=marks, size=6, legend_label="other runs")
    follow_theme(other.glyph, fill_color="ink", line_color="paper")
    labels = [item.label.value for item in plot.legend[0].items]
    legend_above(plot, legend_columns(labels))
    return plot


def _lines(
    title: str,
    labels: Sequence[str],
    steps: Sequence[int],
    shares: NDArray[Any],
    chosen: ColumnDataSource,
    now: ColumnDataSource,
    ends: Mapping[str, float],
) -> Any:
    low, high = min(shares.min(), *ends.values()), max(shares.max(), *ends.values())
    room = 0.08 * (high - low or 1)
    plot = figure(
        title, height=320, x_axis_label="training step", y_axis_label="share of the sum (%)",
        y_range=Range1d(low - room, high + room),
        x_range=Range1d(*(steps[end] + sign * 0.04 * (steps[-1] - steps[0])
                          for end, sign in ((0, -1), (-1, 1)))),
    )  # fmt: skip
    plot.xaxis.update(formatter=NumeralTickFormatter(format="0,0"))
    plot.xaxis.ticker.desired_num_ticks = 4
    columns = {f"run{i}": share.tolist() for i, share in enumerate(shares)}
    every = ColumnDataSource({"step": steps, **columns})
    heads = {name: f"{label} (%)" for name, label in zip(columns, labels, strict=True)}
    data_table(every, "Share of the last layers", {"step": "training step", **heads})
    line = plot.vspan("x", source=now, line_width=1.5, line_dash="dotted")
    follow_theme(line.glyph, line_color="ink")
    for name in columns:
        plot.line("step", name, source=every, line_width=1.5, line_color=PALETTE["neutral"],
                  legend_label="other runs")  # fmt: skip
    plot.line("x", "y", source=chosen, line_width=4, line_color=PALETTE["greedy"],
              legend_label="this run")  # fmt: skip
    for (label, end), dash in zip(ends.items(), ("dashed", "dotted"), strict=False):
        level = plot.line([steps[0], steps[-1]], [end, end], line_width=2, line_dash=dash,
                          legend_label=f"{label}, {end:.0f} %")  # fmt: skip
        follow_theme(level.glyph, line_color="ink")
    ring = plot.scatter("x", "y", source=now, size=18, fill_color=None, line_width=2)
    follow_theme(ring.glyph, line_color="ink")
    legend_above(plot, legend_columns([item.label.value for item in plot.legend[0].items]))
    return plot
