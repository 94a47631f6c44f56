"""A page's Markdown taken apart line by line: front matter, headings, code cells, prose.

Plain parsing, without Sphinx, so that a rule can name the line that breaks it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from typing import Any

import yaml

FENCE = re.compile(r"\s*(?P<mark>`{3,}|~{3,}|:{3,})(?:\{(?P<name>[\w:-]+)\})?\s*(?P<rest>.*)$")
HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
SPAN = re.compile(
    r"(?:\{(?P<role>[\w:.+-]+)\})?(?<!`)(?P<mark>`+)(?!`)"
    r"(?P<body>(?:(?!\n\s*\n).)+?)(?<!`)(?P=mark)(?!`)",
    re.S,
)
"""A code span or a role; it may run over a line's end, not over a paragraph's."""

OPTION = re.compile(r"\s*:[\w-]+:(\s|$)")
NOT_PROSE = frozenset(
    {
        "api-concepts", "api-module", "bibliography", "claims-ledger", "code", "code-block",
        "code-cell", "concept-card", "concept-cards", "doctest", "eval-rst", "figure",
        "footbibliography", "image", "literalinclude", "math", "raw", "sourcecode", "toctree",
    }
)  # fmt: skip
"""Directives whose argument and body are no sentences."""


class Kind(Enum):
    """What a line of a page is."""

    FRONT = auto()
    PROSE = auto()
    FENCE = auto()
    OPTION = auto()
    OTHER = auto()


@dataclass
class Block:
    """A fenced block: a directive, or code with no directive's name."""

    name: str
    argument: str
    line: int
    lines: list[tuple[int, str]] = field(default_factory=list)

    @property
    def source(self) -> str:
        """Text of the body, without options and outer blank lines."""
        return "\n".join(text for _, text in self.lines).strip("\n")

    @property
    def is_prose(self) -> bool:
        return bool(self.name) and self.name not in NOT_PROSE


@dataclass(frozen=True)
class Page:
    """One page.

    Args:
        name: Path of the page relative to the folder of all pages, e.g. ``"concepts/x.md"``.
        text: Its Markdown.
    """

    name: str
    text: str

    def at(self, line: int, what: str) -> str:
        """A located problem: ``file:line: what``."""
        return f"{self.name}:{line}: {what}"

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def front_end(self) -> int:
        """Lines that the front matter takes, both rules included; 0 without front matter."""
        if not self.lines or self.lines[0].rstrip() != "---":
            return 0
        return next((n for n, x in enumerate(self.lines[1:], 2) if x.rstrip() == "---"), 0)

    @cached_property
    def front(self) -> dict[str, Any]:
        found = yaml.safe_load("\n".join(self.lines[1 : max(self.front_end - 1, 0)]))
        return found if isinstance(found, dict) else {}

    @cached_property
    def _parts(self) -> tuple[list[Kind], list[Block]]:
        """Kind of each line, and the fenced blocks."""
        kinds = [Kind.FRONT] * self.front_end
        blocks: list[Block] = []
        open_blocks: list[tuple[str, Block]] = []
        for number, text in enumerate(self.lines[self.front_end :], self.front_end + 1):
            mark, block = open_blocks[-1] if open_blocks else ("", None)
            fence = FENCE.match(text) if block is None or block.is_prose else None
            if mark and re.fullmatch(rf"\s*{mark[0]}{{{len(mark)},}}\s*", text):
                open_blocks.pop()
                kinds.append(Kind.FENCE)
            elif fence:
                blocks.append(Block(fence["name"] or "", fence["rest"].strip(), number))
                open_blocks.append((fence["mark"], blocks[-1]))
                kinds.append(Kind.FENCE)
            elif block and OPTION.match(text) and not block.lines:
                kinds.append(Kind.OPTION)
            else:
                if block:
                    block.lines.append((number, text))
                kinds.append(Kind.PROSE if block is None or block.is_prose else Kind.OTHER)
        return kinds, blocks

    @cached_property
    def blocks(self) -> list[Block]:
        return self._parts[1]

    @cached_property
    def cells(self) -> list[Block]:
        """The code cells."""
        return [block for block in self.blocks if block.name == "code-cell"]

    @cached_property
    def headings(self) -> list[tuple[int, int, str]]:
        """Line, level and text of each heading."""
        found = ((n, HEADING.match(x)) for n, x in enumerate(self.only(Kind.PROSE), 1))
        return [(n, len(match[1]), match[2]) for n, match in found if match]

    def only(self, *kinds: Kind) -> list[str]:
        """The page's lines, those of other kinds emptied."""
        return [
            text if kind in kinds else ""
            for text, kind in zip(self.lines, self._parts[0], strict=True)
        ]

    def spans(self, *kinds: Kind) -> list[tuple[int, str, str]]:
        """Line, role and body of each role in lines of these kinds; a code span has role ``""``."""
        text = "\n".join(self.only(*kinds))
        return [
            (text.count("\n", 0, match.start()) + 1, match["role"] or "", match["body"])
            for match in SPAN.finditer(text)
        ]

    def section(self, heading: str) -> tuple[int, int]:
        """Lines of the second-level ``heading`` and of the section's end, or ``(0, 0)``."""
        starts = [(n, text) for n, level, text in self.headings if level <= 2]
        ends = [n - 1 for n, _ in starts[1:]] + [len(self.lines)]
        for (line, text), end in zip(starts, ends, strict=True):
            if text == heading:
                return line, end
        return 0, 0


def blank(match: re.Match[str]) -> str:
    """Spaces instead of a match, its line breaks kept."""
    return re.sub(r"[^\n]", " ", match[0])
