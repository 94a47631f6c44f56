"""How every figure looks: named colors, a figure factory, and dress for controls and legends.

Canvas guides (axes, grids, titles, labels) follow the light/dark switch through BokehJS's own
style variables, which ``explorables.css`` sets. Glyphs keep the colors that they are given:
:data:`PALETTE` reads on both pages. Text glyphs without a color, and whatever is marked with
:func:`follow_theme`, are recolored by the page's loader.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from bokeh.core.properties import value
from bokeh.models import (
    Column,
    InlineStyleSheet,
    Label,
    LabelSet,
    Legend,
    Model,
    Plot,
    Row,
    Text,
    Widget,
)
from bokeh.models.widgets import ToggleButtonGroup
from bokeh.plotting import figure as bokeh_figure

from aiexplained.viz.document import CONTROL_WIDTH, PLOT_WIDTH, SPACING

PALETTE = MappingProxyType(
    {
        "reused": "#0f9d7a",
        "computed": "#d9601a",
        "retrieval": "#94702a",
        "sorted": "#d0569f",
        "greedy": "#2f6fe0",
        "oracle": "#179a77",
        "neutral": "#7d8590",
        "warning": "#d63a4a",
    }
)
"""Colors by what they mean: at least 3:1 on the light and the dark page, and told apart within
their family (``reused``, ``computed``, ``neutral``, ``warning``; and the four orders) under the
common kinds of color blindness. Color is still never the only sign: add a dash or a marker."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK, PAPER = "#222832", "#ffffff"
ROLES = ("ink", "muted", "paper", "line", "surface")

WIDGET_CSS = """
:host { --aix-i: var(--aix-ink, #222832); --aix-l: var(--aix-line, #c4cad2);
  --aix-p: var(--aix-paper, #fff); --aix-a: var(--aix-accent, #0a6b7d);
  margin: 0 !important; color: var(--aix-i); font-size: 14px; line-height: 20px; }
.bk-input-group { gap: 0; white-space: normal; }
.bk-slider-title, .bk-input-group > label { color: var(--aix-i); font-size: 14px;
  line-height: 20px; margin: 0 0 4px; white-space: normal; overflow-wrap: anywhere; }
.bk-slider-value { font-variant-numeric: tabular-nums; }
.noUi-target { width: calc(100% - 24px); margin: 12px !important; height: 6px; border: 0;
  border-radius: 3px; background: var(--aix-l); box-shadow: none; }
.noUi-target, .noUi-target * { touch-action: pan-y; }
.noUi-connects { border-radius: 3px; }
.noUi-connect { background: var(--aix-a) !important; }
.noUi-horizontal .noUi-handle { width: 24px; height: 24px; right: -12px; top: -9px;
  border: 2px solid var(--aix-a); border-radius: 50%; background: var(--aix-p); box-shadow: none;
  cursor: grab; }
.noUi-handle::before, .noUi-handle::after, .noUi-tooltip { display: none !important; }
.noUi-handle:active { cursor: grabbing; background: var(--aix-a); }
.noUi-touch-area { position: absolute; inset: -10px; width: auto; height: auto; }
.noUi-handle:focus-visible, .bk-btn:focus-visible, .bk-input:focus-visible {
  outline: 3px solid var(--aix-a) !important; outline-offset: 2px; box-shadow: none; }
.bk-btn-group { flex-wrap: wrap; gap: 6px; height: auto; }
.bk-btn { height: auto; min-height: 34px; padding: 6px 12px; color: var(--aix-i) !important;
  background: transparent !important; border: 1px solid var(--aix-l) !important;
  border-radius: 6px !important; font: inherit; line-height: 20px; white-space: normal;
  box-shadow: none !important; }
.bk-btn:hover { border-color: var(--aix-a) !important; }
.bk-btn.bk-active { color: var(--aix-p) !important; background: var(--aix-a) !important;
  border-color: var(--aix-a) !important; font-weight: 600; }
.bk-input { min-height: 40px; padding: 0 12px; color: var(--aix-i);
  background-color: var(--aix-p); border: 1px solid var(--aix-l); border-radius: 6px;
  font: inherit; }
select.bk-input { padding-right: 32px !important; background-image:
  linear-gradient(45deg, transparent 50%, var(--aix-i) 50%),
  linear-gradient(-45deg, transparent 50%, var(--aix-i) 50%) !important;
  background-position: right 17px center, right 12px center !important;
  background-size: 5px 5px !important; }
option { color: var(--aix-i); background: var(--aix-p); }
.bk-clearfix, .bk-clearfix p { color: var(--aix-i); margin: 0; white-space: normal; }
"""

LEGEND_CSS = """
:host { color: var(--aix-ink, #222832) !important; border: 0 !important;
  background-color: color-mix(in srgb, var(--aix-paper, #fff) 85%, transparent) !important; }
.bk-label, .bk-title { color: var(--aix-ink, #222832) !important; }
"""

ROW_CSS = f"""
:host {{ flex-wrap: wrap; }}
:host > .bk-Figure {{ flex: 1 1 {PLOT_WIDTH}px !important; min-width: min({PLOT_WIDTH}px, 100%); }}
:host > :not(.bk-Figure) {{ flex: 1 1 {CONTROL_WIDTH}px !important;
  min-width: min({CONTROL_WIDTH}px, 100%); }}
"""


def figure(title: str | None = None, *, height: int = 320, **options: Any) -> Any:
    """A Bokeh figure with the house defaults.

    It stretches to the page's width at a fixed height, has no toolbar and no tool that would
    take a finger's scrolling away from the page. ``tools="hover"`` is fine.

    Args:
        title: The finding, as one sentence; shown above the figure.
        height: Height in pixels.
        options: Passed on to :func:`bokeh.plotting.figure`.

    Returns:
        The Bokeh figure.
    """
    defaults = {
        "title": title or "",
        "height": height,
        "sizing_mode": "stretch_width",
        "tools": "",
        "toolbar_location": None,
        "active_drag": None,
        "active_scroll": None,
        "min_border_right": 16,
    }
    plot = bokeh_figure(**(defaults | options))
    plot.outline_line_color = None
    plot.title.update(text_font=FONT, text_font_size="15px", text_font_style="bold")
    for axis in plot.axis:
        axis.update(
            axis_label_text_font=FONT,
            axis_label_text_font_size="13px",
            axis_label_text_font_style="normal",
            major_label_text_font=FONT,
            major_label_text_font_size="13px",
            minor_tick_line_color=None,
            major_tick_in=0,
        )
    return plot


def ink_on(color: str) -> str:
    """Black or white, whichever reads better on a fill of this ``#rrggbb`` color.

    >>> ink_on("#ffffff"), ink_on("#000000")
    ('#000000', '#ffffff')
    """
    return "#000000" if luminance(color) > 0.179 else "#ffffff"


def luminance(color: str) -> float:
    """Relative luminance of a ``#rrggbb`` color (WCAG 2.1), from 0 to 1."""
    if len(color) != 7 or not color.startswith("#"):
        raise ValueError(f"a color is written #rrggbb, got {color!r}")
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def follow_theme(model: Model, **roles: str) -> Model:
    """Let color properties of ``model`` follow the page's theme, live.

    Args:
        model: A glyph (or any model with colors) of the figure.
        roles: Property to role, e.g. ``text_color="ink"``, ``line_color="paper"``. Roles are
            ``ink``, ``muted``, ``paper``, ``line`` and ``surface``.

    Returns:
        ``model``. Its present colors stay in force where there is no theme to follow.

    Raises:
        ValueError: if a role or a property does not exist.
    """
    for name, role in roles.items():
        if role not in ROLES:
            raise ValueError(f"a theme role is one of {ROLES}, got {role!r}")
        if name not in model.properties():
            raise ValueError(f"{type(model).__name__} has no property {name!r}")
    model.tags = [*model.tags, {"aix-theme": roles}]
    return model


def dress(model: Model) -> Model:
    """Give ``model`` and all that it holds the house look; safe to repeat.

    Controls and legends get a style sheet (they sit in shadow roots, which page styles do not
    reach), layouts stretch and wrap, and colors that the author set on guides and labels are
    kept where the theme would override them.
    """
    sheets = {css: InlineStyleSheet(css=css) for css in (WIDGET_CSS, LEGEND_CSS, ROW_CSS)}
    # Bokeh gives references as a set; numbering must not depend on its order.
    for part in sorted(model.references(), key=lambda m: int(m.id.lstrip("p"))):
        if isinstance(part, Widget):
            _wear(part, sheets[WIDGET_CSS])
            _name_group(part)
        elif isinstance(part, Legend):
            _wear(part, sheets[LEGEND_CSS])
            _set_unset(part, label_text_font=FONT, label_text_font_size="13px")
        elif isinstance(part, Row):
            _wear(part, sheets[ROW_CSS])
        elif isinstance(part, Text | LabelSet | Label):
            font = FONT if isinstance(part, Label) else value(FONT)
            _set_unset(part, text_font=font, text_font_size="13px")
        elif isinstance(part, Plot):
            part.toolbar.logo = None
        if isinstance(part, Column | Row):
            _set_unset(part, spacing=SPACING)
        if isinstance(part, Widget | Column | Row | Plot):
            _set_unset(part, sizing_mode="stretch_width")
        _keep_own_colors(part)
    return model


def _wear(model: Model, sheet: InlineStyleSheet) -> None:
    worn = {s.css for s in model.stylesheets if isinstance(s, InlineStyleSheet)}
    if sheet.css not in worn:
        model.stylesheets = [*model.stylesheets, sheet]


def _name_group(model: Model) -> None:
    # Bokeh's button groups have no title: show their name as one.
    if isinstance(model, ToggleButtonGroup) and model.name:
        text = model.name.replace("\\", "\\\\").replace('"', '\\"')
        css = f':host::before {{ content: "{text}"; display: block; margin-bottom: 4px; }}'
        _wear(model, InlineStyleSheet(css=css))


def _set_unset(model: Model, **values: Any) -> None:
    own = model.properties_with_values(include_defaults=False)
    model.update(**{name: value for name, value in values.items() if name not in own})


def _keep_own_colors(model: Model) -> None:
    own = model.properties_with_values(include_defaults=False)
    if isinstance(model, Text | LabelSet):
        followed = any(isinstance(tag, dict) and "aix-theme" in tag for tag in model.tags)
        # figure.text() writes "black", which no dark page can show.
        if not followed and own.get("text_color", "black") in ("black", value("black")):
            follow_theme(model, text_color="ink")
    elif "css_variables" in model.properties() and not isinstance(model, Widget):
        colors = {name: value for name, value in own.items() if name.endswith("_color")}
        extra = {
            f"--bk-{name.replace('_', '-')}": color or "transparent"
            for name, color in colors.items()
            if color is None or isinstance(color, str)
        }
        if extra:
            model.css_variables = {**model.css_variables, **extra}
