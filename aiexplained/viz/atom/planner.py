"""Should I split? The reader's engines, traffic and limits; every layout served in the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, FactorRange, Range1d, Select, Slider

from aiexplained.serving import unit_draws
from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice, index_slider
from aiexplained.viz.parts import call_rule, fixed
from aiexplained.viz.theme import PALETTE, figure, follow_theme

RULES = ("atom_scheduler", "atom", "atom_planner", "atom_planner_view")
VALUES: Mapping[str, Sequence[float]] = {
    "arrival_rate_rps": [0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64],
    "prompt_tokens": [128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768],
    "output_tokens": [1, 16, 64, 128, 256, 512, 1024],
    "ttft_s": [0.1, 0.2, 0.5, 1, 2, 5, 10, 30],
    "gap_s": [0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1],
    "link_bandwidth": [1e8, 5e8, 1e9, 5e9, 12.5e9, 25e9, 50e9, 100e9, 400e9],
}
"""Positions of the sliders."""
TITLES = {
    "arrival_rate_rps": "Requests a second",
    "prompt_tokens": "Longest prompt (tokens)",
    "output_tokens": "Longest answer (tokens)",
    "ttft_s": "Limit: first token (s)",
    "gap_s": "Limit: gap (ms)",
    "link_bandwidth": "Link (GB/s)",
}
UNITS = {"gap_s": 1e3, "link_bandwidth": 1e-9}
ENGINES = (2, 8)
PACES = {"mean": "mean gap", "p95": "95 of 100 gaps", "worst": "every gap"}
COLORS = [PALETTE["neutral"], PALETTE["retrieval"], PALETTE["greedy"]]
HATCHES = [" ", ".", "/"]
"""Of one pool, one pool with chunks, and two pools."""
WIDER = 1.4
"""Room for the numbers beside the bars, as a share of the longest."""
OUTCOME = ("name", "n_prefill", "chunk", "ttft_p99_s", "gap_p99_s", "worst_gap_s", "attainment",
           "goodput_rps")  # fmt: skip


def planner(
    gpus: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    draws: np.ndarray,
    *,
    gpu: str,
    model: str,
    gpus_per_engine: int,
    n_engines: int,
    pace: str,
    start: Mapping[str, float],
    outcomes: Sequence[Mapping[str, Any]],
    verdict: str,
    advice: str,
    share: float,
) -> Explorable:
    """Bars for each layout: requests within the limits at a rate, and the most traffic within them.

    Args:
        gpus: Fields of each GPU's data sheet, by name.
        models: Fields of each model, by name.
        draws: Uniform, ``(n, 3)``: of the requests that are served in every state.
        gpu: The GPU shown first.
        model: The model shown first.
        gpus_per_engine: GPUs of an engine at first.
        n_engines: Engines at first.
        pace: Which gaps the limit holds for at first, one of :data:`PACES`.
        start: Of each slider, its first value, one of :data:`VALUES`.
        outcomes: The first state, from Python: :data:`OUTCOME` of each layout.
        verdict: Of the first state, the title: whether to split, and the best layout.
        advice: Of the first state, in a sentence.
        share: Of the requests that must keep the limits.

    Raises:
        ValueError: if a name is unknown, a number is not on its slider, or outcomes miss a field.
    """
    _check(gpus, models, gpu, model, n_engines, pace, start, outcomes)
    setup = _setup(gpu, model, gpus_per_engine, n_engines, pace, start)
    keep = sum(float(o["attainment"]) >= share for o in outcomes)
    caption = alt_source(
        f"{advice} At {start['arrival_rate_rps']:g} requests/s {keep} of {len(outcomes)} layouts "
        f"keep the limits that often. {setup}"
    )
    bars = ColumnDataSource(_columns(outcomes))
    data_table(bars, "Every layout",
               {"layout": "layout", "within": "requests within the limits (%)",
                "goodput": "goodput (requests/s)", "ttft": "TTFT, p99 (s)",
                "gap": "gap, p99 (ms)", "worst": "worst gap (ms)"})  # fmt: skip
    layouts = FactorRange(factors=[str(o["name"]) for o in outcomes][::-1])
    most = max(o["goodput_rps"] for o in outcomes)
    reach = Range1d(0, WIDER * max(most, 0.01))
    left = _bars(bars, layouts, Range1d(0, 100 * WIDER), "within", "share", verdict)
    left.xaxis.axis_label = "requests within the limits (%)"
    right = _bars(bars, layouts, reach, "goodput", "rate", "Goodput (★ the best)")
    right.xaxis.axis_label = "goodput (requests/s)"
    controls = _controls(gpus, models, gpu, model, n_engines, pace, start)
    rows = ColumnDataSource({"rows": unit_draws(draws).ravel()}, name="aix-draws")
    args = {
        "gpus": {name: dict(fields) for name, fields in gpus.items()},
        "models": {name: dict(fields) for name, fields in models.items()},
        "values": VALUES, "paces": list(PACES), "colors": COLORS, "hatches": HATCHES,
        "draws": rows, "bars": bars, "factors": layouts, "reach": reach, "title": left.title,
        "alt": caption, "wider": WIDER, "share": share, **controls,
    }  # fmt: skip
    change = call_rule(RULES[-1], "change", args)
    for control in controls.values():
        control.js_on_change("active" if control is controls["pace"] else "value", change)
    parts = list(controls.values())
    grid = [row(*parts[:3]), row(*parts[3:6]), row(*parts[6:9]), parts[9]]
    return show(column(*grid, row(left, right)), alt=caption, rules=RULES)


def _check(
    gpus: Mapping[str, Any], models: Mapping[str, Any], gpu: str, model: str, n_engines: int,
    pace: str, start: Mapping[str, float], outcomes: Sequence[Mapping[str, Any]],
) -> None:  # fmt: skip
    for name, known in ((gpu, gpus), (model, models), (pace, PACES)):
        if name not in known:
            raise ValueError(f"planner: {name!r} is none of {list(known)}")
    if set(start) != set(VALUES):
        raise ValueError(f"planner: start gives {list(VALUES)}, got {list(start)}")
    for name, value in start.items():
        if value not in VALUES[name]:
            raise ValueError(f"planner: {name} is one of {list(VALUES[name])}, got {value}")
    if not ENGINES[0] <= n_engines <= ENGINES[1]:
        raise ValueError(
            f"planner: n_engines is from {ENGINES[0]} to {ENGINES[1]}, got {n_engines}"
        )
    for outcome in outcomes:
        if missing := set(OUTCOME) - set(outcome):
            raise ValueError(f"planner: an outcome has {list(OUTCOME)}, one misses {missing}")


def _setup(
    gpu: str, model: str, gpus_per_engine: int, n_engines: int, pace: str,
    start: Mapping[str, float],
) -> str:  # fmt: skip
    gpus = gpu if gpus_per_engine == 1 else f"{gpus_per_engine} {gpu}"
    return (
        f"{n_engines} engines ({gpus} each), {model}, {start['arrival_rate_rps']:g} requests/s, "
        f"prompts up to {start['prompt_tokens']:,} tokens, answers up to "
        f"{start['output_tokens']:,}; limits: first token {start['ttft_s']:g} s, {PACES[pace]} "
        f"{1000 * start['gap_s']:.0f} ms; link {start['link_bandwidth'] / 1e9:g} GB/s."
    )


def _columns(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Bars as ``rules/atom_planner_view.js`` makes them."""
    kinds = [2 if o["n_prefill"] else 1 if o["chunk"] else 0 for o in outcomes]
    rates = [float(o["goodput_rps"]) for o in outcomes]
    best = rates.index(max(rates)) if max(rates) > 0 else -1
    return {
        "layout": [str(o["name"]) for o in outcomes],
        "within": [100 * float(o["attainment"]) for o in outcomes],
        "goodput": rates,
        "ttft": [float(o["ttft_p99_s"]) for o in outcomes],
        "gap": [1000 * float(o["gap_p99_s"]) for o in outcomes],
        "worst": [1000 * float(o["worst_gap_s"]) for o in outcomes],
        "color": [COLORS[kind] for kind in kinds],
        "hatch": [HATCHES[kind] for kind in kinds],
        "share": [f"{fixed(100 * float(o['attainment']), 0)} %" for o in outcomes],
        "rate": [fixed(rate, 1) + " ★" * (i == best) for i, rate in enumerate(rates)],
    }


def _bars(
    bars: ColumnDataSource, layouts: FactorRange, reach: Range1d, value: str, label: str, title: str
) -> Any:
    plot = figure(title, height=330, x_range=reach, y_range=layouts)
    plot.xaxis.ticker.desired_num_ticks = 4
    plot.ygrid.visible = False
    plot.hbar(
        y="layout", right=value, height=0.66, source=bars, fill_color="color", line_color=None,
        hatch_pattern="hatch", hatch_color="#ffffff", hatch_weight=0.7, hatch_scale=9,
    )  # fmt: skip
    text = plot.text(value, "layout", label, source=bars, x_offset=5, text_baseline="middle",
                     text_font_size="13px")  # fmt: skip
    follow_theme(text.glyph, text_color="ink")
    return plot


def _controls(
    gpus: Mapping[str, Any], models: Mapping[str, Any], gpu: str, model: str, n_engines: int,
    pace: str, start: Mapping[str, float],
) -> dict[str, Any]:  # fmt: skip
    found: dict[str, Any] = {
        "gpu": Select(title="GPU", options=list(gpus), value=gpu),
        "model": Select(title="Model", options=list(models), value=model),
        "n_engines": Slider(title="Engines", start=ENGINES[0], end=ENGINES[1], step=1,
                            value=n_engines),
    }  # fmt: skip
    for name, title in TITLES.items():
        labels = [f"{UNITS.get(name, 1) * v:,.10g}" for v in VALUES[name]]
        found[name] = index_slider(title, labels, list(VALUES[name]).index(start[name]))
    found["pace"] = choice("The gap limit holds for", list(PACES.values()), list(PACES).index(pace))
    return found
