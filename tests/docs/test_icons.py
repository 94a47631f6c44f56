"""The icon fonts carry what the pages show, and little else."""

from __future__ import annotations

from pathlib import Path

from aixdocs.icons import FONTS, code_points
from fontTools.ttLib import TTFont
from tiny import Built, Site

BOOK = 'html_theme = "sphinx_book_theme"\n'
ARROW_UP, CODE_BRANCH = 0xF062, 0xF126


def glyphs(built: Built) -> set[int]:
    with TTFont(built.out / FONTS / "fa-solid-900.woff2") as font:
        return set(font.getBestCmap())


def book_site(folder: Path) -> Site:
    site = Site(folder)
    site.page("one", "# One\n")
    conf = folder / "docs" / "conf.py"
    conf.write_text(conf.read_text(encoding="utf-8") + BOOK, encoding="utf-8")
    return site


def test_the_fonts_hold_the_icons_of_the_pages_only(tmp_path: Path) -> None:
    built = book_site(tmp_path).build()
    assert built.warnings == ""
    assert ARROW_UP in glyphs(built), "the theme's button back to the top"
    assert CODE_BRANCH not in glyphs(built)
    assert len(glyphs(built)) < 60
    assert (built.out / FONTS / "fa-solid-900.woff2").stat().st_size < 10_000


def test_a_new_icon_is_found_by_the_next_build(tmp_path: Path) -> None:
    site = book_site(tmp_path)
    site.build()
    icon = '```{raw} html\n<i class="fa-solid fa-code-branch"></i>\n```\n'
    site.page("one", f"# One\n\n{icon}")
    again = site.build()
    assert CODE_BRANCH in glyphs(again)
    assert ARROW_UP in glyphs(again)


def test_an_unchanged_site_has_the_same_fonts(tmp_path: Path) -> None:
    site = book_site(tmp_path)
    first = (site.build().out / FONTS / "fa-solid-900.woff2").read_bytes()
    assert (site.build().out / FONTS / "fa-solid-900.woff2").read_bytes() == first


def test_an_icon_goes_by_any_of_its_names() -> None:
    style = '.fa-up,.fa-rise{--fa:"\\f062"}.fa-down{--fa:"\\f063"}'
    assert code_points([style], ['class="fa-solid fa-rise"']) == {0xF062}
    assert code_points([style, ':root{--icon:"\uf0eb"}'], []) == {0xF0EB}
