"""Draw the pictures that other sites show beside a link to a page: 1200 by 630 pixels, a card each.

    python -m aixdocs.socialcards docs/_build/html docs/_social docs/_pictures

A build that knows the site's address lists the cards it wants in ``_static/aix-social/cards.json``.
This step draws those that are missing and removes those that are no longer wanted; the next build
shows them. A card's name is a hash of all that it shows, its design included. Needs playwright and
an installed Chromium or Chrome; without them it says so, and pages have no card.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from jinja2 import Template

from aiexplained.viz.pictures import NoBrowser, open_browser

WIDTH, HEIGHT = 1200, 630
FOLDER = "_static/aix-social"
LIST = f"{FOLDER}/cards.json"
DOCS = Path(__file__).parents[2]
DESIGN = DOCS / "_templates" / "social-card.html"
LOGO = DOCS / "_static" / "favicon.svg"


@dataclass(frozen=True)
class Card:
    """What one card shows.

    Args:
        site: Name of the site.
        tag: Area of the concept, or nothing.
        title: Name of the concept, or nothing.
        headline: The news in one line.
        note: How many claims were judged.
        tally: Class and words of each verdict's badge.
        figures: Hashes of the figures whose still pictures are shown.
    """

    site: str
    tag: str
    title: str
    headline: str
    note: str
    tally: tuple[tuple[str, str], ...]
    figures: tuple[str, ...]

    @property
    def name(self) -> str:
        text = json.dumps([asdict(self), design()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def alt(self) -> str:
        """The card in words."""
        return ". ".join(filter(None, [self.title, self.headline, self.note]))


@cache
def design() -> str:
    """Everything that all cards share; a change of it makes new cards."""
    return DESIGN.read_text(encoding="utf-8") + LOGO.read_text(encoding="utf-8")


def write_list(path: Path, cards: Iterable[Card]) -> None:
    text = json.dumps([asdict(card) for card in cards], indent=1, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def read_list(path: Path) -> list[Card]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [
        Card(**row | {"tally": tuple(map(tuple, row["tally"])), "figures": tuple(row["figures"])})
        for row in rows
    ]


def picture_files(card: Card, pictures: Path) -> list[Path]:
    return [pictures / f"{figure}.png" for figure in card.figures]


def card_html(card: Card, pictures: Path) -> str:
    """The card as one self-contained HTML page."""
    return Template(DESIGN.read_text(encoding="utf-8"), autoescape=True).render(
        card=card,
        logo=_data_address(LOGO, "image/svg+xml"),
        pictures=[_data_address(file, "image/png") for file in picture_files(card, pictures)],
    )


def _data_address(path: Path, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"


def draw_cards(site: Path, folder: Path, pictures: Path) -> str:
    """Bring ``folder`` up to date with the list in ``site``; return what was done, in words.

    A card whose figure has no picture yet is left for the next time.
    """
    if not (site / LIST).is_file():
        return "no cards drawn: the site was built without an address"
    cards = read_list(site / LIST)
    folder.mkdir(parents=True, exist_ok=True)
    stale = [p for p in folder.glob("*.png") if p.stem not in {card.name for card in cards}]
    for path in stale:
        path.unlink()
    missing = [card for card in cards if not (folder / f"{card.name}.png").is_file()]
    ready = [c for c in missing if all(map(Path.is_file, picture_files(c, pictures)))]
    try:
        _draw(ready, folder, pictures)
    except NoBrowser as problem:
        return f"{problem}; {len(missing)} of {len(cards)} social cards are missing"
    waiting = len(missing) - len(ready)
    return (
        f"{len(ready)} social cards drawn, {len(cards) - len(missing)} kept, {len(stale)} removed"
        + (f", {waiting} wait for the picture of a figure" if waiting else "")
    )


def _draw(cards: Sequence[Card], folder: Path, pictures: Path) -> None:
    if not cards:
        return
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        for card in cards:
            page.set_content(card_html(card, pictures), wait_until="load")
            page.screenshot(path=folder / f"{card.name}.png", animations="disabled")


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m aixdocs.socialcards")
    parser.add_argument("site", type=Path, help="folder with the built pages")
    parser.add_argument("cards", type=Path, help="folder of the social cards")
    parser.add_argument("pictures", type=Path, help="folder of the figures' still pictures")
    chosen = parser.parse_args(arguments)
    print(draw_cards(chosen.site, chosen.cards, chosen.pictures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
