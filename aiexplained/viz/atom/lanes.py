"""Two lanes or one: what four engines do, second by second, and the gaps that readers wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, FixedTicker, Range1d, Slider
from numpy.typing import ArrayLike

from aiexplained.serving import unit_draws
from aiexplained.viz.atom.lanes_state import (
    EDGES_S,
    ENGINES,
    SYSTEMS,
    Shown,
    fleet_of,
    lane,
    serve,
    state_of,
)
from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice, index_slider
from aiexplained.viz.parts import HATCH, call_rule, legend_above, legend_columns
from aiexplained.viz.theme import PALETTE, figure, follow_theme

RULES = ("atom_scheduler", "atom", "atom_view")
PROMPTS = (256, 512, 1024, 2048, 4096, 8192, 16384)
ANSWERS = (16, 32, 64, 128, 256, 512)
BANDWIDTHS = (0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
CHUNKS = (256, 512, 1024, 2048, 4096)
RATES = (1.0, 12.0)
FOLLOWED = 40
"""Requests that can be followed, at most."""
FLOOR = 0.7
"""Lower end of the logarithmic axis of counts."""
MARKS = {
    "median": ("solid", "circle", 6e4),
    "p99": ("dashed", "diamond", 2.5e5),
    "worst": ("dotted", "triangle", 1e6),
}
"""Dash, marker and height of the marks on the axis of gaps."""


def lanes(
    draws: ArrayLike,
    *,
    cost: Mapping[str, float],
    link: Mapping[str, float],
    engine: Mapping[str, Any],
    first: Mapping[str, Any] | None = None,
) -> Explorable:
    """Four engines in time, colocated, with chunked prefill or in two pools; and all gaps.

    Args:
        draws: Uniform in [0, 1), ``(n, 3)``, as for :func:`~aiexplained.serving.drawn_requests`.
        cost: Fields of :class:`~aiexplained.serving.StepCost`.
        link: Fields of :class:`~aiexplained.serving.Link`; the bandwidth is the reader's.
        engine: Fields of :class:`~aiexplained.serving.EngineConfig`; policy and tokens a step are
            the reader's where prefill is chunked.
        first: What is chosen at the start, by the fields of
            :class:`~aiexplained.viz.atom.lanes_state.Shown`.

    Raises:
        ValueError: if there are fewer than two requests, a control has no such position, or prefix
            caching or the delay gate is asked for, which the page's rule lacks.
    """
    rows = unit_draws(draws)
    shown = replace(Shown(), **(first or {}))
    _check(shown, len(rows), engine)
    fleet = fleet_of(shown, cost, link, engine)
    state = state_of(serve(draws, shown, fleet), shown)
    controls = _controls(shown, len(rows))
    caption = alt_source(state["alt"])
    sources = _sources(state)
    top, bottom = _gantt(state, sources), _histogram(state, sources)
    args = {
        "rows": rows.ravel(), "cost": asdict(fleet.cost), "link": asdict(fleet.link),
        "engine": asdict(fleet_of(Shown(), cost, link, engine).engine), "controls": controls,
        "values": {"prompt": PROMPTS, "answer": ANSWERS, "bandwidth": BANDWIDTHS, "chunk": CHUNKS},
        "edges": EDGES_S, "floor": FLOOR, **sources, "range": top.x_range, "axis": top.yaxis[0],
        "title": top.title, "gapTitle": bottom.title, "alt": caption,
    }  # fmt: skip
    draw = call_rule("atom_view", "lanes", args)  # one for all: each would carry the draws again
    for name, control in controls.items():
        control.js_on_change("active" if name == "system" else "value", draw)
    for drawn in (*top.renderers, *bottom.renderers):
        # Nothing is selected or muted: glyphs for that would be a good part of the document.
        drawn.update(nonselection_glyph=None, muted_glyph=None)
    system, request, *others = controls.values()
    parts = [system, top, request, row(*others[:3]), row(*others[3:]), bottom]
    return show(column(*parts), alt=caption, rules=RULES)


def _check(shown: Shown, n: int, engine: Mapping[str, Any]) -> None:
    """As :func:`lanes` promises."""
    if n < 2:
        raise ValueError(f"lanes: two requests at least, got {n}")
    places: dict[str, tuple[Any, ...] | range] = {
        "system": SYSTEMS, "prompt": PROMPTS, "answer": ANSWERS, "bandwidth": BANDWIDTHS,
        "chunk": CHUNKS, "n_read": range(1, ENGINES), "request": range(1, min(n, FOLLOWED) + 1),
        "rate": tuple(np.arange(2 * RATES[0], 2 * RATES[1] + 1) / 2),
    }  # fmt: skip
    for name, values in places.items():
        if getattr(shown, name) not in values:
            raise ValueError(f"lanes: {name} is one of {values}, got {getattr(shown, name)!r}")
    if engine.get("prefix_caching") or engine.get("delay_factor"):
        raise ValueError("lanes: the page's rule has no prefix caching and no delay gate")


def _controls(shown: Shown, n: int) -> dict[str, Any]:
    two_pools = shown.system == "Two pools"
    controls = {
        "system": choice("System", SYSTEMS, SYSTEMS.index(shown.system)),
        "request": Slider(
            title="Request to follow", start=1, end=min(n, FOLLOWED), step=1, value=shown.request
        ),
        "rate": Slider(
            title="Requests a second", start=RATES[0], end=RATES[1], step=0.5, value=shown.rate
        ),
        "prompt": index_slider(
            "Prompt (tokens)", [f"{n:,}" for n in PROMPTS], PROMPTS.index(shown.prompt)
        ),
        "answer": index_slider("Answer (tokens)", ANSWERS, ANSWERS.index(shown.answer)),
        "n_read": Slider(
            title="Engines that read", start=1, end=ENGINES - 1, step=1,
            value=shown.n_read, visible=two_pools,
        ),
        "bandwidth": index_slider(
            "Link (GB/s)", BANDWIDTHS, BANDWIDTHS.index(shown.bandwidth)
        ),
        "chunk": index_slider(
            "Tokens a step", [f"{n:,}" for n in CHUNKS], CHUNKS.index(shown.chunk)
        ),
    }  # fmt: skip
    controls["bandwidth"].visible = two_pools
    controls["chunk"].visible = shown.system == "Chunked prefill"
    return controls


def _sources(state: Mapping[str, Any]) -> dict[str, ColumnDataSource]:
    drawn = ("reading", "writing", "trips", "outline", "trip", "wait", "tokens", "marks")
    sources = {
        name: ColumnDataSource(
            {key: np.asarray(values, dtype=np.float32) for key, values in state[name].items()},
            name=f"aix-{name}",
        )
        for name in drawn
    }
    edges = 1000 * np.array([0, *EDGES_S, np.inf])
    width = EDGES_S[1] / EDGES_S[0]
    sources["bins"] = ColumnDataSource(
        {
            "from": [f"{edge:.3g}" for edge in edges[:-1]],
            "to": [f"{edge:.3g}" for edge in edges[1:-1]] + ["more"],
            "left": 1000 * np.array([EDGES_S[0] / width, *EDGES_S]),
            "right": 1000 * np.array([*EDGES_S, EDGES_S[-1] * width]),
            "count": state["count"], "top": np.maximum(state["count"], FLOOR),
        }
    )  # fmt: skip
    data_table(
        sources["bins"], "Gaps between tokens, all requests",
        {"from": "from (ms)", "to": "to (ms)", "count": "gaps"},
    )  # fmt: skip
    times = {"engine": "engine", "left": "from (s)", "right": "to (s)"}
    data_table(
        sources["reading"], "Prompts read", times | {"tokens": "prompt tokens"}
    )  # fmt: skip
    data_table(sources["writing"], "Answers written", times | {"batch": "answers at once"})
    return sources


def _gantt(state: Mapping[str, Any], sources: Mapping[str, ColumnDataSource]) -> Any:
    plot = figure(
        state["title"], height=330, x_range=Range1d(*state["window"]),
        y_range=Range1d(-0.6, ENGINES + 0.6), x_axis_label="seconds",
    )  # fmt: skip
    plot.ygrid.visible = False
    plot.yaxis.update(
        ticker=FixedTicker(ticks=[*range(ENGINES + 1)]),
        major_label_overrides={lane(i): name for i, name in enumerate(state["names"])},
    )
    box = {"left": "left", "right": "right", "bottom": "bottom", "top": "top"}
    plot.quad(
        **box, source=sources["reading"], fill_color=PALETTE["computed"], line_color=None,
        legend_label="reading", **HATCH,
    )  # fmt: skip
    plot.quad(
        **box, source=sources["writing"], fill_color=PALETTE["reused"], line_color=None,
        legend_label="writing",
    )  # fmt: skip
    trip = {"x0": "start", "y0": "source", "x1": "end", "y1": "target"}
    link = {"line_color": PALETTE["greedy"], "line_width": 2}
    plot.segment(**trip, source=sources["trips"], **link)
    # A legend shows the first row, and there may be none: a line outside the ranges stands for it.
    plot.line([-2, -1], [-2, -2], legend_label="on the link", **link)
    ink = [
        plot.quad(**box, source=sources["outline"], fill_color=None, line_width=2.5,
                  legend_label="followed"),
        plot.segment(**trip, source=sources["trip"], line_width=4),
        plot.segment(x0="time", x1="time", y0=-0.3, y1=0.3, source=sources["tokens"]),
        plot.segment(x0="arrival", x1="first", y0=0, y1=0, source=sources["wait"],
                     line_width=2, line_dash="dotted"),
    ]  # fmt: skip
    for renderer in ink:
        follow_theme(renderer.glyph, line_color="ink")
    arrival = plot.scatter("arrival", 0, source=sources["wait"], size=9, marker="triangle")
    follow_theme(arrival.glyph, line_color="ink", fill_color="ink")
    labels = [item.label.value for item in plot.legend[0].items]
    legend_above(plot, legend_columns(labels))
    return plot


def _histogram(state: Mapping[str, Any], sources: Mapping[str, ColumnDataSource]) -> Any:
    bins = sources["bins"].data
    plot = figure(
        state["gap_title"], height=270, x_axis_type="log", y_axis_type="log",
        x_range=Range1d(bins["left"][0], bins["right"][-1]), y_range=Range1d(FLOOR, 3e6),
        x_axis_label="time between neighboring tokens", y_axis_label="gaps",
    )  # fmt: skip
    plot.grid.minor_grid_line_color = None
    plot.xaxis.update(
        ticker=FixedTicker(ticks=[1, 10, 100, 1000, 10_000]),
        major_label_overrides={
            1: "1 ms", 10: "10 ms", 100: "100 ms", 1000: "1 s", 10_000: "10 s",
        },
    )  # fmt: skip
    plot.yaxis.update(
        ticker=FixedTicker(ticks=[1, 100, 10_000]),
        major_label_overrides={1: "1", 100: "100", 10_000: "10,000"},
    )
    plot.quad(
        left="left", right="right", bottom=FLOOR, top="top", source=sources["bins"],
        fill_color=PALETTE["reused"], line_color=None,
    )  # fmt: skip
    for name, (dash, marker, height) in MARKS.items():
        line = plot.segment(
            x0=name, x1=name, y0=FLOOR, y1=height, source=sources["marks"], line_width=2,
            line_dash=dash, legend_label=name,
        )  # fmt: skip
        head = plot.scatter(
            name, height, source=sources["marks"], size=11, marker=marker, legend_label=name
        )
        follow_theme(line.glyph, line_color="ink")
        follow_theme(head.glyph, line_color="ink", fill_color="ink")
    legend_above(plot)
    return plot
