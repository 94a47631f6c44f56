"""The article of a built page, fit to be read elsewhere: in a feed reader, say, or as Markdown.

What only works on the site goes: scripts, widgets, links of headings, colors of code. A figure
becomes its still picture and its caption, a question plain text with its answers folded below it,
a formula its MathML.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

from bs4 import BeautifulSoup, Comment, Tag

DROPPED = (
    "script, style, button, input, output, a.headerlink, .aix-live, .aix-noscript, .aix-data, "
    ".katex-html, summary > .expanded"
)
"""Needs the site's scripts or style sheets, or says what something beside it says as well."""

UNWRAPPED = "noscript, .katex, .katex-display, .katex-mathml, summary > p, aix-question"
PLAIN = {".aix-question fieldset": "div", ".aix-question legend": "p",
         ".aix-choices": "ul", ".aix-choice": "li"}  # fmt: skip
ADDRESSES = ("href", "src")


def article(page: Path, *, base: str = "") -> Tag:
    """The article of a built page, as a tree of its own.

    Args:
        page: A built HTML page.
        base: Address of the page, which makes links and images absolute; left relative without.

    Raises:
        ValueError: if the page has no article.
    """
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    found = soup.article or soup.select_one("[role=main]")
    if found is None:
        raise ValueError(f"{page} has neither an <article> nor an element with role=main")
    found.extract()
    _still_figures(found)
    _plain_guesses(found)
    for part in [*found.select(DROPPED), *_comments(found)]:
        part.extract()
    for code in found.select(".highlight pre"):
        code.string = code.get_text()
    for selector, name in PLAIN.items():
        for part in found.select(selector):
            part.name = name
    for part in found.select(UNWRAPPED):
        part.unwrap()
    if base:
        _make_absolute(found, base)
    return found


def _still_figures(article: Tag) -> None:
    for figure in article.select("figure.aix-figure"):
        parts = figure.select("img.aix-picture, figcaption")
        figure.clear()
        figure.attrs = {"class": "aix-figure", "id": figure["id"]}
        figure.extend(parts)


def _plain_guesses(article: Tag) -> None:
    for guess in article.select(".aix-guess"):
        scale = guess.input
        if scale is not None:
            unit = f" {scale.get('data-unit', '')}".rstrip()
            guess.name = "p"
            guess.string = f"Guess a number from {scale['min']} to {scale['max']}{unit}."


def _comments(article: Tag) -> Iterator[Comment]:
    return (node for node in article.descendants if isinstance(node, Comment))


def _make_absolute(article: Tag, base: str) -> None:
    """Resolve every link and image against ``base``, the address of the page."""
    for name in ADDRESSES:
        for part in article.select(f"[{name}]"):
            part[name] = urljoin(base, str(part[name]))


def tex_of(formula: Tag) -> str:
    """TeX source of a formula that KaTeX has set, the same before and after :func:`article`.

    Args:
        formula: The element around the formula, or ``<math>`` itself.

    Raises:
        ValueError: if there is no TeX in it.
    """
    annotation = formula.find("annotation", encoding="application/x-tex")
    if annotation is None:
        raise ValueError(f"no TeX in {str(formula)[:80]!r}")
    return annotation.get_text()
