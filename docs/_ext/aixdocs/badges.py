"""How verdicts and the sources' numbers look: a color, a symbol and always the words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from docutils import nodes
from sphinx.writers.html5 import HTML5Translator

from aiexplained.registry import Claim, Concept, Source, Verdict
from aiexplained.viz.claims import SIGNS


class reported(nodes.inline):  # noqa: N801 (docutils names nodes in lower case)
    """A number as its source prints it; ``title`` says who and where."""


def verdict_class(verdict: Verdict) -> list[str]:
    return ["aix-verdict", "aix-verdict-" + verdict.value.replace(" ", "-")]


def badge(verdict: Verdict) -> nodes.inline:
    return nodes.inline("", f"{SIGNS[verdict]} {verdict.value}", classes=verdict_class(verdict))


def verdict_counts(concepts: Iterable[Concept]) -> list[tuple[Verdict, int]]:
    """How many claims have which verdict; verdicts that none has are left out."""
    counts = Counter(claim.verdict for concept in concepts for claim in concept.claims)
    return [(verdict, counts[verdict]) for verdict in Verdict if counts[verdict]]


def counted(number: int, noun: str) -> str:
    """``1 claim``, ``2 claims``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def short_citation(source: Source) -> str:
    """``Tan et al. 2026`` from ``Kaizhen Tan, Rong Gu, Mingyuan Li`` and an ISO date."""
    first, *rest = source.authors.replace(" and ", ", ").replace(" et al", ", et al").split(", ")
    return f"{first.split()[-1]}{' et al.' if rest else ''} {source.date[:4]}"


def reported_number(concept: Concept, claim: Claim) -> list[nodes.Node]:
    """The source's number, and a link to the source beside it."""
    source = next(s for s in concept.sources if s.key == claim.source)
    cite = short_citation(source)
    number = reported("", claim.reported, title=f"Reported by {cite}: {claim.where}. Not ours.")
    link = nodes.reference(
        "", cite, refuri=source.url, internal=False, classes=["aix-cite"],
        reftitle=f"{source.title} ({claim.where})",
    )  # fmt: skip
    return [number, nodes.Text(" ("), link, nodes.Text(")")]


def visit_reported(self: HTML5Translator, node: reported) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="aix-reported", title=node["title"]))


def depart_reported(self: HTML5Translator, node: reported) -> None:
    self.body.append("</span>")
