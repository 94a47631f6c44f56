"""Colors read on both pages and for color-blind readers; dress keeps what the author chose."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from bokeh.layouts import row
from bokeh.models import ColumnDataSource, Label, LabelSet, Span

from aiexplained import viz
from aiexplained.viz.document import canonical_item
from aiexplained.viz.theme import luminance

PAGES = {
    "light": "#ffffff",
    "light surface": "#f3f4f5",
    "dark": "#121212",
    "dark of the base theme": "#14181e",
    "dark card": "#222832",
}
FAMILIES = [
    ("retrieval", "sorted", "greedy", "oracle"),
    ("reused", "computed", "neutral"),
    ("reused", "computed", "warning"),
]
# Machado, Oliveira and Fernandes (2009), severity 1, in linear RGB.
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopia": np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]),
    "tritanopia": np.array([
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ]),
}  # fmt: skip
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
JUST_CLEAR = 12.0  # CIE76; 2.3 is just noticeable, 10 is told apart at a glance


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def lab(color: str, sight: np.ndarray) -> np.ndarray:
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(sight @ linear, 0, 1) / (0.9505, 1, 1.089)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one: str, other: str, sight: str) -> float:
    return float(np.linalg.norm(lab(one, SIGHT[sight]) - lab(other, SIGHT[sight])))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("role", viz.PALETTE)
def test_palette_has_three_to_one_contrast_on_every_page(role: str, page: str) -> None:
    assert contrast(viz.PALETTE[role], PAGES[page]) >= 3


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("family", FAMILIES, ids="-".join)
def test_colors_of_a_family_are_told_apart_by_every_kind_of_sight(
    family: tuple[str, ...], sight: str
) -> None:
    colors = [viz.PALETTE[role] for role in family]
    assert min(distance(a, b, sight) for a, b in combinations(colors, 2)) >= JUST_CLEAR


def test_the_sight_check_would_catch_equally_light_red_and_green() -> None:
    assert distance("#ce4f50", "#627e32", "deuteranopia") < JUST_CLEAR
    assert distance("#ce4f50", "#627e32", "all cones") > JUST_CLEAR


def test_luminance_of_known_colors() -> None:
    assert luminance("#000000") == 0
    assert luminance("#ffffff") == pytest.approx(1)
    assert luminance("#808080") == pytest.approx(0.2159, abs=1e-4)
    with pytest.raises(ValueError, match="#rrggbb, got 'red'"):
        luminance("red")


@pytest.mark.parametrize("role", viz.PALETTE)
def test_ink_on_a_palette_fill_is_readable_text(role: str) -> None:
    assert contrast(viz.ink_on(viz.PALETTE[role]), viz.PALETTE[role]) >= 4.5


def test_figure_leaves_scrolling_to_the_page() -> None:
    plot = viz.figure("t", tools="hover")
    assert plot.toolbar_location is None
    assert plot.sizing_mode == "stretch_width"
    assert plot.toolbar.active_drag is None
    assert plot.toolbar.active_scroll is None


def test_dress_is_safe_to_repeat() -> None:
    plot = viz.figure("t")
    plot.line([1], [1], legend_label="l")
    plot.text([1], [1], text=["t"])
    model = row(viz.choice("c", ["a", "b"]), plot)
    once = canonical_item(viz.dress(model))
    assert canonical_item(viz.dress(model)) == once


def test_dress_lets_uncolored_text_follow_the_theme_and_keeps_chosen_colors() -> None:
    plot = viz.figure()
    plain = plot.text([1], [1], text=["a"]).glyph
    chosen = plot.text([1], [1], text=["a"], text_color="#d63a4a").glyph
    marks = LabelSet(x="x", y="y", text="t", source=ColumnDataSource({"x": [], "y": [], "t": []}))
    label, own = Label(x=1, y=1, text="a"), Label(x=1, y=1, text="a", text_color="#d63a4a")
    span = Span(location=1, line_color="#7d8590")
    for annotation in (marks, label, own, span):
        plot.add_layout(annotation)
    viz.dress(plot)
    assert plain.tags == [{"aix-theme": {"text_color": "ink"}}] == marks.tags
    assert chosen.tags == []
    assert label.css_variables == {}
    assert own.css_variables == {"--bk-text-color": "#d63a4a"}
    assert span.css_variables == {"--bk-line-color": "#7d8590"}


def test_follow_theme_refuses_unknown_roles_and_properties() -> None:
    glyph = viz.figure().scatter([1], [1]).glyph
    viz.follow_theme(glyph, line_color="paper")
    assert glyph.tags == [{"aix-theme": {"line_color": "paper"}}]
    with pytest.raises(ValueError, match="got 'blue'"):
        viz.follow_theme(glyph, line_color="blue")
    with pytest.raises(ValueError, match="no property 'text_color'"):
        viz.follow_theme(glyph, text_color="ink")
