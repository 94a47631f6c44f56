"""What training said: differences by seed, and the loss-matched reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, Model, Range1d, Span

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice
from aiexplained.viz.parts import follow_title, legend_above, title_source
from aiexplained.viz.theme import PALETTE, figure, follow_theme

OURS, THEIRS = PALETTE["greedy"], PALETTE["computed"]


def seeds_by_arm(
    arms: Mapping[str, Sequence[float]],
    reported: Mapping[str, float],
    *,
    title: str,
    axis: str,
    alt: str,
) -> Explorable:
    """Differences to the uniform model, a row an arm, a dot a seed, beside the source's.

    Args:
        arms: Differences of each arm, one a seed; the first is drawn at the top.
        reported: The source's difference, for the arms where it gives one.
        title: The finding.
        axis: What the number is, with its unit.
        alt: The finding, in a sentence.
    """
    names = list(arms)[::-1]
    dots = ColumnDataSource(
        {"arm": [a for a in names for _ in arms[a]], "value": [v for a in names for v in arms[a]]},
        name="aix-dots",
    )
    means = ColumnDataSource(
        {
            "arm": names, "mean": [float(np.mean(arms[a])) for a in names],
            "low": [min(arms[a]) for a in names], "high": [max(arms[a]) for a in names],
            "seeds": [len(arms[a]) for a in names],
            "reported": [reported.get(a, float("nan")) for a in names],
        }
    )  # fmt: skip
    data_table(
        means, "Difference to the uniform model",
        {
            "arm": "model", "mean": f"{axis}, mean", "low": "lowest seed", "high": "highest seed",
            "seeds": "seeds", "reported": "source",
        },
    )  # fmt: skip
    every = [0.0, *dots.data["value"], *reported.values()]
    margin = 0.05 * (max(every) - min(every))
    plot = figure(
        title, height=90 + 46 * len(names), y_range=names, x_axis_label=axis,
        x_range=Range1d(min(every) - margin, max(every) + margin),
    )  # fmt: skip
    zero = Span(location=0, dimension="height", line_width=1.5)
    plot.add_layout(follow_theme(zero, line_color="muted"))
    plot.segment("low", "arm", "high", "arm", source=means, line_width=3, line_color=OURS)
    plot.scatter("value", "arm", source=dots, size=9, color=OURS, legend_label="a seed")
    plot.scatter(
        "mean", "arm", source=means, size=22, marker="dash", angle=np.pi / 2, line_width=4,
        line_color=OURS, legend_label="mean",
    )  # fmt: skip
    if reported:
        plot.scatter(
            "reported", "arm", source=means, size=12, marker="square", line_width=2,
            fill_color=None, line_color=THEIRS, legend_label="source",
        )  # fmt: skip
    plot.xaxis.ticker.desired_num_ticks = 4
    legend_above(plot)
    return show(plot, alt=alt)


def loss_matched(
    views: Mapping[str, Mapping[str, Any]], *, axis: str, loss_axis: str, name: str
) -> Explorable:
    """Loss against cost: the uniform models' curve, and another model read against it.

    Args:
        views: For each cost to choose from: ``uniform`` and ``other`` (``(cost, loss)`` of each
            run), ``curve`` (``(cost, loss)`` of its points), ``matched`` (cost of the uniform model
            that has the other's mean loss), ``title`` and ``alt``. Equally many points in each.
        axis: Name and unit of the cost.
        loss_axis: Name and unit of the loss.
        name: The other model.
    """
    all_views = list(views.values())
    title, caption = title_source(all_views[0]["title"]), alt_source(all_views[0]["alt"])
    sources = {
        key: ColumnDataSource({}, name=f"aix-{key}")
        for key in ("uniform", "other", "curve", "reading")
    }
    points = {key: np.array([_points(v, key) for v in all_views]) for key in sources}
    grid: dict[Model, dict[str, Any]] = {
        sources[key]: {"cost": xy[..., 0], "loss": xy[..., 1]} for key, xy in points.items()
    }
    grid[title] = {"title": np.array([v["title"] for v in all_views], dtype=object)[:, None]}
    pick = choice("Cost", list(views))
    bind_grid([pick], grid, alt=caption, alts=[v["alt"] for v in all_views])
    for key, label in (("uniform", "Uniform models"), ("other", name.capitalize())):
        data_table(sources[key], label, {"cost": axis, "loss": loss_axis})
    every = np.concatenate([xy.reshape(-1, 2) for xy in points.values()])
    low, high = every.min(axis=0), every.max(axis=0)
    margin = 0.06 * (high - low)
    x_range, y_range = (Range1d(*map(float, ends)) for ends in zip(low - margin, high + margin,
                                                                   strict=True))  # fmt: skip
    plot = figure(
        " ", height=380, x_axis_label=axis, y_axis_label=loss_axis, x_range=x_range,
        y_range=y_range,
    )  # fmt: skip
    _draw(plot, sources, name)
    follow_title(plot, title)
    return show(column(pick, plot), alt=caption)


def _points(view: Mapping[str, Any], key: str) -> Any:
    if key != "reading":
        return view[key]
    cost, loss = np.mean(view["other"], axis=0)
    return [(view["matched"], loss), (cost, loss)]


def _draw(plot: Any, sources: Mapping[str, ColumnDataSource], name: str) -> None:
    line = plot.line(
        "cost", "loss", source=sources["curve"], line_width=2, legend_label="fit to uniform"
    )
    follow_theme(line.glyph, line_color="ink")
    plot.scatter(
        "cost", "loss", source=sources["uniform"], size=9, marker="square", color=THEIRS,
        legend_label="uniform",
    )  # fmt: skip
    plot.line(
        "cost", "loss", source=sources["reading"], line_width=3, line_dash="dashed",
        line_color=PALETTE["warning"], legend_label="same loss",
    )  # fmt: skip
    plot.scatter("cost", "loss", source=sources["other"], size=11, color=OURS, legend_label=name)
    legend_above(plot)
    plot.legend[0].ncols = 2
