"""Rules that the pages keep. Each takes a page and gives located problems, none if all is well."""

from __future__ import annotations

import ast
import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .pagesource import SPAN, Block, Kind, Page, blank
from .typednumbers import typed_numbers

SECTIONS = (
    "What does it mean?", "Predict", "See it", "A worked example", "How it works", "Is it true?",
    "When it fails", "Use it", "Check yourself", "Sources and departures", "Read next",
)  # fmt: skip
"""Second-level headings of a concept page, in order; an appendix may come after ``Use it``."""

APPENDIX = "Appendix"

MAX_CELL_LINES = 15
MAX_INTRODUCTION_WORDS = 300
INSTALLS = re.compile(r"^[!%]|\b(?:pip3?|conda|mamba)\b.*\binstall\b", re.M)
EQUATION = re.compile(r"(?<!\\)\$|\\begin\{")


def front_matter(page: Page) -> Iterator[str]:
    """A page with cells names its format and kernel; dates are quoted (the ipynb writer fails)."""
    if page.cells:
        if page.front.get("file_format") != "mystnb":
            yield page.at(1, "a page with cells needs 'file_format: mystnb' in its front matter")
        if "name" not in (page.front.get("kernelspec") or {}):
            yield page.at(1, "a page with cells needs a kernelspec with a name")
    for date in (value for value in _leaves(page.front) if isinstance(value, dt.date)):
        said = date.isoformat()[:10]
        line = next((n for n, text in enumerate(page.lines, 1) if said in text), 1)
        yield page.at(line, f"quote the date {said} in the front matter")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _leaves(child)
    else:
        yield value


def headings(page: Page) -> Iterator[str]:
    """One first-level heading, at the top; no level is skipped on the way down."""
    if not page.headings:
        yield page.at(1, "no heading")
    before = 0
    for place, (line, level, text) in enumerate(page.headings):
        if (level == 1) != (place == 0):
            yield page.at(line, f"exactly the first heading is of level 1; {text!r} has {level}")
        elif level > before + 1:
            yield page.at(line, f"{text!r} skips from level {before} to {level}")
        before = level


def sections(page: Page) -> Iterator[str]:
    """A concept page has all sections, in order, and no others."""
    end = (len(page.lines), "the end")
    found = [(line, text) for line, level, text in page.headings if level == 2]
    known = [(line, text) for line, text in found if not text.startswith(APPENDIX)]
    for (line, text), wanted in zip([*known, end], [*SECTIONS, end[1]], strict=False):
        if text != wanted:
            yield page.at(line, f"expected {wanted!r} as the next section, found {text!r}")
            break


def appendix(page: Page) -> Iterator[str]:
    """An appendix stands near the end of a concept page, and is folded."""
    use_it, _ = page.section("Use it")
    for line, level, text in page.headings:
        if level == 2 and text.startswith(APPENDIX):
            first, end = page.section(text)
            if first < use_it:
                yield page.at(line, "an appendix stands near the end, after 'Use it'")
            if not any(b.name == "folded" and first <= b.line <= end for b in page.blocks):
                yield page.at(line, "an appendix is folded: begin it with '{folded} Title'")


def card(page: Page) -> Iterator[str]:
    """The title of a concept page is followed by the concept's card."""
    title = page.headings[0][0] if page.headings else 0
    line = next((n for n, x in enumerate(page.lines[title:], title + 1) if x.strip()), title)
    name = Path(page.name).stem.replace("-", "_")
    cards = {(b.argument, b.line) for b in page.blocks if b.name == "concept-card"}
    if cards != {(name, line)}:
        yield page.at(line, f"the title is followed by one '{{concept-card}} {name}'")


def cells(page: Page) -> Iterator[str]:
    """Cells are short and plain, define and install nothing, and show or publish something."""
    for cell in page.cells:
        for what in _cell(cell):
            yield page.at(cell.line, f"code cell: {what}")


def _cell(cell: Block) -> Iterator[str]:
    count = len(cell.source.splitlines())
    if count > MAX_CELL_LINES:
        yield f"{count} lines, at most {MAX_CELL_LINES}"
    if INSTALLS.search(cell.source):
        yield "installs nothing and has no shell or magic lines"
        return
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        yield f"not plain Python: {error.msg}"
        return
    nodes = list(ast.walk(tree))
    if any(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for n in nodes):
        yield "defines a function or class, which belongs in the package"
    if sum(isinstance(n, ast.Lambda) for n in nodes) > 1:
        yield "has several lambdas; give them names in the package"
    if not (tree.body and isinstance(tree.body[-1], ast.Expr)) and not _publishing(tree):
        yield "neither ends in an expression nor publishes"


def introduction(page: Page) -> Iterator[str]:
    """The section in plain words is short and has no equation."""
    first, end = page.section(SECTIONS[0])
    inside = range(first + 1, end + 1)
    prose = page.only(Kind.PROSE)
    words = sum(_count_words(prose[line - 1]) for line in inside)
    if words >= MAX_INTRODUCTION_WORDS:
        yield page.at(first, f"{words} words, must be fewer than {MAX_INTRODUCTION_WORDS}")
    text = SPAN.sub(blank, "\n".join(prose)).split("\n")
    found = {line for line in inside if EQUATION.search(text[line - 1])}
    found |= {line for line, role, _ in page.spans(Kind.PROSE) if role == "math"}
    found |= {block.line for block in page.blocks if block.name == "math"}
    for line in sorted(found.intersection(inside)):
        yield page.at(line, "no equation where the idea is told in plain words")


def _count_words(line: str) -> int:
    """Words of a line as it is read: no names of roles, targets of links, or rows of tables."""
    if line.lstrip().startswith("|"):
        return 0
    read = re.sub(r"\]\([^)]*\)|\s<[^<>`]*>(?=`)|\{[\w:-]+\}(?=`)", "", line)
    return len(re.findall(r"[^\W_][\w'’.,-]*", read))


def glue(page: Page) -> Iterator[str]:
    """Every number that the text quotes is published on the page, under a name in plain sight."""
    names: set[str | None] = set()
    for cell in page.cells:
        try:
            calls = _publishing(ast.parse(cell.source))
        except SyntaxError:
            continue
        found = {keyword.arg for call in calls for keyword in call.keywords}
        if None in found:
            yield page.at(cell.line, "publish names its values one by one, without '**'")
        names |= found
    for line, role, body in page.spans(Kind.PROSE, Kind.OPTION):
        name = body.partition(":")[0]
        if role.startswith("glue:") and name not in names:
            yield page.at(line, f"no cell of this page publishes {name!r}")


def _publishing(tree: ast.AST) -> list[ast.Call]:
    """Calls of ``viz.publish``."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [c for c in calls if getattr(c.func, "attr", getattr(c.func, "id", "")) == "publish"]


def left_over(page: Page, skeleton: Page) -> Iterator[str]:
    """What the skeleton of a page says to write has been written."""
    told = {line for line in skeleton.only(Kind.PROSE) if len(line.split()) > 5}
    for number, line in enumerate(page.only(Kind.PROSE), 1):
        if line in told:
            yield page.at(number, "a line of the skeleton is left over")


Rule = Callable[[Page], Iterable[str]]
EVERY_PAGE: tuple[Rule, ...] = (front_matter, headings, cells, glue)
CONCEPT_PAGE: tuple[Rule, ...] = (sections, appendix, card, introduction)
WITHOUT_TYPED_NUMBERS = ("concepts/", "foundations/", "kernels/", "index.md", "glossary.md")


def problems(page: Page, names: Iterable[str] = ()) -> list[str]:
    """Everything wrong with a page; ``names`` are titles that may contain digits."""
    rules = [*EVERY_PAGE, *(CONCEPT_PAGE if page.name.startswith("concepts/") else ())]
    found = [problem for rule in rules for problem in rule(page)]
    if page.name.startswith(WITHOUT_TYPED_NUMBERS):
        found += typed_numbers(page, names)
    return found
