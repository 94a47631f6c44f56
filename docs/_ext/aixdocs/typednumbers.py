"""No number is typed into prose: a sentence quotes what was computed, recorded or cited.

Looked at is what a reader reads: not code, math, roles, link targets or options, and of a question
not what a wrong choice says before its feedback. In there a digit may stand in a date, in a
reference to a part of a source, in a name (GPT-4, SmolLM2-135M), or in a version after its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .pagesource import SPAN, Kind, Page, blank

UNREAD = (
    SPAN,
    re.compile(r"\$\$.+?\$\$", re.S),
    re.compile(r"\\begin\{(\w+\*?)\}.+?\\end\{\1\}", re.S),
    re.compile(r"(?<![\\$])\$(?!\s)(?:(?!\n\s*\n)[^$])+?(?<![\s\\])\$(?!\d)", re.S),
    re.compile(r"(?<=\])\([^)]*\)|(?<=\])\[[^\]]*\]|<https?:[^>]*>|\[\^[^\]]+\]"),
    re.compile(r"^%.*$|^\s*\[[^\]]+\]:.*$|^\s*\d+[.)](?=\s)", re.M),
    re.compile(r"^\s*[-*] \( ?\)(?:(?!\s::\s|\n\s*\n|^\s*[-*] \().)*", re.M | re.S),
)
"""Spans and roles, math, targets and notes, comments and list marks, wrong choices."""

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
)
_YEAR = r"(?:19[5-9]\d|20[0-3]\d)\b(?!\s+(?:%|[kMG]?B\b|tokens|bytes|blocks|requests|passages))"
_PART = (
    r"(?i:eqs?\.|equations?|tables?|tab\.|figures?|figs?\.|sections?|secs?\.|appendix|appendices|"
    r"algorithms?|theorems?|lemmas?|propositions?|chapters?|pages?|pp?\.)"
)
_LABEL = r"(?:[A-Z]\.?)?\d+(?:\.\d+)*[a-z]?"
_VERSIONED = (
    r"(?:Python|PyTorch|torch|NumPy|Bokeh|Sphinx|Triton|CUDA|ROCm|JAX|vLLM|SGLang|transformers|"
    r"Llama|Qwen|Gemma|Mistral|Phi|Mamba|DeepSeek|SubQ|Claude|Gemini|Chrome|Chromium|Debian)"
)
ALLOWED = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b\d{4}-\d\d-\d\d\b",
        rf"\b(?:\d{{1,2}} )?{_MONTH}(?:\s+\d{{1,2}}\b,?)?(?:\s+{_YEAR})?",
        rf"(?:\b(?i:in|since|until|from|to|of|by|before|after|early|late|mid|and|al\.)[\s-]+"
        rf"|[(,–]\s?){_YEAR}",
        rf"\b{_PART}\s+\(?{_LABEL}\)?(?:(?:, | and |–| to ){_LABEL})*",
        rf"§\s?{_LABEL}",
        r"\barXiv[: ]\d{4}\.\d{4,5}",
        rf"\b{_VERSIONED}\s+v?\d+(?:\.\d+)*",
    )
)
"""Dates, years, parts of a source, and versions after a name."""

TOKEN = re.compile(r"\w[\w.,:/×–−+-]*")
NAME = re.compile(
    r"[^\W\d_]+\d[\w.-]*"  # p90, bf16, SmolLM2-135M
    r"|(?=[\w.-]*[A-Z])[^\W\d_][\w.-]*"  # GPT-4, but not top-5
    r"|\d+[A-Z]\d+[A-Z]+|[1-4]D"  # 1F1B, 2D
)


def typed_numbers(page: Page, names: Iterable[str] = ()) -> Iterator[str]:
    """Numbers that somebody typed into a sentence of ``page``.

    Args:
        page: The page.
        names: Titles that may contain digits, such as those of concepts and sources.
    """
    text = "\n".join(_prose(page))
    titles = (re.compile(rf"(?<!\w){re.escape(name)}(?!\w)") for name in names)
    for pattern in (*UNREAD, *titles, *ALLOWED):
        text = pattern.sub(blank, text)
    for number, line in enumerate(text.splitlines(), 1):
        for token in (match[0].rstrip(".,:/-–") for match in TOKEN.finditer(line)):
            if any(c.isdigit() for c in token) and not NAME.fullmatch(token):
                yield page.at(number, f"number {token!r} is typed into prose; publish or cite it")


def _prose(page: Page) -> list[str]:
    """Lines that are read, arguments of folded parts and notes included."""
    lines = page.only(Kind.PROSE)
    for block in page.blocks:
        if block.is_prose:
            lines[block.line - 1] = block.argument
    return lines
