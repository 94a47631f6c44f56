"""The stack of layers: drag its waist, and the widths are solved anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, Range1d, Slider, Span

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice, index_slider
from aiexplained.viz.parts import call_rule, draw_first, legend_above
from aiexplained.viz.theme import PALETTE, figure, follow_theme

RULES = ("variable_width", "variable_width_view")
PRESETS: tuple[Mapping[str, Any], ...] = (
    {"name": "The paper's shape", "waist": 0.3, "turn": 0.75},
    {"name": "Waist in the middle", "waist": 0.3, "turn": 0.5},
    {"name": "Milder waist", "waist": 0.6, "turn": 0.75},
    {"name": "Uniform", "waist": 1.0, "turn": 0.75},
)
"""Shapes to choose from: the turning layer's width over the uniform width, and its depth."""

ROWS = ("KV cache", "operations", "weights")


def stack_of_layers(
    models: Sequence[Mapping[str, Any]],
    lengths: Sequence[int],
    *,
    at: int,
    first: Mapping[str, Any],
) -> Explorable:
    """Layers as bars, input at the bottom; drag the waist, and see what weights and cache do.

    Args:
        models: For each uniform model to choose from ``name``, ``n_layers``, ``d_model`` and
            ``vocab_size``.
        lengths: Tokens in a sequence to choose from.
        at: Position of the length at the start.
        first: The first state, from Python, for the first model and that length: ``widths``, the
            changes ``cache``, ``flops`` and ``weights`` in percent, and ``alt``.
    """
    n = models[0]["n_layers"]
    model = choice("As many weights as the uniform model of", [m["name"] for m in models])
    preset = choice("Shape", [p["name"] for p in PRESETS])
    waist = Slider(title="Width of the turning layer (uniform = 1)", start=0.15, end=1, step=0.05,
                   value=PRESETS[0]["waist"])  # fmt: skip
    turn = Slider(title="Turning layer", start=2, end=n - 1, step=1,
                  value=int(PRESETS[0]["turn"] * n))  # fmt: skip
    tokens = index_slider("Tokens in the sequence", [f"{length:,}" for length in lengths], at)
    caption = alt_source(first["alt"])
    widths = list(first["widths"])
    half = [w / models[0]["d_model"] / 2 for w in widths]
    layers = ColumnDataSource(
        {
            "layer": list(range(1, n + 1)), "width": widths,
            "left": [-x for x in half], "right": half,
            "bottom": [(i + 0.08) / n for i in range(n)], "top": [(i + 0.92) / n for i in range(n)],
        }
    )  # fmt: skip
    data_table(layers, "Width of every layer", {"layer": "layer", "width": "width"})
    low = turn.value - 1
    waist_label = ColumnDataSource(
        {"x": [half[low]], "y": [(low + 0.5) / n], "text": [f"layer {low + 1}: {widths[low]}"]},
        name="aix-waist",
    )
    changes = [first[key] for key in ("cache", "flops", "weights")]
    costs = ColumnDataSource(
        {
            "cost": list(ROWS),
            "change": changes,
            "label": [f"{c:+.1f} %".replace("-", "−") for c in changes],
        }
    )
    data_table(costs, "Against the uniform model", {"cost": "what", "change": "change (%)"})
    stack, bars = _stack(layers, waist_label), _bars(costs)
    args = {
        "models": [dict(m) for m in models], "model": model, "presets": [dict(p) for p in PRESETS],
        "preset": preset, "waist": waist, "turn": turn, "tokens": tokens, "lengths": list(lengths),
        "layers": layers, "label": waist_label, "costs": costs, "alt": caption,
        "title": stack.title,
    }  # fmt: skip
    for control, event, name in (
        (model, "active", "remodel"), (preset, "active", "preset"), (waist, "value", "reshape"),
        (turn, "value", "reshape"), (tokens, "value", "stack"),
    ):  # fmt: skip
        control.js_on_change(event, call_rule(RULES[1], name, args))
    for event in ("panstart", "pan", "tap"):
        stack.js_on_event(event, call_rule(RULES[1], "drag", args, ", cb_obj"))
    draw_first(stack, call_rule(RULES[1], "stack", args))
    return show(
        column(model, preset, stack, row(waist, turn, tokens), bars), alt=caption, rules=RULES
    )


def _stack(layers: ColumnDataSource, label: ColumnDataSource) -> Any:
    plot = figure(
        " ", height=400, x_range=Range1d(-1.25, 1.25), y_range=Range1d(0, 1),
        y_axis_label="text goes in at the bottom", x_axis_location=None,
    )  # fmt: skip
    plot.grid.visible = False
    plot.yaxis.update(
        ticker=[], major_tick_line_color=None, axis_line_color=None, minor_tick_line_color=None
    )
    dashes = {"line_color": PALETTE["computed"], "line_width": 2, "line_dash": "dashed"}
    for x in (-0.5, 0.5):
        plot.add_layout(Span(location=x, dimension="height", **dashes))
    plot.quad(
        left="left", right="right", bottom="bottom", top="top", source=layers,
        fill_color=PALETTE["greedy"], line_color=None, legend_label="layer",
    )  # fmt: skip
    # A span has no legend: this line lies outside the ranges.
    plot.line([3, 4], [0, 0], legend_label="uniform width", **dashes)
    plot.text(
        "x", "y", "text", source=label, x_offset=8, text_baseline="middle", text_font_size="13px"
    )
    legend_above(plot)
    return plot


def _bars(costs: ColumnDataSource) -> Any:
    plot = figure(
        "What that costs, against the uniform model", height=170, y_range=list(ROWS),
        x_range=Range1d(-21, 9), x_axis_label="change (%)",
    )  # fmt: skip
    plot.ygrid.visible = False
    plot.hbar(
        y="cost", right="change", height=0.6, source=costs, fill_color=PALETTE["greedy"],
        line_color=None,
    )  # fmt: skip
    zero = Span(location=0, dimension="height", line_width=1.5)
    plot.add_layout(follow_theme(zero, line_color="muted"))
    plot.text(
        0, "cost", "label", source=costs, x_offset=8, text_baseline="middle", text_font_size="13px"
    )
    return plot
