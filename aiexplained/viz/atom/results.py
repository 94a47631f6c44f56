"""Figures of recorded and measured numbers: one answer's tokens, where limits hold, a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, FixedTicker, Range1d, Span
from numpy.typing import ArrayLike

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice
from aiexplained.viz.parts import fixed, follow_title, legend_above, legend_columns, title_source
from aiexplained.viz.theme import INK, PALETTE, figure, follow_theme

STYLE: Mapping[str, tuple[str, str, str]] = {
    "colocated": (PALETTE["neutral"], "dashed", "square"),
    "chunked prefill": (PALETTE["retrieval"], "dotted", "triangle"),
    "two pools": (PALETTE["greedy"], "solid", "circle"),
}
"""Color, dash and marker of each system, for :func:`aiexplained.viz.curves.curves` too."""
TICKS = tuple(m * 10.0**e for e in range(-3, 4) for m in (1, 2, 5))
"""Marks of an axis of ratios."""


def staircase(
    rows: Mapping[str, Sequence[float]],
    *,
    title: str,
    alt: str,
    arrivals: Sequence[float] = (),
    arriving: str = "long prompt arrives",
) -> Explorable:
    """Tokens received against time, for one answer by several systems: a flat step is a stall.

    Args:
        rows: By system, when each token was received, in seconds, in order.
        title: The finding.
        alt: The finding in a sentence or two, with the numbers.
        arrivals: When something else arrived, in seconds.
        arriving: What that was.

    Raises:
        ValueError: if there is no system or one of no style, or its times are none, not finite or
            not in order.
    """
    if not rows or not set(rows) <= set(STYLE):
        raise ValueError(f"staircase: systems are of {list(STYLE)}, at least one, got {list(rows)}")
    for name, times in rows.items():
        steps = np.diff(np.asarray(times, dtype=float))
        if not len(times) or not np.isfinite(times).all() or (steps < 0).any():
            raise ValueError(f"staircase: times are finite and in order, those of {name!r} are not")
    plot = figure(title, height=360, x_axis_label="seconds", y_axis_label="tokens received")
    labels = list(rows)
    if len(arrivals):
        marks = ColumnDataSource({"x": list(arrivals)}, name="aix-arrivals")
        line = plot.ray("x", 0, length=0, angle=np.pi / 2, source=marks, line_width=1.2,
                        line_dash="dotdash", legend_label=arriving)  # fmt: skip
        follow_theme(line.glyph, line_color="muted")
        labels = [arriving, *labels]
    for name, times in rows.items():
        color, dash, marker = STYLE[name]
        source = ColumnDataSource({"x": list(times), "y": list(range(1, len(times) + 1))})
        data_table(source, name, {"x": "received (s)", "y": "token"})
        look = {"line_color": color, "legend_label": name}
        plot.step("x", "y", source=source, mode="after", line_width=2.5, line_dash=dash, **look)
        plot.scatter([times[-1]], [len(times)], size=10, marker=marker, fill_color=color, **look)
    entries = legend_columns(labels)
    legend_above(plot, entries)
    plot.height += 22 * -(-len(labels) // entries)
    return show(plot, alt=alt)


def feasible(
    regions: Mapping[str, Mapping[str, ArrayLike]],
    *,
    rates: Sequence[float],
    lengths: Sequence[int],
    titles: Sequence[str],
    alts: Sequence[str],
    share: float = 0.9,
    control: str = "The gap limit holds for",
) -> Explorable:
    """Where the limits hold: a picture a system, a cell a rate and a prompt length.

    Args:
        regions: By pace, by system: shares of requests within the limits, from 0 to 1, of shape
            ``(lengths, rates)``. All paces have the same systems.
        rates: Requests a second, of the columns.
        lengths: Tokens of a prompt, of the rows, from the bottom.
        titles: The finding by pace.
        alts: The same in a sentence or two, by pace.
        share: Cells with at least this share get a frame.
        control: Title of the buttons that choose the pace; there are none for one pace.

    Raises:
        ValueError: if there is no system, paces differ in theirs, a shape does not fit, or a share
            is outside [0, 1].
    """
    grid = _regions(regions, (len(lengths), len(rates)))
    if not len(regions) == len(titles) == len(alts):
        raise ValueError(
            f"feasible: {len(regions)} paces have a title and a caption each, got {len(titles)} "
            f"and {len(alts)}"
        )
    columns, lines = [f"{rate:g}" for rate in rates], [f"{n:,}" for n in lengths]
    caption, title = alt_source(alts[0]), title_source(titles[0])
    cells: dict[ColumnDataSource, Any] = {}
    plots = []
    for i, system in enumerate(next(iter(regions.values()))):
        values = grid[:, i].reshape(len(regions), -1)
        looks = {
            "share": 100 * values, "strength": 0.9 * values,
            "frame": np.where(values >= share - 1e-9, 1.0, 0.0),
            "text": np.array([[_below_100(v) for v in row] for row in values], dtype=object),
        }  # fmt: skip
        source = ColumnDataSource(
            {"length": np.repeat(lines, len(columns)).tolist(), "rate": columns * len(lines)}
            | {name: shown[0].tolist() for name, shown in looks.items()}
        )
        heads = {"rate": "requests/s", "length": "prompt (tokens)", "share": "within limits (%)"}
        data_table(source, system[0].upper() + system[1:], heads)
        cells[source] = looks
        plots.append(_map(system, source, columns, lines))
        if i == 0:
            _explain_frame(plots[0], share)
    controls = [choice(control, list(regions))] if len(regions) > 1 else []
    if controls:
        cells[title] = {"title": np.array([[text] for text in titles], dtype=object)}
        bind_grid(controls, cells, alt=caption, alts=list(alts))
    return show(column(*controls, _head(title), *plots), alt=caption)


def _below_100(share: float) -> str:
    text = fixed(100 * share, 0)
    return "" if text == "100" else text  # so that full cells show their color


def _regions(regions: Mapping[str, Mapping[str, ArrayLike]], shape: tuple[int, int]) -> np.ndarray:
    systems = list(next(iter(regions.values()), {}))
    if not systems:
        raise ValueError("feasible: there is at least one pace with one system, got none")
    for pace, own in regions.items():
        if list(own) != systems:
            raise ValueError(f"feasible: {pace!r} has systems {list(own)}, not {systems}")
        for system, values in own.items():
            given = np.asarray(values, dtype=float)
            if given.shape != shape:
                raise ValueError(
                    f"feasible: shares of {system!r} have shape (lengths, rates), {shape}, got "
                    f"{given.shape}"
                )
            if not ((given >= 0) & (given <= 1)).all():
                raise ValueError(f"feasible: shares are from 0 to 1, those of {system!r} are not")
    return np.array(
        [[np.asarray(own[s], dtype=float) for s in systems] for own in regions.values()]
    )


def _head(title: ColumnDataSource) -> Any:
    """A title for all pictures below it."""
    head = figure(" ", height=52, x_range=Range1d(0, 1), y_range=Range1d(0, 1))
    head.axis.visible = False
    head.grid.visible = False
    head.scatter([2], [2])  # a figure without a glyph is a warning
    follow_title(head, title)
    return head


def _map(system: str, source: ColumnDataSource, columns: list[str], lines: list[str]) -> Any:
    plot = figure(
        f"{system[0].upper()}{system[1:]} (%)", height=94 + 34 * len(lines),
        x_range=columns, y_range=lines, x_axis_label="requests a second",
        y_axis_label="prompt (tokens)",
    )  # fmt: skip
    plot.grid.visible = False
    ground = plot.rect("rate", "length", 0.96, 0.96, source=source, line_color=None)
    follow_theme(ground.glyph, fill_color="surface")
    plot.rect("rate", "length", 0.96, 0.96, source=source, fill_color=PALETTE["reused"],
              fill_alpha="strength", line_color=None)  # fmt: skip
    frame = plot.rect("rate", "length", 0.9, 0.86, source=source, fill_color=None, line_width=2.5,
                      line_color=INK, line_alpha="frame")  # fmt: skip
    follow_theme(frame.glyph, line_color="ink")
    plot.text(
        "rate", "length", "text", source=source, text_align="center", text_baseline="middle",
        text_font_size="13px", text_color="#000000", background_fill_color="#ffffff",
        background_fill_alpha=0.8, padding=2, border_radius=3,
    )  # fmt: skip
    return plot


def _explain_frame(plot: Any, share: float) -> None:
    key = plot.rect(
        [plot.x_range.factors[0]], [plot.y_range.factors[0]], 0, 0, fill_color=None,
        line_width=2.5, line_color=INK, legend_label=f"frame: {100 * share:g} % or more",
    )  # fmt: skip
    follow_theme(key.glyph, line_color="ink")
    legend_above(plot)
    plot.height += 26


def table_check(
    rows: Mapping[str, tuple[float, float]],
    *,
    title: str,
    alt: str,
    fitted: Collection[str] = (),
    against: str = "printed",
) -> Explorable:
    """Simulated over other numbers, on a logarithmic axis: 1 is equal.

    Args:
        rows: The other and the simulated number by name (with its unit), from the top; both
            positive.
        title: The finding.
        alt: The finding in a sentence or two, with the numbers.
        fitted: Names of those that the simulation was fitted to; their marks are hollow.
        against: What the others are, in a word.

    Raises:
        ValueError: if there is no row, a number is not positive and finite, or a fitted name is not
            among the rows.
    """
    if not rows or not set(fitted) <= set(rows):
        raise ValueError(f"table_check: fitted are of the rows {list(rows)}, got {list(fitted)}")
    for name, pair in rows.items():
        if not all(isfinite(value) and value > 0 for value in pair):
            raise ValueError(f"table_check: numbers are positive and finite, {name!r} has {pair}")
    ratios = [simulated / printed for printed, simulated in rows.values()]
    source = ColumnDataSource(
        {
            "name": list(rows), "y": list(range(len(rows))),
            "printed": [pair[0] for pair in rows.values()],
            "simulated": [pair[1] for pair in rows.values()], "ratio": ratios,
            "kind": ["fitted" if name in fitted else "predicted" for name in rows],
            "text": [f"× {fixed(ratio, 2)}" for ratio in ratios],
        }
    )  # fmt: skip
    data_table(source, f"{against.capitalize()} and simulated",
               {"name": "number", "printed": against, "simulated": "simulated",
                "ratio": f"simulated / {against}", "kind": "kind"})  # fmt: skip
    most = max(max(ratios), 1 / min(ratios), 2.0)
    ends = (1 / most / 1.6, most * 1.9)
    plot = figure(
        title, height=112 + 50 * len(rows), x_axis_type="log", x_range=Range1d(*ends),
        y_range=Range1d(len(rows) - 0.5, -0.8), x_axis_label=f"simulated / {against}",
        y_axis_location=None,
    )  # fmt: skip
    ticks = [tick for tick in TICKS if ends[0] <= tick <= ends[1]]
    plot.xaxis.update(ticker=FixedTicker(ticks=ticks),
                      major_label_overrides={tick: f"{tick:g}" for tick in ticks})  # fmt: skip
    plot.xgrid.ticker = FixedTicker(ticks=ticks)
    plot.ygrid.visible = False
    equal = Span(location=1, dimension="height", line_width=1.5, line_dash="dashed")
    plot.add_layout(follow_theme(equal, line_color="muted"))
    plot.text(x=ends[0], y="y", text="name", source=source, x_offset=4, y_offset=-17,
              text_baseline="middle", text_font_size="13px")  # fmt: skip
    color = PALETTE["greedy"]
    plot.segment(1, "y", "ratio", "y", source=source, line_width=2, line_color=color)
    for kind, marker in (("predicted", "circle"), ("fitted", "square")):
        own = [i for i, name in enumerate(source.data["kind"]) if name == kind]
        if own:
            mark = plot.scatter(
                [ratios[i] for i in own], own, size=12, marker=marker, line_width=2.5,
                line_color=color, fill_color=color, legend_label=kind,
            )  # fmt: skip
            if kind == "fitted":
                follow_theme(mark.glyph, fill_color="paper")
    plot.text(x=ends[1], y="y", text="text", source=source, x_offset=-4, text_align="right",
              text_baseline="middle", text_font_size="13px")  # fmt: skip
    legend_above(plot)
    return show(plot, alt=alt)
