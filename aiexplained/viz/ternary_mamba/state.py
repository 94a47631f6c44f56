"""How an error of one input travels through the state of a head, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, Range1d, Slider, Span
from numpy.typing import ArrayLike

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice
from aiexplained.viz.parts import call_rule, draw_first, legend_above
from aiexplained.viz.ternary_mamba.patch import RULES
from aiexplained.viz.ternary_mamba.steps import packed
from aiexplained.viz.theme import PALETTE, figure, follow_theme

WHATS = ("B", "x", "dt")
HOWS = ("once", "random", "same")
"""What may be off, and at which tokens, in the order of the buttons."""

WHAT_LABELS = ("B (where)", "x (what)", "dt (step)")
HOW_LABELS = ("Once", "Each, at random", "Each, alike")
SAID = {
    "once": ("once", "at token {} alone"),
    "random": ("at random", "at each token, at random"),
    "same": ("at each token", "at each token, always the same way"),
}
ROOM = 1.15
"""Height of the plot of errors, in largest errors."""

LARGEST = 50
"""The largest size that the slider sets, in percent."""


def state_error(
    heads: Sequence[Mapping[str, Any]],
    noise: Mapping[str, ArrayLike],
    *,
    at: int,
    first: Mapping[str, Any],
) -> Explorable:
    """The state of one channel beside the state that it has when an input is off.

    Both run in the page, which sees numbers as :func:`in_steps` gives them. The state starts from
    zero and is ``exp(dt_t A) h_{t-1} + dt_t B_t x_t``; an input that is off by a size is
    multiplied by ``1 + size * n``.

    Args:
        heads: For each head to choose from its ``name``, its ``decay`` A (negative), ``dt``
            ``(T,)``, ``B`` ``(T, N)`` and ``x`` ``(T,)``.
        noise: The ``n`` of errors at random: ``token`` ``(T,)`` for x and dt, greater than -2 so
            that no step is negative; ``entry`` ``(T, N)`` for B. Otherwise ``n`` is 1.
        at: Position of the token that is off alone.
        first: The first state: ``head``, its position; ``what``, one of :data:`WHATS`; ``how``,
            one of :data:`HOWS`; ``size`` in percent; and from Python, each ``(T,)``, ``norm`` and
            ``perturbed``, the norms of the two states, and ``error``, the norm of their difference
            as a share of the root mean square of ``norm``.

    Raises:
        ValueError: if a shape does not fit, a decay is not negative, noise makes a step negative,
            or the first state is not among the choices.
    """
    _check(heads, noise, at, first)
    names = [str(head["name"]) for head in heads]
    controls = [
        choice("Memory of the head", names, first["head"]),
        choice("What is off", WHAT_LABELS, WHATS.index(first["what"])),
        choice("At which tokens", HOW_LABELS, HOWS.index(first["how"])),
        Slider(title="By how much (%)", start=0, end=LARGEST, step=5, value=first["size"]),
    ]
    known = _first_state(names, at, first)
    caption = alt_source(known["alt"])
    lines = ColumnDataSource(known["lines"])
    data_table(lines, "The two states, token by token",
               {"token": "token", "norm": "norm, exact", "perturbed": "norm, perturbed",
                "error": "error (%)"})  # fmt: skip
    half = ColumnDataSource(known["half"], name="aix-half")
    mark = ColumnDataSource(known["mark"], name="aix-mark")
    top, bottom = _norms(lines, known["title"]), _errors(lines, half, mark, at)
    moments = [_mark_moment(plot, at + 1, bool(mark.data["x"])) for plot in (top, bottom)]
    args = {
        **dict(zip(("head", "what", "how", "size"), controls, strict=True)),
        "heads": [_carried(head, ("dt", "B", "x")) for head in heads],
        "noise": _carried(noise, ("token", "entry")), "labels": names, "whats": list(WHATS),
        "hows": list(HOWS), "at": at, "lines": lines, "half": half, "mark": mark,
        "moments": moments, "heights": top.y_range, "errors": bottom.y_range,
        "title": top.title, "alt": caption,
    }  # fmt: skip
    draw = call_rule(RULES[1], "drawState", args)
    for control in controls:
        control.js_on_change("value" if isinstance(control, Slider) else "active", draw)
    draw_first(top, draw)
    return show(column(row(*controls[:2]), *controls[2:], top, bottom), alt=caption, rules=RULES)


def _check(
    heads: Sequence[Mapping[str, Any]],
    noise: Mapping[str, ArrayLike],
    at: int,
    first: Mapping[str, Any],
) -> None:
    n_tokens, n_states = np.shape(heads[0]["B"])
    wanted = {"dt": (n_tokens,), "B": (n_tokens, n_states), "x": (n_tokens,)}
    for head in heads:
        got = {name: np.shape(head[name]) for name in wanted}
        if got != wanted:
            raise ValueError(f"state_error: every head must be {wanted}, got {got}")
        if head["decay"] >= 0:
            raise ValueError(f"state_error: a decay is negative, got {head['decay']}")
    shapes = np.shape(noise["token"]), np.shape(noise["entry"])
    if shapes != ((n_tokens,), (n_tokens, n_states)):
        raise ValueError(
            f"state_error: noise is {(n_tokens,)} a token and {(n_tokens, n_states)} an entry, "
            f"got {shapes}"
        )
    lowest = float(np.min(noise["token"]))
    if 1 + LARGEST / 100 * lowest <= 0:
        raise ValueError(
            f"state_error: noise a token is greater than {-100 / LARGEST:g}, so that no step is "
            f"negative, got {lowest}"
        )
    if not 0 <= at < n_tokens - 1:
        raise ValueError(f"state_error: at is a token before the last of {n_tokens}, got {at}")
    _check_first(first, len(heads), n_tokens)


def _check_first(first: Mapping[str, Any], n_heads: int, n_tokens: int) -> None:
    if first["what"] not in WHATS or first["how"] not in HOWS or first["head"] >= n_heads:
        raise ValueError(
            f"state_error: the first state is one of {n_heads} heads, of {WHATS} and of {HOWS}, "
            f"got {first['head']}, {first['what']!r} and {first['how']!r}"
        )
    if first["size"] not in range(0, LARGEST + 1, 5):
        raise ValueError(
            f"state_error: the size is 0 to {LARGEST} in steps of 5, got {first['size']}"
        )
    got = {name: np.shape(first[name]) for name in ("norm", "perturbed", "error")}
    if set(got.values()) != {(n_tokens,)}:
        raise ValueError(f"state_error: the first lines must be {(n_tokens,)}, got {got}")


def _carried(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The plain entries as they are, and those of ``names`` as multiples of a step."""
    plain = {"decay": given["decay"]} if "decay" in given else {}
    arrays = {name: packed(given[name]) for name in names}
    return plain | {name: {"values": v, "step": step} for name, (v, step) in arrays.items()}


def _first_state(names: Sequence[str], at: int, first: Mapping[str, Any]) -> dict[str, Any]:
    """Data and texts as ``rules/ternary_mamba_view.js`` makes them."""
    percent = [100 * float(error) for error in first["error"]]
    half = _half_life(percent, at)
    once = first["how"] == "once" and first["size"] > 0
    place = at + (half or 0)
    nothing: dict[str, list[Any]] = {"x": [], "y": [], "text": []}
    return {
        "title": _title(first, max(percent), half),
        "alt": _alt(names[first["head"]], at, first, percent, half),
        "lines": {
            "token": list(range(1, len(percent) + 1)),
            "norm": [float(v) for v in first["norm"]],
            "perturbed": [float(v) for v in first["perturbed"]],
            "error": percent,
        },
        "half": {"x": [place + 1], "y": [percent[place]], "text": ["half is gone"]}
        if once and half is not None
        else nothing,
        "mark": {"x": [at + 1], "y": [ROOM * max(percent)], "text": [f"off at token {at + 1}"]}
        if once
        else nothing,
    }


def _half_life(error: Sequence[float], at: int) -> int | None:
    """Tokens until half of the error at token ``at`` is gone."""
    gone = [t for t in range(at + 1, len(error)) if error[t] <= error[at] / 2]
    return gone[0] - at if gone and error[at] else None


def _short(percent: float) -> str:
    return f"{percent:.1f}" if percent < 9.95 else f"{int(percent + 0.5)}"


def _tokens(count: int) -> str:
    return f"{count} token" + ("" if count == 1 else "s")


def _title(first: Mapping[str, Any], peak: float, half: int | None) -> str:
    if first["size"] == 0:
        return "Nothing is off: the two states are the same"
    start = f"{first['what']} off by {first['size']} % {SAID[first['how']][0]}:"
    if first["how"] != "once":
        return f"{start} state off by up to {_short(peak)} %"
    if half is None:
        return f"{start} half stays to the end"
    return f"{start} half is gone after {_tokens(half)}"


def _alt(
    name: str, at: int, first: Mapping[str, Any], percent: Sequence[float], half: int | None
) -> str:
    if first["size"] == 0:
        return f"{name}: nothing is off, and the two states are the same."
    gone = "is still there at the end" if half is None else f"is gone after {_tokens(half)}"
    last = f" Half of the first error {gone}." if first["how"] == "once" else ""
    when = SAID[first["how"]][1].format(at + 1)
    return (
        f"{name}: {first['what']} is off by {first['size']} % {when}. The state is off by up to "
        f"{_short(max(percent))} % of its usual norm, and by {_short(percent[-1])} % after the "
        f"last of {len(percent)} tokens.{last}"
    )


def _mark_moment(plot: Any, token: int, visible: bool) -> Span:
    line = Span(location=token, dimension="height", line_width=1.5, line_dash="dotted",
                visible=visible)  # fmt: skip
    plot.add_layout(follow_theme(line, line_color="ink"))
    return line


def _norms(lines: ColumnDataSource, title: str) -> Any:
    n = len(lines.data["token"])
    highest = max(*lines.data["norm"], *lines.data["perturbed"])
    plot = figure(
        title, height=230, x_range=Range1d(1, n), y_range=Range1d(0, 1.05 * highest),
        y_axis_label="norm of the state",
    )  # fmt: skip
    plot.line("token", "norm", source=lines, line_width=5, line_color=PALETTE["neutral"],
              legend_label="exact")  # fmt: skip
    plot.line("token", "perturbed", source=lines, line_width=2, line_color=PALETTE["computed"],
              legend_label="with the error")  # fmt: skip
    legend_above(plot)
    return plot


def _errors(
    lines: ColumnDataSource, half: ColumnDataSource, mark: ColumnDataSource, at: int
) -> Any:
    n, highest = len(lines.data["token"]), max(lines.data["error"]) or 1.0
    plot = figure(
        "How far the state is off", height=230, x_range=Range1d(1, n),
        y_range=Range1d(0, ROOM * highest), x_axis_label="token", y_axis_label="error (% of norm)",
    )  # fmt: skip
    plot.line("token", "error", source=lines, line_width=2, line_color=PALETTE["computed"])
    point = plot.scatter("x", "y", size=10, source=half)
    follow_theme(point.glyph, fill_color="ink", line_color="paper")
    plot.text("x", "y", "text", source=half, x_offset=8, y_offset=-4, text_font_size="13px")
    # The label stands on the side where there is more room.
    side = {"text_align": "left", "x_offset": 6} if 2 * at < n else {"text_align": "right",
                                                                    "x_offset": -6}  # fmt: skip
    plot.text("x", "y", "text", source=mark, text_baseline="top", text_font_size="13px", **side)
    return plot
