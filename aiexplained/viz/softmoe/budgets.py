"""Layers that compete for a fixed sum of budgets: what one wins, the others lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, FixedTicker, Range1d, Slider

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice
from aiexplained.viz.parts import HATCH, call_rule, fixed, legend_above, legend_columns
from aiexplained.viz.theme import PALETTE, figure, follow_theme

RULE = "softmoe_budgets"
WISH = 3.0
"""The wish that the slider sets lies between minus this and this."""
MEANS = (1.0, 3.0)
"""Ends of the slider of the mean budget."""
HEIGHT, ROOM = 5.0, 1.15
"""Top of the axis; where a bar is too high for it, ``ROOM`` times the bar."""
COUNTS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def compete(
    etas: Sequence[float], *, mean: float, n_experts: int, layer: int | None = None
) -> Explorable:
    """Budgets of layers by their wishes, one of which the reader moves.

    A layer has ``softmax(etas)`` of what is left of the sum once each has its floor of 1.

    Args:
        etas: Wish of each layer at the start, from the bottom layer, in steps of 0.1.
        mean: Budget of a layer on average at the start, in steps of 0.1.
        n_experts: Experts of a layer.
        layer: Whose wish the slider moves at first, from 1; default: the layer below the last.

    Raises:
        ValueError: if there are not two to ten layers, a wish or the mean is not a place of its
            slider, the layer does not exist, or a layer could win as much as there are experts.
    """
    wishes = [float(eta) for eta in etas]
    at = len(wishes) - 2 if layer is None else layer - 1
    _check(wishes, mean, n_experts)
    names = [str(i + 1) for i in range(len(wishes))]
    pick = choice("Layer", names, at)
    tenths = {"step": 0.1, "format": "0.0"}
    wish = Slider(title="Its wish (logit)", start=-WISH, end=WISH, value=wishes[at], **tenths)
    level = Slider(title="Mean budget", start=MEANS[0], end=MEANS[1], value=mean, **tenths)
    budgets = _budgets(wishes, mean)
    told = {"count": COUNTS[len(wishes) - 2], "experts": n_experts}
    title, alt = _tell(told, wishes, mean, at, budgets)
    caption = alt_source(alt)
    bars = ColumnDataSource({
        "layer": np.arange(len(wishes)) + 1, "eta": wishes, "budget": budgets,
        "label": [fixed(budget, 1) for budget in budgets],
    })  # fmt: skip
    data_table(bars, "Budgets", {"layer": "layer", "eta": "wish (logit)", "budget": "budget"})
    ring = ColumnDataSource({"layer": [at + 1], "budget": [budgets[at]]}, name="aix-chosen")
    mark = ColumnDataSource({"x": [0.5, len(wishes) + 0.5], "y": [mean, mean]}, name="aix-mean")
    plot = _plot(title, bars, ring, mark)
    args = {
        **told, "layer": pick, "wish": wish, "mean": level, "bars": bars, "ring": ring,
        "mark": mark, "heights": plot.y_range, "height": HEIGHT, "room": ROOM,
        "title": plot.title, "alt": caption,
    }  # fmt: skip
    for control, name in ((pick, "layer"), (wish, "wish"), (level, "mean")):
        changed = "active" if control is pick else "value"
        control.js_on_change(changed, call_rule(RULE, "draw", args, f', "{name}"'))
    return show(column(pick, row(wish, level), plot), alt=caption, rules=[RULE])


def draw_bars(plot: Any, bars: ColumnDataSource, floor: float) -> None:
    """Bars of a source's ``budget`` at its ``layer``: the floor striped, the rest in color."""
    label = {"legend_label": f"floor of {floor:g}"} if floor else {}
    plot.vbar("layer", 0.8, floor, source=bars, line_color=None, fill_color=PALETTE["neutral"],
              **HATCH, **label)  # fmt: skip
    plot.vbar("layer", 0.8, "budget", floor, source=bars, line_color=None,
              fill_color=PALETTE["greedy"],
              legend_label="above it" if floor else "budget")  # fmt: skip
    plot.xaxis.ticker = FixedTicker(ticks=[int(layer) for layer in bars.data["layer"]])
    plot.xgrid.visible = False


def _check(wishes: Sequence[float], mean: float, n_experts: int) -> None:
    if not 2 <= len(wishes) <= len(COUNTS) + 1:
        raise ValueError(f"compete: two to {len(COUNTS) + 1} layers, got {len(wishes)}")
    odd = [eta for eta in wishes if not -WISH <= eta <= WISH or eta != round(eta, 1)]
    if odd:
        raise ValueError(f"compete: wishes are tenths from {-WISH:g} to {WISH:g}, got {odd}")
    if not MEANS[0] <= mean <= MEANS[1] or mean != round(mean, 1):
        raise ValueError(
            f"compete: the mean is tenths from {MEANS[0]:g} to {MEANS[1]:g}, got {mean}"
        )
    most = len(wishes) * (MEANS[1] - 1) + 1
    if most >= n_experts:
        raise ValueError(
            f"compete: a layer may win up to {most:g}, which must be less than its experts, got "
            f"{n_experts}"
        )


def _budgets(wishes: Sequence[float], mean: float) -> list[float]:
    """Budgets as ``rules/softmoe_budgets.js`` makes them."""
    parts = np.exp(np.array(wishes) - max(wishes))
    found: list[float] = (parts / parts.sum() * (len(wishes) * (mean - 1)) + 1).tolist()
    return found


def _tell(
    told: dict[str, Any], wishes: Sequence[float], mean: float, at: int, budgets: Sequence[float]
) -> tuple[str, str]:
    """Title and alternative as ``rules/softmoe_budgets.js`` makes them."""
    total, won = fixed(sum(budgets), 1), fixed(budgets[at], 1)
    wish = fixed(wishes[at], 1).replace("-", "−")
    free = fixed(len(wishes) * (mean - 1), 1)
    return (
        f"Layer {at + 1} takes {won}; the {told['count']} sum to {total}",
        f"{len(wishes)} layers of {told['experts']} experts compete for a sum of {total}, "
        f"{fixed(mean, 1)} on average. Each keeps 1; the other {free} go by the softmax of their "
        f"wishes. Budgets from the bottom layer: {', '.join(fixed(b, 1) for b in budgets)}. "
        f"Layer {at + 1}, with a wish of {wish}, takes {won}.",
    )


def _plot(
    title: str, bars: ColumnDataSource, ring: ColumnDataSource, mark: ColumnDataSource
) -> Any:
    n_layers, highest = len(bars.data["layer"]), max(bars.data["budget"])
    plot = figure(
        title, height=330, x_axis_label="layer", y_axis_label="budget (sum of a token's weights)",
        x_range=Range1d(0.5, n_layers + 0.5), y_range=Range1d(0, max(HEIGHT, ROOM * highest)),
    )  # fmt: skip
    draw_bars(plot, bars, 1)
    line = plot.line("x", "y", source=mark, line_width=2, line_dash="dashed", legend_label="mean")
    follow_theme(line.glyph, line_color="ink")
    outline = plot.vbar("layer", 0.8, "budget", source=ring, fill_color=None, line_width=2.5)
    follow_theme(outline.glyph, line_color="ink")
    # Its ground hides the line of the mean behind a number.
    number = plot.text("layer", "budget", "label", source=bars, text_align="center", y_offset=-5,
                       padding=1, background_fill_color="#ffffff")  # fmt: skip
    follow_theme(number.glyph, text_color="ink", background_fill_color="paper")
    labels = [item.label.value for item in plot.legend[0].items]
    legend_above(plot, legend_columns(labels))
    return plot
