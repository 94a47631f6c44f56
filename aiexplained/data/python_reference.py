"""Passages of the Python language reference, from the copy inside every CPython.

Source: ``pydoc_data.topics``, the text that ``help("with")`` prints: about 80 topics, 465 kB.
License: Python Software Foundation License 2; copyright 2001 and later, Python Software
Foundation. Nothing is downloaded and no copy is kept here, so the passages are those of the
running Python: :func:`corpus_fingerprint` tells two versions apart and belongs beside every result.

What is changed: wrapped lines are joined, typographic quotes and dashes become ASCII, grammar
productions, tables, "see also" lists and code listings of more than 40 words are left out, and
text that several topics repeat (``compound`` repeats ``with``, for example) is kept once, in the
shortest topic that has it.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Literal

DEFAULT_MAX_WORDS = 120
LONGEST_LISTING = 40
SHORTEST_PASSAGE = 25

_ASCII = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\xa0": " "}
)
_UNDERLINE = re.compile(r"([=*~^+-])\1{2,}")
_ITEM = re.compile(r"(?:\*|\d+\.|[IVX]+\.|\[\d+\]) ")
_ADMONITIONS = ("Note:", "Warning:", "Caution:", "Tip:", "Important:")
# A grammar rule as Python 3.14 writes it; before, "::=" marks one.
_RULE = re.compile(r"[a-z][a-z_]*:\s")
# What announces a code block; and how one starts that nothing announces.
_LEAD_IN = re.compile(r"(?:[:,]|\b(?:to|as if|as|like|following code|statements))$")
_STATEMENT = re.compile(r"(?:(?:async )?def|class|except|if|for|while|with) .*:|@\w.*")
_EMPHASIS = re.compile(r"(?<![\w*])\*{1,2}(\w(?:[\w .-]*\w)?)\*{1,2}(?![\w*])")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+(?=[A-Z\"'(*])")

Kind = Literal["heading", "signature", "prose", "code", "grammar"]


@dataclass(frozen=True)
class Passage:
    """A stretch of one topic, cut at paragraph boundaries.

    Args:
        id: Topic and place in it, e.g. ``"with/02"``; stable for one Python version.
        topic: Key of ``pydoc_data.topics``.
        heading: Section of the topic, with the definition that it continues, if any.
        text: The heading on the first line, then one paragraph a line.
    """

    id: str
    topic: str
    heading: str
    text: str


@dataclass(frozen=True)
class _Block:
    kind: Kind
    text: str
    indent: int = 0

    @property
    def words(self) -> int:
        return len(self.text.split())


def load_passages(*, max_words: int = DEFAULT_MAX_WORDS) -> tuple[Passage, ...]:
    """The language reference as passages of similar length, without repeats.

    Text of the Python Software Foundation, license PSF-2.0, from ``pydoc_data.topics`` of the
    running interpreter; the module docstring lists what is changed.

    Args:
        max_words: Words that a passage may have beside its heading, ``>= 40``. A paragraph that
            is longer by itself is split between sentences; a sentence never is.

    Returns:
        Passages in the order of topic and place. The default makes some 490 of them on
        Python 3.11; half of them have 114 to 163 tokens of SmolLM2.

    Raises:
        TypeError: if ``max_words`` is not an int.
        ValueError: if ``max_words`` is below 40.
        ModuleNotFoundError: on a Python that was built without ``pydoc_data``.
    """
    if isinstance(max_words, bool) or not isinstance(max_words, int):
        raise TypeError(f"max_words must be an int, got {type(max_words).__name__}")
    if max_words < 40:
        raise ValueError(f"max_words must be at least 40, got {max_words}")
    return _load(max_words)


def corpus_fingerprint(passages: Sequence[Passage] | None = None) -> str:
    """SHA-256 over ids and texts, 64 hexadecimal digits; differs between Python versions.

    Args:
        passages: Passages to identify; those of :func:`load_passages` by default.
    """
    digest = hashlib.sha256()
    for passage in load_passages() if passages is None else passages:
        digest.update(f"{passage.id}\0{passage.text}\0".encode())
    return digest.hexdigest()


@functools.cache
def _load(max_words: int) -> tuple[Passage, ...]:
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Python {sys.version.split()[0]} has no pydoc_data.topics, which this text comes "
            "from; use a full CPython distribution"
        ) from error
    return cut_topics(topics, max_words=max_words)


def cut_topics(topics: Mapping[str, str], *, max_words: int) -> tuple[Passage, ...]:
    """Cut named topics in the plain-text markup of Sphinx into passages; see `load_passages`."""
    seen: set[tuple[str, str]] = set()
    passages: list[Passage] = []
    for topic in sorted(topics, key=lambda name: (len(topics[name]), name)):
        fresh = _unseen(list(_blocks(topics[topic])), seen)
        units = [unit for block in fresh for unit in _split_long(block, max_words)]
        passages += _passages_of(topic, units, max_words)
    return tuple(sorted(passages, key=lambda passage: passage.topic))


def _unseen(blocks: Sequence[_Block], seen: set[tuple[str, str]]) -> list[_Block]:
    """Blocks that no topic before had; a short one may recur after another block."""
    fresh: list[_Block] = []
    before = ""
    for block in blocks:
        key = ("" if block.words >= 8 else before, block.text)
        before = block.text
        if block.kind == "heading" or key not in seen:
            fresh.append(block)
        seen.add(key)
    kinds = [block.kind for block in fresh] + ["heading"]
    return [block for i, block in enumerate(fresh) if not kinds[i] == kinds[i + 1] == "heading"]


def _blocks(text: str) -> Iterator[_Block]:
    """Classify what blank lines separate, and leave out grammar and long listings."""
    previous, prose_indent, admonition = _Block("prose", ""), 0, ""
    for lines, is_term in _chunks(text.translate(_ASCII)):
        first, indent = lines[0].strip(), _indent(lines[0])
        if len(lines) == 1 and first in _ADMONITIONS:
            admonition = f"{first} "
            continue
        if admonition:
            block = _Block("prose", _join(lines), indent)
        else:
            block = _classify(lines, previous, prose_indent, is_term=is_term)
        if block.kind not in ("code", "grammar"):
            item = _ITEM.match(first)
            prose_indent = indent + len(item[0]) if item else indent
        if block.kind != "grammar" and not (block.kind == "code" and block.words > LONGEST_LISTING):
            yield replace(block, text=admonition + block.text)
        previous, admonition = block, ""


def _chunks(text: str) -> Iterator[tuple[list[str], bool]]:
    """Lines between blank lines, without tables, "see also" and footnotes; and: is it a term?

    A term, such as the signature of a method, is followed by text that is indented deeper.
    """
    chunks = [part.strip("\n").split("\n") for part in re.split(r"\n\s*\n", text.strip("\n"))]
    indents = [_indent(lines[0]) for lines in chunks]
    aside: int | None = None
    for lines, indent, following in zip(chunks, indents, [*indents[1:], 0], strict=True):
        first = lines[0].strip()
        if first == "-[ Footnotes ]-":
            return
        if aside is not None and indent > aside:
            continue
        aside = indent if first == "See also:" else None
        if not first.startswith(("See also", "+--", "===", "|")):
            yield lines, following > indent


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _classify(lines: list[str], previous: _Block, prose_indent: int, *, is_term: bool) -> _Block:
    stripped = [line.strip() for line in lines]
    indent = _indent(lines[0])
    if len(lines) == 2 and indent == 0 and _UNDERLINE.fullmatch(stripped[1]):
        return _Block("heading", _EMPHASIS.sub(r"\1", stripped[0]))
    if any("::=" in line for line in lines) or (indent > prose_indent and _RULE.match(stripped[0])):
        return _Block("grammar", "\n".join(lines), indent)
    if not _ITEM.match(stripped[0]):
        continues = previous.kind in ("code", "grammar")
        led = continues or _LEAD_IN.search(previous.text) or _STATEMENT.fullmatch(stripped[0])
        if stripped[0].startswith(">>>") or (indent > prose_indent and led):
            base = previous.indent if continues and previous.indent <= indent else indent
            return _Block("code", "\n".join("    " + line[base:] for line in lines), base)
        short = max(len(line.split()) for line in stripped) <= 9
        if is_term and short and stripped[-1][-1] != "." and not _LEAD_IN.search(stripped[-1]):
            return _Block("signature", ", ".join(stripped), indent)
    return _Block("prose", _join(lines), indent)


def _join(lines: Sequence[str]) -> str:
    """Undo wrapping and emphasis: a term gets a colon, a break at a hyphen no space."""
    joined = lines[0].strip()
    for number, line in enumerate(lines[1:]):
        term = number == 0 and not _ITEM.match(joined) and _indent(line) > _indent(lines[0])
        glue = " " if not term else " " if joined.endswith(":") else ": "
        joined += ("" if re.search(r"\w-$", joined) else glue) + line.strip()
    return _EMPHASIS.sub(r"\1", re.sub(r"\s+", " ", joined))


def _split_long(block: _Block, max_words: int) -> Iterator[_Block]:
    """A paragraph of more than ``max_words``, as runs of its sentences of about equal length."""
    if block.kind != "prose" or block.words <= max_words:
        yield block
        return
    share = block.words / -(-block.words // max_words)
    run: list[str] = []
    for sentence in _SENTENCE_END.split(block.text):
        held = sum(len(s.split()) for s in run)
        words = len(sentence.split())
        if run and (held + words / 2 > share or held + words > max_words):
            yield replace(block, text=" ".join(run))
            run = []
        run.append(sentence)
    yield replace(block, text=" ".join(run))


def _passages_of(topic: str, units: Sequence[_Block], max_words: int) -> list[Passage]:
    headings = _headings(units)
    passages: list[Passage] = []
    for start, stop in pairwise(_cuts(units, max_words)):
        body = list(units[start:stop])
        if body[0].kind == "heading":
            body.pop(0)
        prose = sum(unit.words for unit in body if unit.kind == "prose")
        if prose < SHORTEST_PASSAGE or 2 * prose < sum(unit.words for unit in body):
            continue
        text = "\n".join([headings[start], *(unit.text for unit in body)])
        name = f"{topic}/{len(passages) + 1:02d}"
        passages.append(Passage(name, topic, headings[start], text))
    return passages


def _headings(units: Sequence[_Block]) -> list[str]:
    """For each unit, the heading of a passage that starts with it."""
    headings: list[str] = []
    section, signature = "", _Block("signature", "")
    for unit in units:
        if unit.kind == "heading":
            section = unit.text
        if unit.kind in ("heading", "signature") or unit.indent <= signature.indent:
            signature = unit
        inside = signature.kind == "signature" and signature is not unit
        name = re.split(r"(?<=\)), ", signature.text)[0]
        headings.append(f"{section}: {name}" if inside and name else section)
    return headings


def _cuts(units: Sequence[_Block], max_words: int) -> list[int]:
    """Where to cut: least total cost of empty space and of starts in awkward places.

    The cost of a passage is its empty share of ``max_words``, squared, plus that of its first unit.
    Solved exactly, from the left, as optimal line breaking is.
    """
    before = list(accumulate((unit.words for unit in units), initial=0))
    best = [(0.0, 0)] + [(float("inf"), 0)] * len(units)
    for start in range(len(units)):
        opening = best[start][0] + _start_cost(units, start)
        for stop in range(start + 1, len(units) + 1):
            words = before[stop] - before[start]
            if words > max_words and stop > start + 1:
                break
            cost = opening + max(0.0, 1 - words / max_words) ** 2
            best[stop] = min(best[stop], (cost, start))
    cuts = [len(units)]
    while cuts[-1] > 0:
        cuts.append(best[cuts[-1]][1])
    return cuts[::-1]


def _start_cost(units: Sequence[_Block], start: int) -> float:
    if start == 0:
        return 0.0
    if units[start - 1].kind in ("heading", "signature") or units[start].kind == "code":
        return 2.0
    if units[start - 1].text.endswith(":"):
        return 0.5
    return {"heading": 0.0, "signature": 0.1}.get(units[start].kind, 0.2)
