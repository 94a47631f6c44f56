"""The prose of a built page as Markdown, cut where its code cells and its headings stand.

Markdown as Jupyter and Colab show it: TeX in dollars, tables with pipes, answers in ``<details>``.
Folded parts become plain parts with a bold title, because a code cell cannot stand inside an
element.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from bs4 import NavigableString, Tag
from markdownify import ATX, MarkdownConverter

from .fulltext import tex_of

CELL = re.compile(r"aix-cell-(\d+)")
DROPPED = {"aix-head-links", "aix-head-facts", "backrefs"}
"""Classes of what makes no sense away from the site."""

BOLD = {"admonition-title", "aix-headline", "aix-tag", "code-block-caption"}
BLOCKS = {"aside", "details", "hr"}
"""Elements beside which white space means nothing, besides those that the library knows."""

SPECIAL = re.compile(r"[\\`*_~$]|<(?=[A-Za-z/!?])")
LINE_START = re.compile(r"^(\d*)([#>+.)-]+)(?=\s)")
LANGUAGES = {"ipython3": "python", "pycon": "python", "default": "", "none": "", "text": ""}
CUT = "\ue000"
"""Stands on both sides of a cell's index, and twice before a heading."""


def pieces(article: Tag, base: str = "") -> Iterator[str | int]:
    """Markdown texts in the order of the page and, between them, the indices of its code cells.

    Args:
        article: What ``fulltext.article`` made of the page; a code cell has the class
            ``aix-cell-<index>``.
        base: Address of the page, if it has one. Links within the page become plain text, and so
            do all without a host; pictures without a host are left out.
    """
    converter = PageConverter(
        base=base, heading_style=ATX, bullets="-", sub_symbol="<sub>", sup_symbol="<sup>",
        wrap=True, wrap_width=None, code_language_callback=_language,
    )  # fmt: skip
    for place, part in enumerate(converter.convert_soup(article).split(CUT)):
        if place % 2 and part:
            yield int(part)
        elif text := part.strip():
            yield text


class PageConverter(MarkdownConverter):
    """What the site's own elements become; plain HTML is left to the library."""

    def process_tag(self, node: Tag, parent_tags: set[str] | None = None) -> str:
        classes = node.get_attribute_list("class")
        if DROPPED.intersection(classes):
            return ""
        if "math" in classes:
            return _math(node, in_table=bool({"td", "th"}.intersection(parent_tags or ())))
        if cell := next(filter(None, map(CELL.fullmatch, filter(None, classes))), None):
            return f"\n\n{CUT}{cell[1]}{CUT}\n\n"
        text: str = super().process_tag(node, parent_tags)
        return _bold(text) if BOLD.intersection(classes) else text

    def process_text(self, el: NavigableString, parent_tags: set[str] | None = None) -> str:
        beside = {getattr(el.previous_sibling, "name", ""), getattr(el.next_sibling, "name", "")}
        if not el.strip() and BLOCKS.intersection(beside):
            return ""
        return super().process_text(el, parent_tags)

    def escape(self, text: str, parent_tags: set[str]) -> str:
        return SPECIAL.sub(r"\\\g<0>", text)

    def convert_hN(self, n: int, el: Tag, text: str, parent_tags: set[str]) -> str:  # noqa: N802
        heading = super().convert_hN(n, el, text, parent_tags)
        return heading if "_inline" in parent_tags else f"\n\n{CUT}{CUT}{heading.strip()}\n\n"

    def convert_p(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        escaped = LINE_START.sub(r"\1\\\2", text.strip())
        return super().convert_p(el, escaped, parent_tags)

    def convert_div(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        if {"aix-head", "admonition"}.intersection(el.get_attribute_list("class")):
            return f"\n{self.convert_blockquote(el, text, parent_tags)}"
        return super().convert_div(el, text, parent_tags)

    def convert_span(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return f"**{text}:**" if "aix-kicker" in el.get_attribute_list("class") else text

    def convert_a(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        address = str(el.get("href", ""))
        leads_away = urlsplit(address).scheme and address.partition("#")[0] != self.options["base"]
        return super().convert_a(el, text, parent_tags) if leads_away else text

    def convert_img(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        has_host = urlsplit(str(el.get("src", ""))).scheme
        return super().convert_img(el, text, parent_tags) if has_host else ""

    def convert_td(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return super().convert_td(el, text.replace("|", r"\|"), parent_tags)

    convert_th = convert_td

    def convert_aside(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """A footnote in one line, its mark in front; other asides are plain text."""
        if "footnote" in el.get_attribute_list("class"):
            text = " ".join(text.split())
        return f"\n\n{text.strip()}\n\n"

    def convert_dt(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return f"\n\n{_bold(text)}\n\n"

    def convert_dd(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return f"\n\n{text.strip()}\n\n"

    def convert_details(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        title = el.summary.get_text(" ", strip=True) if el.summary else ""
        if "aix-answers" in el.get_attribute_list("class"):
            return f"\n\n<details>\n<summary>{title}</summary>\n\n{text.strip()}\n\n</details>\n\n"
        return f"\n\n{_bold(self.escape(title, parent_tags))}\n\n{text.strip()}\n\n"

    def convert_summary(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return ""


def _bold(text: str) -> str:
    """``text`` in bold, with the white space around it as it was."""
    inner = text.strip()
    return text.replace(inner, f"**{inner}**", 1) if inner else text


def _math(node: Tag, *, in_table: bool) -> str:
    """The formula in dollars, from the TeX that KaTeX leaves beside the MathML."""
    tex = "\n".join(line.strip() for line in tex_of(node).splitlines() if line.strip())
    if node.name != "div":
        tex = tex.replace("\n", " ")
        if in_table:
            tex = tex.replace(r"\|", r"\Vert ").replace("|", r"\vert ")
        return f"${tex}$"
    number = node.find(class_="eqno")
    if number and (found := re.search(r"\((.+?)\)", number.get_text())):
        tex += f" \\tag{{{found[1]}}}"
    return f"\n\n$$\n{tex}\n$$\n\n"


def _language(pre: Tag) -> str:
    """The language that Sphinx highlighted the code in, as Markdown names it."""
    block: Any = pre.find_parent(class_=re.compile("^highlight-"))
    names = block.get_attribute_list("class") if block else []
    found = next((n.removeprefix("highlight-") for n in names if n.startswith("highlight-")), "")
    return LANGUAGES.get(found, found)
