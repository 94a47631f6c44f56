"""Who owns which coordinate of the residual stream, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import CDSView, ColumnDataSource, GroupFilter, LinearColorMapper, Range1d

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice, index_slider
from aiexplained.viz.parts import HATCH, follow_title, legend_above, title_source
from aiexplained.viz.theme import PALETTE, figure, follow_theme

RAMP = ("#a9c6f8", "#82abf2", "#5c8fea", "#2f6fe0", "#2359b8", "#184390")
"""From little to much work of earlier layers."""

READS, WAITS, GONE = "reads it", "waits, untouched", "thrown away"
MARKS = {READS: "circle", WAITS: "dash", GONE: "x"}


def follow_coordinate(
    found: Mapping[str, Sequence[Sequence[int]]], *, unit: int, first: int
) -> Explorable:
    """A map of layers against coordinates, and one coordinate to follow.

    Args:
        found: For each way to change the width, for each layer, what it finds in each group of
            coordinates that it reads: the number of earlier writers whose work is in there.
        unit: Coordinates in a group.
        first: Group that is followed at the start, from 0.
    """
    ways = list(found)
    widths = [len(layer) for layer in found[ways[0]]]
    n_layers, widest = len(widths), max(widths)
    layer = np.repeat(np.arange(n_layers), widths)
    group = np.concatenate([np.arange(w) for w in widths])
    work = np.array([np.concatenate([np.asarray(x) for x in found[way]]) for way in ways])
    cells = ColumnDataSource({"layer": layer + 1, "group": group + 0.5}, name="aix-cells")
    spans = [f"{unit * i + 1} to {unit * (i + 1)}" for i in range(widest)]
    way, slider = choice("Where the stream widens", ways), index_slider("Coordinates", spans, first)
    bind_grid([way], {cells: {"work": work, "empty": (work == 0).astype(float)}})
    states = _states(found, widest)
    titles, alts = _tell(found, states, spans)
    title, caption = title_source(titles[0, first]), alt_source(alts[0, first])
    path = ColumnDataSource({"layer": list(range(1, n_layers + 1))})
    marks = np.array([[[MARKS[state] for state in path_] for path_ in each] for each in states])
    place = np.broadcast_to(np.arange(widest)[None, :, None] + 0.5, marks.shape)
    bind_grid(
        [way, slider],
        {
            path: {"group": place, "mark": marks, "state": np.array(states)},
            title: {"title": titles[..., None]},
        },
        alt=caption,
        alts=alts,
    )
    data_table(path, "The coordinates that you follow", {"layer": "layer", "state": "what happens"})
    plot = _map(cells, path, (n_layers, widest), unit)
    follow_title(plot, title)
    return show(column(way, slider, plot), alt=caption)


def _states(found: Mapping[str, Sequence[Sequence[int]]], widest: int) -> list[list[list[str]]]:
    """What becomes of each group at each layer, for each way."""
    out = []
    for layers in found.values():
        returns = [_returns(layers, group) for group in range(widest)]
        out.append(
            [
                [
                    READS if group < len(layer) else WAITS if returns[group] else GONE
                    for layer in layers
                ]
                for group in range(widest)
            ]
        )
    return out


def _returns(layers: Sequence[Sequence[int]], group: int) -> bool:
    """Whether a group comes back with the work that was in it."""
    work = [layer[group] for layer in layers if group < len(layer)]
    return all(b > a for a, b in pairwise(work))


def _tell(
    found: Mapping[str, Sequence[Sequence[int]]], states: list[list[list[str]]], spans: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The title and the text alternative for each way and group."""
    told = [
        [
            _tell_one(way, layers, path, group, span)
            for group, (path, span) in enumerate(zip(states[i], spans, strict=True))
        ]
        for i, (way, layers) in enumerate(found.items())
    ]
    titles, alts = np.moveaxis(np.array(told, dtype=object), -1, 0)
    return titles, alts


def _tell_one(
    way: str, layers: Sequence[Sequence[int]], path: Sequence[str], group: int, span: str
) -> tuple[str, str]:
    away = [layer for layer, state in enumerate(path, 1) if state != READS]
    if not away:
        return (
            f"Coordinates {span} pass through every layer",
            f"{way}: every layer reads and writes coordinates {span}.",
        )
    last, back = away[0] - 1, away[-1] + 1
    layers_are = f"layer {away[0]} is" if len(away) == 1 else f"layers {away[0]} to {away[-1]} are"
    narrow = f"{way}: {layers_are} too narrow for coordinates {span}. "
    if path[away[0] - 1] == GONE:
        return (
            f"Coordinates {span} are thrown away after layer {last}",
            f"{narrow}Layer {back} finds zeros there.",
        )
    work = layers[back - 1][group]
    writers = f"{work} earlier writer{'s' * (work != 1)}"
    return (
        f"Coordinates {span} wait from layer {last} to layer {back}",
        f"{narrow}Layer {back} finds there, untouched, the work of {writers}.",
    )


def _map(cells: ColumnDataSource, path: ColumnDataSource, size: tuple[int, int], unit: int) -> Any:
    n_layers, widest = size
    plot = figure(
        " ", height=430, x_range=Range1d(0, widest), y_range=Range1d(0.4, n_layers + 0.6),
        x_axis_label=f"coordinates (groups of {unit})",
        y_axis_label="layer, from the input up",
    )  # fmt: skip
    plot.grid.visible = False
    most = max(cells.data["work"])
    mapper = LinearColorMapper(palette=RAMP, low=0.5, high=float(most) + 0.5)
    box = {"x": "group", "y": "layer", "source": cells, "width": 0.92, "height": 0.9}
    # The rim keeps pale cells apart from a light page and dark ones from a dark page.
    plot.rect(
        **box, fill_color={"field": "work", "transform": mapper}, line_color=PALETTE["greedy"]
    )
    view = CDSView(filter=GroupFilter(column_name="empty", group=1))
    plot.rect(**box, view=view, fill_color=PALETTE["computed"], line_color=None, **HATCH)
    outline = plot.scatter(
        "group", "layer", source=path, marker="mark", size=12, line_width=2.5, fill_color="#ffffff"
    )
    follow_theme(outline.glyph, line_color="ink")
    away = {"left": [-3], "right": [-2], "bottom": [-3], "top": [-2], "line_color": None}
    plot.quad(**away, fill_color=RAMP[1], legend_label="few writers")
    plot.quad(**away, fill_color=RAMP[-1], legend_label="many")
    plot.quad(**away, fill_color=PALETTE["computed"], legend_label="none: zero", **HATCH)
    legend_above(plot)
    return plot
