"""The Laplace curve of soft top-k over the scores of a token's experts, to be slid by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.core.properties import field
from bokeh.layouts import column, row
from bokeh.models import (
    Arrow,
    ColumnDataSource,
    FixedTicker,
    NormalHead,
    Range1d,
    Slider,
    Span,
)
from numpy.typing import ArrayLike, NDArray

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice, index_slider
from aiexplained.viz.parts import HATCH, call_rule, draw_first, legend_above, legend_columns
from aiexplained.viz.softmoe.shown import (
    NAMES,
    RULES,
    STEP,
    TEMPERATURES,
    check_first,
    check_scores,
    listed,
    two,
)
from aiexplained.viz.theme import PALETTE, figure, follow_theme

REACH = 3
"""Largest score on either side of zero."""

EDGE = 3.15
"""Ends of the axis of scores: a mark at its end is seen whole."""

EXPANSION = 2.0
"""At most this many times ``k`` experts run."""

GAIN = 0.25
"""Growth of ``k`` that the arrows show."""

RUNS, RESTS, NONE = PALETTE["greedy"], PALETTE["neutral"], "#00000000"
ARROW, HARD = PALETTE["computed"], PALETTE["computed"]
LARGE, SMALL = 17, 11
"""Pixels of the mark in hand, and of the others."""


def slide_the_curve(
    scores: ArrayLike,
    *,
    k: float,
    temperature: float,
    first: Mapping[str, Any],
    cut: float = 1.8,
) -> Explorable:
    """The experts' weights as heights of a curve, which slides until they sum to ``k``.

    The rule runs in the page. Experts are dragged, or moved by a slider.

    Args:
        scores: Scores of the experts ``(E,)``, multiples of 0.05 from -3 to 3.
        k: Sum of the weights, a multiple of 0.05 from 0.25 to ``E - 0.25``.
        temperature: Width of the curve, one of :data:`TEMPERATURES`.
        first: The first state, from Python: ``threshold``, the score that the curve is centered on;
            and, each ``(E,)``, ``weights``; ``kept``, the same after the cut; ``shares``, the
            derivatives of the weights by ``k``; ``hard``, the weights under hard top-k with ``k``
            rounded (a half up, at least 1).
        cut: What a weight must reach for its expert to run, in units of ``k / E``, a multiple of
            0.1 up to 3; at least one expert runs, at most twice ``k``.

    Raises:
        ValueError: if a number is not on its slider, a shape does not fit, or the first state's
            weights do not sum to ``k``.
    """
    given = check_scores("slide_the_curve", scores, temperature, reach=REACH)
    known = _check(given, k, cut, first)
    state = _first_state(given, k, temperature, cut, known)
    caption = alt_source(state["alt"])
    sources = {
        "experts": ColumnDataSource(state["experts"]),
        "curve": ColumnDataSource({"x": [], "y": []}, name="aix-curve"),
        "thresholdMark": ColumnDataSource(state["threshold_mark"], name="aix-threshold"),
        "cutMark": ColumnDataSource(state["cut_mark"], name="aix-cut"),
    }
    data_table(sources["experts"], "The experts",
               {"expert": "expert", "score": "score", "weight": "weight", "runs": "runs",
                "share": "gain for each unit of k", "hard": "hard weight"})  # fmt: skip
    controls = _controls(given, k, temperature, cut)
    plot, spans = _plot(sources, state)
    bars = _bars(sources["experts"], state["bars_title"])
    args = {
        **controls, **sources, **spans, "temperatures": list(TEMPERATURES), "reach": REACH,
        "expansion": EXPANSION, "gain": GAIN, "title": plot.title, "barsTitle": bars.title,
        "colors": {"runs": RUNS, "rests": RESTS, "none": NONE}, "alt": caption,
    }  # fmt: skip

    draw, pick, move, grab, drag = (
        call_rule(RULES[1], name, args, tail)
        for name, tail in (
            ("drawCurve", ""), ("pickExpert", ""), ("moveExpert", ""), ("grabExpert", ", cb_obj"),
            ("dragExpert", ", cb_obj"),
        )
    )  # fmt: skip
    for name in ("k", "temperature", "cut"):
        controls[name].js_on_change("value", draw)
    controls["expert"].js_on_change("active", pick)
    controls["score"].js_on_change("value", move)
    for gesture, answer in (("tap", grab), ("panstart", grab), ("pan", drag)):
        plot.js_on_event(gesture, answer)
    draw_first(plot, draw)
    above = row(*(controls[name] for name in ("k", "temperature", "cut")))
    return show(
        column(above, plot, controls["expert"], controls["score"], bars), alt=caption, rules=RULES
    )


def _check(
    scores: NDArray[np.float64], k: float, cut: float, first: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    n = len(scores)
    for name, number, step, low, high in (
        ("k", k, STEP, 0.25, n - 0.25), ("cut", cut, 0.1, 0, 3),
    ):  # fmt: skip
        if not low <= number <= high or abs(number / step - round(number / step)) > 1e-6:
            raise ValueError(
                f"slide_the_curve: {name} is a multiple of {step} from {low} to {high}, "
                f"got {number}"
            )
    lengths = dict.fromkeys(("weights", "kept", "shares", "hard"), n)
    known = check_first("slide_the_curve", first, lengths)
    threshold = {"threshold": [first.get("threshold", math.nan)]}
    known |= check_first("slide_the_curve", threshold, {"threshold": 1})
    if abs(known["weights"].sum() - k) > 1e-6 * n:
        raise ValueError(
            f"slide_the_curve: the first weights sum to k = {k}, got {known['weights'].sum()}"
        )
    if not np.isin(known["kept"] / known["weights"], (0, 1)).all():
        raise ValueError(
            f"slide_the_curve: each kept weight is the weight or 0, got {known['kept'].tolist()}"
        )
    rank = _rank(k, n)
    if np.count_nonzero(known["hard"]) != rank:
        raise ValueError(
            f"slide_the_curve: {rank} of the first hard weights are not zero, got "
            f"{known['hard'].tolist()}"
        )
    return known


def _rank(k: float, n: int) -> int:
    return min(max(math.floor(k + 0.5), 1), n)


def _controls(
    scores: NDArray[np.float64], k: float, temperature: float, cut: float
) -> dict[str, Any]:
    n = len(scores)
    return {
        "k": Slider(title="Budget k", start=0.25, end=n - 0.25, step=STEP, value=k, format="0.00"),
        "temperature": index_slider("Temperature", TEMPERATURES, TEMPERATURES.index(temperature)),
        "cut": Slider(title="Cut (times k/E)", start=0, end=3, step=0.1, value=cut, format="0.0"),
        "expert": choice("Expert", NAMES[:n]),
        "score": Slider(title="Its score", start=-REACH, end=REACH, step=STEP,
                        value=float(scores[0]), format="0.00"),
    }  # fmt: skip


def _first_state(
    scores: NDArray[np.float64], k: float, temperature: float, cut: float,
    known: Mapping[str, NDArray[np.float64]],
) -> dict[str, Any]:  # fmt: skip
    """Data and texts as ``rules/softmoe_view.js`` makes them."""
    n = len(scores)
    weights, shares, runs = known["weights"], known["shares"], known["kept"] > 0
    ordered = np.sort(weights)[::-1]
    most = min(max(math.ceil(EXPANSION * k - 1e-5), 1), n)
    line = min(max(cut * k / n, float(ordered[most - 1])), float(ordered[0]))
    return {
        "experts": {
            "expert": list(NAMES[:n]), "score": scores.tolist(), "weight": weights.tolist(),
            "share": shares.tolist(), "hard": known["hard"].tolist(),
            "runs": ["yes" if run else "no" for run in runs],
            "fill": [RUNS if run else NONE for run in runs],
            "line": [RUNS if run else RESTS for run in runs],
            "size": [LARGE] + [SMALL] * (n - 1), "tip": (weights + GAIN * shares).tolist(),
            "head": np.minimum(8, 40 * shares).tolist(), "letter": _letters(scores),
            "at_soft": [i - 0.2 for i in range(n)], "at_hard": [i + 0.2 for i in range(n)],
        },
        "threshold_mark": _threshold_mark(float(known["threshold"][0])),
        "threshold_seen": bool(abs(known["threshold"][0]) <= REACH),
        "cut_mark": {"x": [-REACH], "y": [line], "text": [f"cut {two(line)}"]},
        "title": f"k = {two(k)}: all weights sum to {two(weights.sum())}, {sum(runs)} of {n} "
        f"expert{'s run' if sum(runs) != 1 else 's runs'}",
        "bars_title": f"Sum of those that run: soft {two(known['kept'].sum())}, hard top-"
        f"{_rank(k, n)} {two(known['hard'].sum())}",
        "alt": _alt(k, temperature, line, known),
    }  # fmt: skip


def _letters(scores: NDArray[np.float64]) -> list[float]:
    """Heights of the letters: those of experts with near scores stand in rows."""
    ends, places = [-math.inf] * 3, [0.0] * len(scores)
    for i in np.argsort(scores, kind="stable"):
        free = [at for at, end in enumerate(ends) if scores[i] - end >= 0.3]
        at = free[0] if free else ends.index(min(ends))
        ends[at] = scores[i]
        places[i] = -0.03 - 0.08 * at
    return places


def _threshold_mark(threshold: float) -> dict[str, list[Any]]:
    text, right = f"threshold {two(threshold)}", threshold > 0
    if abs(threshold) > REACH:
        text = f"{text} →" if right else f"← {text}"
    return {
        "x": [min(max(threshold, -REACH), REACH)], "y": [TOP], "text": [text],
        "align": ["right" if right else "left"], "offset": [-6 if right else 6],
    }  # fmt: skip


def _alt(
    k: float, temperature: float, line: float, known: Mapping[str, NDArray[np.float64]]
) -> str:
    weights, kept, hard = known["weights"], known["kept"], known["hard"]
    runs, most = int((kept > 0).sum()), int(known["shares"].argmax())

    def named(values: NDArray[np.float64]) -> str:
        return listed([name for name, value in zip(NAMES, values, strict=False) if value > 0])

    (center,) = known["threshold"].tolist()
    return (
        f"k = {two(k)}, temperature {temperature:g}: the curve is centered on score "
        f"{two(center)}, and the weights of all {len(weights)} experts sum to "
        f"{two(weights.sum())}. {runs} reach{'es' if runs == 1 else ''} the cut at {two(line)} "
        f"and run{'s' if runs == 1 else ''}: {named(kept)}, with {two(kept.sum())} in sum. If k "
        f"grows, {NAMES[most]} gains most, {two(known['shares'][most])} for each unit of k. Hard "
        f"top-{_rank(k, len(weights))} runs {named(hard)}, with {two(hard.sum())} in sum."
    )


TOP, BOTTOM = 1.22, -0.28
"""Ends of the axis of weights: room for the threshold's name above, for the letters below."""


def _plot(
    sources: Mapping[str, ColumnDataSource], state: Mapping[str, Any]
) -> tuple[Any, dict[str, Span]]:
    plot = figure(
        state["title"], height=380, x_range=Range1d(-EDGE, EDGE), y_range=Range1d(BOTTOM, TOP),
        x_axis_label="score", y_axis_label="weight", frame_align=False,
    )  # fmt: skip
    plot.grid.visible = False
    plot.yaxis.ticker = FixedTicker(ticks=[0, 0.25, 0.5, 0.75, 1])
    zero = Span(location=0, dimension="width", line_width=1)
    plot.add_layout(follow_theme(zero, line_color="muted"))
    curve = plot.line("x", "y", source=sources["curve"], line_width=2)
    follow_theme(curve.glyph, line_color="muted")
    spans = _guides(plot, sources, state)
    experts = sources["experts"]
    plot.segment("score", 0, "score", "weight", source=experts, line_color="line", line_width=3)
    head = NormalHead(size=field("head"), fill_color=ARROW, line_color=ARROW)
    plot.add_layout(
        Arrow(end=head, x_start="score", y_start="weight", x_end="score", y_end="tip",
              source=experts, line_color=ARROW, line_width=2)
    )  # fmt: skip
    plot.scatter("score", "weight", source=experts, size="size", fill_color="fill",
                 line_color="line", line_width=2)  # fmt: skip
    plot.text("score", "letter", "expert", source=experts, text_align="center",
              text_baseline="top", text_font_size="13px")  # fmt: skip
    away = {"x": [9], "y": [9]}
    legends = ("runs", "cut off", f"at k + {GAIN}")
    plot.scatter(**away, size=SMALL, color=RUNS, legend_label=legends[0])
    plot.scatter(**away, size=SMALL, fill_color=None, line_color=RESTS, line_width=2,
                 legend_label=legends[1])  # fmt: skip
    plot.scatter(**away, marker="triangle", size=9, color=ARROW, legend_label=legends[2])
    legend_above(plot, legend_columns(legends))
    return plot, spans


def _guides(
    plot: Any, sources: Mapping[str, ColumnDataSource], state: Mapping[str, Any]
) -> dict[str, Span]:
    """The lines of the threshold and of the cut, with their names."""
    threshold = Span(
        location=state["threshold_mark"]["x"][0], dimension="height", line_dash="dotted",
        line_width=1.5, visible=state["threshold_seen"],
    )  # fmt: skip
    cut = Span(location=state["cut_mark"]["y"][0], dimension="width", line_dash="dashed",
               line_width=1.5)  # fmt: skip
    for span in (threshold, cut):
        plot.add_layout(follow_theme(span, line_color="ink"))
    plot.text("x", "y", "text", source=sources["thresholdMark"], x_offset="offset", y_offset=2,
              text_align="align", text_baseline="top", text_font_size="13px")  # fmt: skip
    plot.text("x", "y", "text", source=sources["cutMark"], x_offset=4, y_offset=-2,
              text_baseline="bottom", text_font_size="13px")  # fmt: skip
    return {"thresholdSpan": threshold, "cutSpan": cut}


def _bars(experts: ColumnDataSource, title: str) -> Any:
    names = experts.data["expert"]
    plot = figure(
        title, height=250, x_range=Range1d(-0.6, len(names) - 0.4), y_range=Range1d(0, 1.02),
        x_axis_label="expert", y_axis_label="weight", frame_align=False,
    )  # fmt: skip
    plot.xgrid.visible = False
    plot.xaxis.update(
        ticker=FixedTicker(ticks=list(range(len(names)))),
        major_label_overrides=dict(enumerate(names)),
    )
    plot.vbar(x="at_soft", top="weight", width=0.36, source=experts, fill_color="fill",
              line_color="line", line_width=1.5)  # fmt: skip
    plot.vbar(x="at_hard", top="hard", width=0.36, source=experts, fill_color=HARD,
              line_color=None, **HATCH)  # fmt: skip
    key = {"x": [99], "y": [9], "marker": "square", "size": 14}
    plot.scatter(**key, color=RUNS, legend_label="soft")
    plot.scatter(**key, fill_color=None, line_color=RESTS, line_width=1.5, legend_label="cut off")
    plot.scatter(**key, color=HARD, legend_label="hard", **HATCH)
    legend_above(plot)
    return plot
