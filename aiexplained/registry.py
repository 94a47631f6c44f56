"""What a concept says about itself: titles, sources, claims and their verdicts.

Standard library only. :func:`concepts` reads the ``CONCEPT = Concept(...)`` statement of every
module in ``aiexplained.concepts`` from its source text, so that listing the concepts imports no
mechanism (and so neither torch nor Bokeh).
"""

from __future__ import annotations

import ast
import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from aiexplained.errors import UnsupportedVerdict

CONCEPTS_FOLDER = Path(__file__).parent / "concepts"


class Verdict(StrEnum):
    """What our reading says about a source's claim."""

    REPRODUCED = "reproduced"
    DIRECTION = "direction reproduced"
    ARITHMETIC = "arithmetic checks out"
    NOT_REPRODUCED = "not reproduced here"
    NOT_TESTABLE = "not testable here"


class Kind(StrEnum):
    """How our side of a claim is known."""

    MEASURED = "measured"
    RECORDED = "recorded"
    NONE = "none"


@dataclass(frozen=True)
class Source:
    """A work that a concept rests on.

    Args:
        key: BibTeX key in the site's bibliography.
        title: Title as published.
        authors: Authors, abbreviated as on the card.
        date: Publication date, ISO 8601.
        url: Where to read it.
        note: What we could read of it, e.g. ``"abstract and section 1"``.
    """

    key: str
    title: str
    authors: str
    date: str
    url: str
    note: str = ""

    def __post_init__(self) -> None:
        dt.date.fromisoformat(self.date)
        if not self.url.startswith("https://"):
            raise ValueError(f"Source.url must start with https://, got {self.url!r}")


@dataclass(frozen=True)
class Reading:
    """Our number for one claim.

    Args:
        value: The number, in the claim's unit.
        low: Lower end of its spread (over seeds, or a bootstrap interval).
        high: Upper end of its spread.
        how: One sentence: what was run, on what, how often.
        n: Seeds or samples behind the spread.
    """

    value: float
    low: float
    high: float
    how: str
    n: int = 1

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(
                f"Reading needs low <= value <= high, got {self.low} <= {self.value} <= {self.high}"
            )
        if self.n < 1:
            raise ValueError(f"Reading.n must be at least 1, got {self.n}")

    @classmethod
    def over(cls, values: Sequence[float], how: str) -> Self:
        """Mean of ``values`` (one a seed), with the lowest and the highest as spread."""
        return cls(fmean(values), min(values), max(values), how, len(values))


@dataclass(frozen=True)
class Claim:
    """A headline number of a source, and the verdict that we publish on it.

    The verdict is *checked*, not believed: :meth:`judge` works out which verdicts a reading
    supports from the reported range and from ``direction_zero``, and refuses any other.

    Args:
        id: Short name, unique within the concept, e.g. ``"ttft"``.
        statement: The claim in one plain sentence, without the number.
        reported: The source's number as it prints it, e.g. ``"−20 % to −33 %"``.
        where: Table, figure or section of the source; or "as quoted by …" at second hand.
        source: Key of the :class:`Source` that makes the claim.
        kind: How our side is known.
        verdict: The published verdict.
        reported_low: Lower end of the reported number, in ``unit``.
        reported_high: Upper end of the reported number, in ``unit``.
        unit: Unit of all numbers of this claim, e.g. ``"%"``.
        direction_zero: The value that means "no effect"; a reading on the reported side of it
            (spread included) supports *direction reproduced*. ``None`` where there is no such side.
        digits: Decimals shown for our number.
        why: What we saw and why that may be; required for *not reproduced here*.
        rerun: Command that repeats our side; made from ``study`` where that is given.
        study: Name of the recorded study behind our number, for kind *recorded*; the site marks
            the claim when the study is older than the code that it rests on.
    """

    id: str
    statement: str
    reported: str
    where: str
    source: str
    kind: Kind
    verdict: Verdict
    reported_low: float = float("nan")
    reported_high: float = float("nan")
    unit: str = ""
    direction_zero: float | None = None
    digits: int = 1
    why: str = ""
    rerun: str = ""
    study: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.id):
            raise ValueError(f"Claim.id must be lower-case words joined by '-', got {self.id!r}")
        untestable = self.verdict is Verdict.NOT_TESTABLE
        if untestable != (self.kind is Kind.NONE):
            raise ValueError(
                f"claim {self.id!r}: 'not testable here' and kind 'none' go together, "
                f"got {self.verdict.value!r} with {self.kind.value!r}"
            )
        if (self.kind is Kind.RECORDED) != bool(self.study):
            raise ValueError(
                f"claim {self.id!r}: kind 'recorded' and a study go together, "
                f"got {self.kind.value!r} with {self.study!r}"
            )
        if not untestable and not self.reported_low <= self.reported_high:
            raise ValueError(f"claim {self.id!r} needs reported_low <= reported_high")
        zero = self.direction_zero
        if zero is not None and not untestable:
            one_number = self.reported_low == self.reported_high == zero
            if one_number or self.reported_low < zero < self.reported_high:
                raise ValueError(
                    f"claim {self.id!r}: direction_zero {zero:g} must lie outside of the reported "
                    f"range, {self.reported_low:g} to {self.reported_high:g}"
                )
        if self.verdict in (Verdict.NOT_REPRODUCED, Verdict.NOT_TESTABLE) and not self.why:
            raise ValueError(f"claim {self.id!r}: {self.verdict.value!r} must say why")

    def supported(self, reading: Reading) -> frozenset[Verdict]:
        """Verdicts that ``reading`` supports, by the rule of the ledger.

        *Reproduced*: our spread meets the reported range. *Direction reproduced*: all of our
        spread lies on the reported side of ``direction_zero``; so a reading that meets the range
        may also be published as this, the more modest verdict. *Arithmetic checks out*: the value
        has no spread and, rounded to ``digits``, lies in the reported range. *Not reproduced here*:
        none of these.
        """
        verdicts = set()
        rounded = round(reading.value, self.digits)
        if reading.low == reading.high and self.reported_low <= rounded <= self.reported_high:
            verdicts |= {Verdict.ARITHMETIC, Verdict.REPRODUCED}
        if reading.low <= self.reported_high and reading.high >= self.reported_low:
            verdicts.add(Verdict.REPRODUCED)
        zero = self.direction_zero
        if zero is not None:
            upwards = (self.reported_low + self.reported_high) / 2 > zero
            if (reading.low > zero) if upwards else (reading.high < zero):
                verdicts.add(Verdict.DIRECTION)
        return frozenset(verdicts or {Verdict.NOT_REPRODUCED})

    def judge(self, reading: Reading) -> Verdict:
        """Return the published verdict if ``reading`` supports it.

        Raises:
            UnsupportedVerdict: if it does not; the message names the verdicts that it supports.
        """
        allowed = self.supported(reading)
        if self.verdict not in allowed:
            names = " or ".join(sorted(repr(v.value) for v in allowed))
            raise UnsupportedVerdict(
                f"claim {self.id!r} says {self.verdict.value!r}, but {reading.value:g} {self.unit} "
                f"[{reading.low:g}, {reading.high:g}] against the reported {self.reported} "
                f"supports {names}"
            )
        return self.verdict


@dataclass(frozen=True)
class Concept:
    """One concept: what its card, its page head and the ledger show.

    Args:
        name: Module name, e.g. ``"cacheweaver"``; the page is the same with hyphens.
        title: Name of the method, as the field writes it.
        tag: Area, e.g. ``"Serving"``.
        headline: The news in one line.
        summary: One or two plain sentences for the card.
        date: Date of the news, ISO 8601.
        sources: Works behind it, the main one first.
        claims: What the sources claim, and our verdicts.
        prerequisites: Foundation pages and glossary terms to know first.
        revised: Date of the last correction that readers should hear of, ISO 8601; the feed
            announces it.
    """

    name: str
    title: str
    tag: str
    headline: str
    summary: str
    date: str
    sources: tuple[Source, ...]
    claims: tuple[Claim, ...] = ()
    prerequisites: tuple[str, ...] = field(default=())
    revised: str = ""

    def __post_init__(self) -> None:
        for date in filter(None, (self.date, self.revised)):
            dt.date.fromisoformat(date)
        if not self.sources:
            raise ValueError(f"concept {self.name!r} needs at least one source")
        keys = {source.key for source in self.sources}
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) != len(ids):
            raise ValueError(f"concept {self.name!r}: claim ids must differ, got {ids}")
        for claim in self.claims:
            if claim.source not in keys:
                raise ValueError(f"claim {claim.id!r} cites {claim.source!r}, not one of {keys}")

    @property
    def page(self) -> str:
        """Docname of the concept's page, relative to ``docs/``."""
        return f"concepts/{self.name.replace('_', '-')}"

    def claim(self, claim_id: str) -> Claim:
        """Return the claim with this id, or raise ``KeyError`` naming those that exist."""
        for claim in self.claims:
            if claim.id == claim_id:
                return claim
        raise KeyError(
            f"{self.name} has no claim {claim_id!r}; it has {[c.id for c in self.claims]}"
        )


def read_concept(path: Path) -> Concept:
    """Read ``CONCEPT`` from a module's source text without importing the module.

    Raises:
        ValueError: if the file has no top-level ``CONCEPT = Concept(...)``, or if that statement
            uses anything but literals and the names of this module.
    """
    names: dict[str, Any] = {
        "Claim": Claim, "Concept": Concept, "Kind": Kind, "Source": Source, "Verdict": Verdict,
        "__builtins__": {},
    }  # fmt: skip
    for node in ast.parse(path.read_text(encoding="utf-8"), filename=str(path)).body:
        if not isinstance(node, ast.Assign):
            continue
        if not any(isinstance(t, ast.Name) and t.id == "CONCEPT" for t in node.targets):
            continue
        try:
            concept = eval(compile(ast.Expression(node.value), str(path), "eval"), names)
        except NameError as error:
            raise ValueError(
                f"{path}: CONCEPT may use literals and registry names only: {error}"
            ) from error
        if not isinstance(concept, Concept):
            raise ValueError(f"{path}: CONCEPT must be a Concept, got {type(concept).__name__}")
        stem = path.parent.name if path.name == "__init__.py" else path.stem
        if concept.name != stem:
            raise ValueError(f"{path}: CONCEPT.name is {concept.name!r}, the module is {stem!r}")
        return concept
    raise ValueError(f"{path}: no top-level 'CONCEPT = Concept(...)'")


def concepts(folder: Path = CONCEPTS_FOLDER) -> tuple[Concept, ...]:
    """All concepts found in ``folder``, newest first.

    A concept is a module ``x.py`` or a package ``x/__init__.py``; names with a leading underscore
    are not concepts.
    """
    files = [p for p in folder.glob("*.py") if not p.name.startswith("_")]
    files += [p for p in folder.glob("*/__init__.py") if not p.parent.name.startswith("_")]
    found = [read_concept(path) for path in files]
    return tuple(sorted(found, key=lambda c: (c.date, c.name), reverse=True))
