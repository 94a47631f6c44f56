"""Figures of measured results: an order a row, a workload a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool, Model, Range1d

from aiexplained.viz.cacheweaver.style import COLORS, LABELS
from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice
from aiexplained.viz.parts import legend_above
from aiexplained.viz.theme import PALETTE, figure, follow_theme


def ttft_by_order(
    results: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    *,
    title: str,
    alts: Sequence[str],
) -> Explorable:
    """Median and 90th percentile of the time to first token, a row an order.

    Args:
        results: For each trace, for each order: ``median_s`` and ``p90_s``, an entry a seed.
        title: The finding.
        alts: The finding in each trace.
    """
    kinds = list(results)
    orders = list(next(iter(results.values())))[::-1]
    grid = {
        key: [[reduce(results[kind][o][column_]) for o in orders] for kind in kinds]
        for key, column_, reduce in (
            ("median", "median_s", np.mean), ("low", "median_s", np.min),
            ("high", "median_s", np.max), ("p90", "p90_s", np.mean),
        )
    }  # fmt: skip
    names = [LABELS[o] for o in orders]
    source = ColumnDataSource({"order": names, "color": [COLORS[o] for o in orders]})
    pick, caption = choice("Trace", kinds), alt_source(alts[0])
    bind_grid([pick], {source: grid}, alt=caption, alts=list(alts))
    data_table(
        source, "Time to first token by order",
        {
            "order": "order", "median": "median (s), mean over seeds", "low": "lowest seed (s)",
            "high": "highest seed (s)", "p90": "90th percentile (s)",
        },
    )  # fmt: skip
    plot = figure(title, height=320, y_range=names, x_axis_label="seconds to first token")
    plot.x_range.start = 0
    plot.x_range.range_padding = 0.12
    plot.segment("median", "order", "p90", "order", source=source, line_color="color", line_width=2,
                 line_dash="dotted")  # fmt: skip
    plot.segment("low", "order", "high", "order", source=source, line_color="color", line_width=8,
                 line_alpha=0.4)  # fmt: skip
    plot.scatter("median", "order", source=source, size=13, color="color", legend_label="median")
    plot.scatter(
        "p90", "order", source=source, size=11, marker="diamond", fill_color=None,
        line_color="color", line_width=2, legend_label="90th percentile",
    )  # fmt: skip
    legend_above(plot)
    return show(column(pick, plot), alt=caption)


def share_by_order(
    results: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str,
    axis: str,
    alts: Sequence[str],
) -> Explorable:
    """Bars with a spread: one number for each order, a state for each workload.

    Args:
        results: For each workload, for each order: percentages, an entry a seed.
        title: The finding.
        axis: What the number is, with its unit.
        alts: The finding for each workload.
    """
    kinds = list(results)
    orders = list(next(iter(results.values())))[::-1]
    names = [LABELS[o] for o in orders]
    grid = {
        key: [[reduce(results[kind][o]) for o in orders] for kind in kinds]
        for key, reduce in (("mean", np.mean), ("low", np.min), ("high", np.max))
    }
    source = ColumnDataSource({"order": names, "color": [COLORS[o] for o in orders]})
    pick, caption = choice("Workload", kinds), alt_source(alts[0])
    bind_grid([pick], {source: grid}, alt=caption, alts=list(alts))
    data_table(
        source,
        axis,
        {"order": "order", "mean": f"{axis}, mean", "low": "lowest", "high": "highest"},
    )
    top = 1.08 * max(max(max(values) for values in grid["high"]), 1e-9)
    plot = figure(title, height=300, y_range=names, x_axis_label=axis, x_range=Range1d(0, top))
    plot.ygrid.visible = False
    plot.hbar(y="order", right="mean", height=0.62, source=source, color="color", line_color=None)
    spread = plot.segment("low", "order", "high", "order", source=source, line_width=3)
    follow_theme(spread.glyph, line_color="ink")
    return show(column(pick, plot), alt=caption)


def differences(
    labels: Sequence[str],
    values: Sequence[tuple[float, float, float]],
    *,
    title: str,
    axis: str,
    alt: str,
) -> Explorable:
    """Means with intervals against zero, a row each.

    Args:
        labels: Row names, from the top.
        values: ``(mean, low, high)`` of each row.
        title: The finding.
        axis: What the number is, with its unit.
        alt: The finding, in a sentence.
    """
    mean, low, high = (list(column_)[::-1] for column_ in zip(*values, strict=True))
    names = list(labels)[::-1]
    data = {"row": names, "mean": mean, "low": low, "high": high}
    headers = {"row": "prompt", "mean": axis, "low": "interval, low", "high": "interval, high"}
    source = data_table(ColumnDataSource(data), title, headers)
    plot = figure(title, height=60 + 34 * len(names), y_range=names, x_axis_label=axis)
    zero = plot.ray(x=0, y=0, length=0, angle=np.pi / 2, line_width=1.5)
    follow_theme(zero.glyph, line_color="muted")
    plot.segment(
        "low", "row", "high", "row", source=source, line_width=3, line_color=PALETTE["greedy"]
    )
    plot.scatter("mean", "row", source=source, size=11, color=PALETTE["greedy"])
    plot.add_tools(HoverTool(tooltips=[("mean", "@mean{0.000}")]))
    return show(plot, alt=alt)


def sweeps(
    results: Mapping[str, Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]]],
    xs: Mapping[str, Sequence[float]],
    *,
    alts: Sequence[str],
) -> Explorable:
    """Gain in cached share against one setting at a time, a line an order.

    Args:
        results: For each swept setting, for each order: ``points``, ``(mean, low, high)`` at each
            of its values, in percentage points above retrieval order.
        xs: The values of each setting, equally many.
        alts: The finding for each setting.
    """
    settings = list(results)
    orders = list(results[settings[0]])
    pick, caption = choice("What changes", settings), alt_source(alts[0])
    plot = figure("Where weaving gains, and how much", height=320, y_axis_label="gain (points)",
                  x_axis_label="value of the setting")  # fmt: skip
    ticks = [[f"{x:g}" for x in xs[s]] for s in settings]
    sources: dict[Model, dict[str, Any]] = {}
    for i, order in enumerate(orders):
        points = np.array([results[s][order]["points"] for s in settings])
        source = ColumnDataSource({"x": list(range(points.shape[1]))})
        sources[source] = {
            "at": np.array(ticks, dtype=object), "gain": points[:, :, 0], "low": points[:, :, 1],
            "high": points[:, :, 2],
        }  # fmt: skip
        style = {"color": COLORS[order], "legend_label": LABELS[order]}
        dash = ("solid", "dashed", "dotted", "dotdash")[i % 4]
        marker = ("circle", "square", "triangle", "diamond")[i % 4]
        plot.line("x", "gain", source=source, line_width=2.5, line_dash=dash, **style)
        plot.scatter("x", "gain", source=source, size=9, marker=marker, **style)
        plot.segment("x", "low", "x", "high", source=source, line_width=2, color=COLORS[order])
        if i == 0:
            plot.text("x", 0, "at", source=source, text_align="center", y_offset=18,
                      text_font_size="13px")  # fmt: skip
    bind_grid([pick], sources, alt=caption, alts=list(alts))
    for source, order in zip(sources, orders, strict=True):
        data_table(source, LABELS[order], {"at": "value", "gain": "gain (points)"}, name=order)
    legend_above(plot)
    return show(column(pick, plot), alt=caption)
