"""What a link to a page shows elsewhere: title, description and card, for search and for sharing.

A concept page is described by the registry, any other page by its first paragraph, or by
``html_meta: {description: …}`` in its front matter. The cards are drawn in a step of their own
(see :mod:`aixdocs.socialcards`); a page whose card is missing shows the site's, or none. What needs
an address is left out where the site has none.
"""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from aiexplained.registry import Concept

from .addresses import BUILDERS, address, site_address
from .badges import SIGNS, counted, verdict_class, verdict_counts
from .feed import instant
from .lookup import concepts
from .pictures import first_figure
from .shown import Shown
from .socialcards import FOLDER, HEIGHT, LIST, WIDTH, Card, write_list

LONGEST = 200
"""Characters of a description; search engines and chats cut longer ones themselves, anywhere."""

SHOWN = Shown("cards")
MOSAIC = 4
"""Figures on the site's own card: the first ones of the newest concepts."""

NO_WORDS = (nodes.footnote_reference, nodes.raw, nodes.comment)
FORMULAS = (nodes.math, nodes.math_block)
PARAGRAPH_PLACES = (nodes.section, nodes.document)


def add_tags(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is None or app.builder.name not in BUILDERS:
        return
    concept = next((c for c in concepts(app.env) if c.page == page), None)
    written = next((m["content"] for m in doctree.findall(nodes.meta) if _describes(m)), "")
    text = written or (concept.summary if concept else first_words(doctree))
    tags = [] if written or not text else [("name", "description", text)]
    tags += [("property", name, value) for name, value in graph(app, page, concept, text) if value]
    large = shown_card(app, page) is not None
    tags += [("name", "twitter:card", "summary_large_image" if large else "summary")]
    context["metatags"] = context.get("metatags", "") + "".join(
        f'<meta {kind}="{name}" content="{html.escape(value)}">\n' for kind, name, value in tags
    )


def _describes(node: nodes.meta) -> bool:
    return str(node.get("name")).lower() == "description"


def graph(app: Sphinx, page: str, concept: Concept | None, text: str) -> Iterator[tuple[str, str]]:
    """Properties of the Open Graph protocol; those without a value are to be left out."""
    title = app.env.titles[page].astext()
    if page == app.config.root_doc:
        title = app.config.project
    yield "og:title", f"{concept.title}: {concept.headline}" if concept else title
    yield "og:type", "article" if concept else "website"
    yield "og:site_name", app.config.project
    yield "og:description", text
    yield "og:url", address(app, page)
    if concept:
        yield "article:published_time", instant(concept.date)
        yield "article:section", concept.tag
    if card := shown_card(app, page):
        yield "og:image", site_address(app, f"{FOLDER}/{card.name}.png")
        yield "og:image:type", "image/png"
        yield "og:image:width", str(WIDTH)
        yield "og:image:height", str(HEIGHT)
        yield "og:image:alt", card.alt


def first_words(doctree: nodes.document) -> str:
    """The first paragraph without formulas as plain text, cut to :data:`LONGEST` characters."""
    for paragraph in doctree.findall(nodes.paragraph):
        formula = next((n for n in paragraph.findall() if isinstance(n, FORMULAS)), None)
        text = " ".join("".join(_words(paragraph)).split())
        if text and formula is None and isinstance(paragraph.parent, PARAGRAPH_PLACES):
            return shortened(text)
    return ""


def _words(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Text):
        yield node.astext()
    elif not isinstance(node, NO_WORDS):
        for child in node.children:
            yield from _words(child)


def shortened(text: str) -> str:
    """As many whole sentences as fit, or as many words if the first sentence is too long.

    A last sentence that announces what follows it on the page, with a colon, counts as too long.
    """
    if len(text) <= LONGEST and not text.endswith(":"):
        return text
    head = text[: LONGEST + 1]
    ends = [found.end() for found in re.finditer(r"[.!?](?=\s)", head)]
    if ends:
        return text[: ends[-1]]
    words = head.rsplit(" ", 1)[0] if len(text) > LONGEST else text
    return words.rstrip(",;:") + " …"


def wanted_cards(app: Sphinx) -> dict[str, Card]:
    """The card of each concept's page, and that of the site under the name of its start page."""
    env = app.env
    found = [c for c in concepts(env) if c.page in env.found_docs]
    cards = {c.page: concept_card(env, c) for c in found}
    claims = sum(len(concept.claims) for concept in found)
    noted = f"{counted(len(found), 'concept')}, {counted(claims, 'claim')} judged" if found else ""
    cards[app.config.root_doc] = Card(
        site=env.config.project, tag="", title="", note=noted, tally=tally(found),
        headline=env.config.aix_tagline or env.config.project,
        figures=tuple(f for card in cards.values() for f in card.figures)[:MOSAIC],
    )  # fmt: skip
    return cards


def concept_card(env: BuildEnvironment, concept: Concept) -> Card:
    first = first_figure(env, concept.page)
    claims = f"{counted(len(concept.claims), 'claim')} judged" if concept.claims else ""
    return Card(
        site=env.config.project, tag=concept.tag, title=concept.title, note=claims,
        headline=concept.headline, tally=tally([concept]),
        figures=(first,) if first else (),
    )  # fmt: skip


def tally(found: Iterable[Concept]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (verdict_class(verdict)[-1], f"{SIGNS[verdict]} {number} {verdict.value}")
        for verdict, number in verdict_counts(found)
    )


def shown_card(app: Sphinx, page: str) -> Card | None:
    """The page's own card if it is drawn, else the site's if that is; none without an address."""
    cards = wanted_cards(app)
    for card in filter(None, (cards.get(page), cards[app.config.root_doc])):
        if app.config.html_baseurl and card_file(app, card).is_file():
            return card
    return None


def card_file(app: Sphinx, card: Card) -> Path:
    return Path(app.srcdir, app.config.aix_social_cards, f"{card.name}.png")


def pages_with_new_cards(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Pages that show another card than when they were written."""
    cards = {page: shown_card(app, page) for page in env.found_docs}
    return SHOWN.changed(app, {page: card.name if card else "" for page, card in cards.items()})


def finish(app: Sphinx, error: Exception | None) -> None:
    """Leave the list of wanted cards for the step that draws, and copy those it has drawn."""
    if error or app.builder.name not in BUILDERS:
        return
    folder = Path(app.outdir, FOLDER)
    shutil.rmtree(folder, ignore_errors=True)
    if app.config.html_baseurl:
        cards = wanted_cards(app).values()
        write_list(Path(app.outdir, LIST), cards)
        for drawn in filter(Path.is_file, (card_file(app, card) for card in cards)):
            shutil.copy2(drawn, folder / drawn.name)


def setup(app: Sphinx) -> None:
    app.add_config_value("aix_social_cards", "_social", "", [str])
    app.add_config_value("aix_tagline", "", "html", [str])
    app.connect("html-page-context", add_tags)
    app.connect("env-updated", pages_with_new_cards)
    app.connect("build-finished", finish)
