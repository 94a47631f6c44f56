"""The roof of a GPU's data sheet, and how far below it the two kinds of steps lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import (
    CDSView,
    ColumnDataSource,
    FixedTicker,
    IndexFilter,
    NumeralTickFormatter,
    Range1d,
    Select,
    Span,
)

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import index_slider
from aiexplained.viz.parts import call_rule, draw_first, fixed, legend_above
from aiexplained.viz.theme import PALETTE, figure, follow_theme

RULES = ("atom_roofline",)
VALUES = {
    "batch": [2**i for i in range(10)],
    "context": [2**i for i in range(7, 18)],
    "prompt": [2**i for i in range(4, 16)],
}
"""Positions of the sliders: answers written at once, tokens before each, tokens of a prompt."""
REACH, TFLOPS = (0.5, 1e5), (0.4, 6e3)
"""Ends of the axes."""
FIELDS = ("intensity", "flops", "ridge", "idle_share")


def roofline(
    gpus: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    *,
    gpu: str,
    model: str,
    batch: int,
    context: int,
    prompt: int,
    first: Mapping[str, Sequence[float]],
) -> Explorable:
    """Operations for each byte fetched, and what they let a GPU do, for prefill and decode.

    Args:
        gpus: Fields of each GPU's data sheet, by name.
        models: Fields of each model, by name.
        gpu: The GPU shown first.
        model: The model shown first.
        batch: Answers written at once at first, one of :data:`VALUES`.
        context: Tokens before each answer at first, one of :data:`VALUES`.
        prompt: Tokens of the prompt at first, one of :data:`VALUES`.
        first: The first state, from Python: for ``prefill`` and ``decode`` the operations for each
            byte, the reachable operations a second, the ridge, and the idle share.

    Raises:
        ValueError: if a name is unknown, a number is not on its slider, or the first state is not
            two points of four numbers.
    """
    chosen = {"batch": batch, "context": context, "prompt": prompt}
    _check(gpus, models, gpu, model, chosen, first)
    picks = {
        "gpu": Select(title="GPU", options=list(gpus), value=gpu),
        "model": Select(title="Model", options=list(models), value=model),
    }
    titles = {
        "batch": "Decode: answers at once",
        "context": "Decode: tokens before each",
        "prompt": "Prefill: tokens of the prompt",
    }
    sliders = {
        name: index_slider(
            title, [f"{v:,}" for v in VALUES[name]], VALUES[name].index(chosen[name])
        )
        for name, title in titles.items()
    }
    state = _first_state(gpus[gpu], models[model], chosen, first)
    steps, roof = ColumnDataSource(state["steps"]), ColumnDataSource(state["roof"], name="aix-roof")
    data_table(steps, "Where the two kinds of steps lie",
               {"step": "step", "intensity": "operations per byte", "tflops": "TFLOP/s reachable",
                "peak": "TFLOP/s at most", "idle": "arithmetic idle (%)"})  # fmt: skip
    caption = alt_source(state["alt"])
    plot = _plot(state["title"], steps, roof)
    ridge = Span(
        location=first["decode"][2], dimension="height", line_dash="dotted", line_width=1.5
    )
    plot.add_layout(follow_theme(ridge, line_color="muted"))
    args = {
        "gpus": {name: dict(fields) for name, fields in gpus.items()},
        "models": {name: dict(fields) for name, fields in models.items()},
        "values": VALUES, "reach": list(REACH), "steps": steps, "roof": roof, "ridge": ridge,
        "title": plot.title, "alt": caption, **picks, **sliders,
    }  # fmt: skip
    draw = call_rule(RULES[0], "draw", args)
    for control in (*picks.values(), *sliders.values()):
        control.js_on_change("value", draw)
    draw_first(plot, draw)
    controls = [row(*picks.values()), row(*sliders.values())]
    return show(column(*controls, plot), alt=caption, rules=RULES)


def _check(
    gpus: Mapping[str, Any], models: Mapping[str, Any], gpu: str, model: str,
    chosen: Mapping[str, int], first: Mapping[str, Sequence[float]],
) -> None:  # fmt: skip
    for name, known in ((gpu, gpus), (model, models)):
        if name not in known:
            raise ValueError(f"roofline: {name!r} is none of {list(known)}")
    for name, value in chosen.items():
        if value not in VALUES[name]:
            raise ValueError(f"roofline: {name} is one of {VALUES[name]}, got {value}")
    sizes = {name: len(point) for name, point in first.items()}
    if sizes != {"prefill": len(FIELDS), "decode": len(FIELDS)}:
        raise ValueError(f"roofline: first gives {FIELDS} of prefill and decode, got {sizes}")


def _plot(title: str, steps: ColumnDataSource, roof: ColumnDataSource) -> Any:
    plot = figure(
        title, height=380, x_axis_type="log", y_axis_type="log", x_range=Range1d(*REACH),
        y_range=Range1d(*TFLOPS), x_axis_label="operations for each byte fetched",
        y_axis_label="TFLOP/s reachable",
    )  # fmt: skip
    plot.xaxis.update(ticker=FixedTicker(ticks=[1, 10, 100, 1000, 10_000]),
                      formatter=NumeralTickFormatter(format="0,0"))  # fmt: skip
    plot.yaxis.update(ticker=FixedTicker(ticks=[1, 10, 100, 1000]),
                      formatter=NumeralTickFormatter(format="0,0"))  # fmt: skip
    line = plot.line("x", "y", source=roof, line_width=3, legend_label="roof")
    follow_theme(line.glyph, line_color="ink")
    plot.segment(
        "intensity", "tflops", "intensity", "peak", source=steps, line_width=2.5,
        line_dash="dashed", line_color=PALETTE["warning"], legend_label="idle",
    )  # fmt: skip
    plot.text("intensity", "peak", "label", source=steps, x_offset=-4, y_offset=-6,
              text_font_size="13px")  # fmt: skip
    looks = {"prefill": ("triangle", "computed"), "decode": ("circle", "greedy")}
    for i, (name, (marker, color)) in enumerate(looks.items()):
        view = CDSView(filter=IndexFilter([i]))
        dot = plot.scatter("intensity", "tflops", source=steps, view=view, size=16, marker=marker,
                           fill_color=PALETTE[color], line_width=2, legend_label=name)  # fmt: skip
        follow_theme(dot.glyph, line_color="paper")
    legend_above(plot)
    return plot


def _first_state(
    gpu: Mapping[str, Any], model: Mapping[str, Any], chosen: Mapping[str, int],
    first: Mapping[str, Sequence[float]],
) -> dict[str, Any]:  # fmt: skip
    """Data and texts as ``rules/atom_roofline.js`` makes them."""
    points = [
        dict(zip(FIELDS, map(float, first[name]), strict=True)) for name in ("prefill", "decode")
    ]
    read, write = points
    peak = gpu["flops"] / 1e12
    idle = write["idle_share"]
    return {
        "steps": {
            "step": ["prefill", "decode"],
            "intensity": [p["intensity"] for p in points],
            "tflops": [p["flops"] / 1e12 for p in points],
            "idle": [100 * p["idle_share"] for p in points],
            "label": [f"{_percent(p['idle_share'])} idle" if p["idle_share"] > 0 else ""
                      for p in points],
            "peak": [peak, peak],
        },
        "roof": {
            "x": [REACH[0], write["ridge"], REACH[1]],
            "y": [REACH[0] * gpu["bandwidth"] / 1e12, peak, peak],
        },
        "title": f"Decode leaves {_percent(idle)} of arithmetic idle" if idle > 0
        else "At this batch, decode uses all arithmetic",
        "alt": f"{gpu['name']}, {model['name']}. Prefill of {chosen['prompt']:,} tokens does "
        f"{_short(read['intensity'])} operations for each byte fetched, {_side(read)}. Decode of "
        f"{_answers(chosen['batch'])} after {chosen['context']:,} tokens does "
        f"{_short(write['intensity'])}, {_side(write)}.",
    }  # fmt: skip


def _side(point: Mapping[str, float]) -> str:
    ridge, idle = _short(point["ridge"]), point["idle_share"]
    if idle == 0:
        return f"beyond the ridge at {ridge}: arithmetic is the limit"
    return (
        f"below the ridge at {ridge}: memory is the limit and {_percent(idle)} of the arithmetic "
        "is idle"
    )


def _short(number: float) -> str:
    return fixed(number, 1) if number < 100 else f"{int(fixed(number, 0)):,}"


def _percent(share: float) -> str:
    return f"{fixed(100 * share, 1 if share > 0.99 else 0)} %"


def _answers(n: int) -> str:
    return "one answer" if n == 1 else f"{n:,} answers"
