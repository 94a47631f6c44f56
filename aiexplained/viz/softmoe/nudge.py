"""The score of an expert that hard top-k just misses, nudged under hard and under soft top-k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, FixedTicker, Range1d, Slider, Span
from numpy.typing import ArrayLike, NDArray

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice, index_slider
from aiexplained.viz.parts import call_rule, draw_first, legend_above
from aiexplained.viz.softmoe.shown import (
    NAMES,
    RULES,
    STEP,
    TEMPERATURES,
    check_first,
    check_scores,
    exact_two,
    two,
)
from aiexplained.viz.theme import PALETTE, figure, follow_theme

REACH = 1.5
"""How far the near miss is moved, on either side of the last chosen."""

EDGE = 1.57
"""Ends of the axis of scores: a mark at its end is seen whole."""

HOWS = ("Softmax, then choose", "Choose, then softmax")
"""Orders of hard top-k: its weights sum to less than 1, or to 1."""

NEAR, LAST = PALETTE["greedy"], PALETTE["computed"]
COLUMNS = ("hard", "hard_slope", "soft", "soft_slope")


def nudge(
    scores: ArrayLike, *, k: int, temperature: float, first: Mapping[str, ArrayLike]
) -> Explorable:
    """Two experts' weights as the one that just misses the hard choice of ``k`` is moved.

    Both rules run in the page; the reader chooses the order of softmax and choice, too.

    Args:
        scores: Scores of the experts ``(E,)``, multiples of 0.05 from -3 to 3. The one of rank
            ``k + 1`` is the near miss, that of rank ``k`` the last chosen; of equal ones the first
            ranks higher.
        k: Experts that hard top-k chooses, and the sum of the soft weights; from 1 to ``E - 1``.
        temperature: Width of soft top-k, one of :data:`TEMPERATURES`.
        first: The first state, from Python, each for the near miss and the last chosen ``(2,)``:
            ``hard``, the weights where softmax comes before the choice; ``soft``, those of soft
            top-k; ``hard_slope`` and ``soft_slope``, their derivatives by the score of the near
            miss.

    Raises:
        ValueError: if a number is not on its slider, or a shape does not fit.
    """
    given = check_scores("nudge", scores, temperature, reach=3)
    near, last = _ranked(given, k)
    k = int(k)
    away = round(float(given[near] - given[last]), 2)
    if away < -REACH:
        raise ValueError(f"nudge: the near miss is at most {REACH} below the last, got {-away}")
    known = check_first("nudge", first, dict.fromkeys(COLUMNS, 2))
    state = _first_state(given, k, temperature, (near, last), known)
    caption = alt_source(state["alt"])
    marks = ColumnDataSource(state["marks"])
    data_table(marks, "Weights and slopes at the mark",
               {"expert": "expert", "hard": "hard weight", "hard_slope": "hard slope",
                "soft": "soft weight", "soft_slope": "soft slope"})  # fmt: skip
    said = ColumnDataSource(state["said"], name="aix-said")
    lines = {
        name: ColumnDataSource({"x": [], "near": [], "last": []}, name=f"aix-{name}")
        for name in ("hard", "soft")
    }
    plots = {name: _plot(name, lines[name], marks, said, state) for name in lines}
    how = choice("Hard top-k", HOWS)
    slider = Slider(title="Near miss above the last chosen (score)", start=-REACH, end=REACH,
                    step=STEP, value=away, format="0.00")  # fmt: skip
    soft = index_slider("Temperature (soft)", TEMPERATURES, TEMPERATURES.index(temperature))
    args = {
        "how": how, "away": slider, "temperature": soft, "temperatures": list(TEMPERATURES),
        "hows": [_lower(name) for name in HOWS], "scores": given.tolist(), "near": near,
        "last": last, "k": k, **lines, "jump": _mark_jump(plots["hard"]), "marks": marks,
        "said": said, "moments": [_mark_moment(plot, away) for plot in plots.values()],
        "hardTitle": plots["hard"].title, "softTitle": plots["soft"].title, "alt": caption,
    }  # fmt: skip
    draw = call_rule(RULES[1], "drawNudge", args)
    for control, event in ((how, "active"), (slider, "value"), (soft, "value")):
        control.js_on_change(event, draw)
    drag = call_rule(RULES[1], "dragNudge", {"away": slider}, ", cb_obj")
    for plot in plots.values():
        for gesture in ("panstart", "pan", "tap"):
            plot.js_on_event(gesture, drag)
    draw_first(plots["hard"], draw)
    return show(column(how, row(slider, soft), *plots.values()), alt=caption, rules=RULES)


def _ranked(scores: NDArray[np.float64], k: int) -> tuple[int, int]:
    """Positions of the near miss and of the last chosen."""
    if k != int(k) or not 1 <= k < len(scores):
        raise ValueError(f"nudge: k is a whole number from 1 to {len(scores) - 1}, got {k}")
    order = np.argsort(-scores, kind="stable")
    return int(order[int(k)]), int(order[int(k) - 1])


def _lower(name: str) -> str:
    return name[0].lower() + name[1:]


def _first_state(
    scores: NDArray[np.float64], k: int, temperature: float, both: tuple[int, int],
    known: Mapping[str, NDArray[np.float64]],
) -> dict[str, Any]:  # fmt: skip
    """Data and texts as ``rules/softmoe_view.js`` makes them."""
    near, last = both
    away = round(float(scores[near] - scores[last]), 2)
    values = {name: column.tolist() for name, column in known.items()}
    place = f"{two(-away)} below {NAMES[last]}" if away else f"the same as {NAMES[last]}"
    before = "which was chosen before" if not away and near < last else "the last chosen"

    def gains(rule: str) -> str:
        own, other = values[f"{rule}_slope"]
        return (
            f"{NAMES[near]} weighs {exact_two(values[rule][0])} and gains {exact_two(own)} for "
            f"each unit that its score rises, {NAMES[last]} {exact_two(other)}."
        )

    return {
        "marks": {
            "expert": [f"near miss {NAMES[near]}", f"last chosen {NAMES[last]}"],
            "x": [away, away], "fill": [NEAR, LAST], **values,
        },
        "said": {
            "x": [-REACH], "y": [TOP],
            **{rule: [_slopes(both, values[f"{rule}_slope"])] for rule in ("hard", "soft")},
        },
        "hard": _title("Hard", near, values["hard"][0], values["hard_slope"][0]),
        "soft": _title("Soft, uncut", near, values["soft"][0], values["soft_slope"][0]),
        "alt": f"{len(scores)} experts, k = {k}: the near miss {NAMES[near]} scores {place}, "
        f"{before}. Hard top-{k} ({_lower(HOWS[0])}): {gains('hard')} Soft "
        f"top-k at temperature {temperature:g}: {gains('soft')}",
    }  # fmt: skip


def _slopes(both: tuple[int, int], slopes: Sequence[float]) -> str:
    return (
        f"slopes: {NAMES[both[0]]} {exact_two(slopes[0])}, {NAMES[both[1]]} {exact_two(slopes[1])}"
    )


def _title(rule: str, near: int, weight: float, slope: float) -> str:
    exact = "exactly " if slope == 0 else ""
    return (
        f"{rule}: {NAMES[near]} weighs {exact_two(weight)}, its slope is {exact}{exact_two(slope)}"
    )


TOP, BOTTOM = 1.24, -0.06
"""Ends of the axis of weights: room for the slopes above the lines."""


def _plot(
    name: str, lines: ColumnDataSource, marks: ColumnDataSource, said: ColumnDataSource,
    state: Mapping[str, Any],
) -> Any:  # fmt: skip
    plot = figure(
        state[name], height=270, x_range=Range1d(-EDGE, EDGE), y_range=Range1d(BOTTOM, TOP),
        x_axis_label="score of near miss − score of last chosen", y_axis_label="weight",
    )  # fmt: skip
    plot.yaxis.ticker = FixedTicker(ticks=[0, 0.25, 0.5, 0.75, 1])
    for which, color, dash, label in zip(
        ("near", "last"), (NEAR, LAST), ("solid", "dashed"), marks.data["expert"], strict=True
    ):
        plot.line("x", which, source=lines, line_width=2.5, line_color=color, line_dash=dash,
                  legend_label=label)  # fmt: skip
    points = plot.scatter("x", name, source=marks, size=11, fill_color="fill", line_width=2)
    follow_theme(points.glyph, line_color="paper")
    plot.text("x", "y", name, source=said, x_offset=4, y_offset=2, text_baseline="top",
              text_font_size="13px")  # fmt: skip
    legend_above(plot)
    return plot


def _mark_jump(plot: Any) -> ColumnDataSource:
    jump = ColumnDataSource(
        {"x": [0], "top": [0], "middle": [0], "text": ["jump"]}, name="aix-jump"
    )
    line = plot.segment("x", 0, "x", "top", source=jump, line_dash="dotted", line_width=1.5)
    follow_theme(line.glyph, line_color="muted")
    plot.text("x", "middle", "text", source=jump, x_offset=6, text_baseline="middle",
              text_font_size="13px")  # fmt: skip
    return jump


def _mark_moment(plot: Any, away: float) -> Span:
    line = Span(location=away, dimension="height", line_width=1.5, line_dash="dotted")
    plot.add_layout(follow_theme(line, line_color="ink"))
    return line
