"""The site's own style sheet: readable colors in both themes, and nothing from elsewhere."""

from __future__ import annotations

import re

import pytest
from tiny import REPOSITORY

from aiexplained.registry import Verdict

STATIC = REPOSITORY / "docs" / "_static"
CSS = "\n".join(p.read_text(encoding="utf-8") for p in sorted(STATIC.glob("*.css")))
TONES = ("theirs", "good", "toward", "exact", "bad", "open")


def variables(theme: str) -> dict[str, str]:
    block = re.search(rf'html\[data-theme="{theme}"\] \{{(.*?)\}}', CSS, re.S)
    assert block is not None
    return dict(re.findall(r"(--[\w-]+):\s*(#[0-9a-f]{6})", block[1]))


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2.1 contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("tone", TONES)
def test_text_on_every_ground_has_a_contrast_of_4_5(theme: str, tone: str) -> None:
    colors = variables(theme)
    assert contrast(colors[f"--aix-{tone}"], colors[f"--aix-{tone}-ink"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_links_and_kickers_are_readable_on_the_tint(theme: str) -> None:
    colors = variables(theme)
    assert contrast(colors["--aix-tint"], colors["--pst-color-primary"]) >= 4.5


def test_the_contrast_rule_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01), "the known gray"


def test_every_verdict_has_a_color() -> None:
    for verdict in Verdict:
        assert f".aix-verdict-{verdict.value.replace(' ', '-')} {{" in CSS


def test_our_static_files_name_no_other_host() -> None:
    files = [p for p in STATIC.rglob("*") if p.suffix in (".css", ".js", ".svg")]
    assert len(files) >= 4
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|//cdn", text), path.name
