"""Recorded results say where they come from, and carry a mark when the code has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aixdocs import recorded
from bs4 import BeautifulSoup
from test_claims import CELL, claims_site
from tiny import CLAIM, Site

from aiexplained import records
from aiexplained.reach import fingerprint_of

FUNCTION = "aiexplained.serving.block_cache:block_hashes"
RECORDED = CLAIM.replace("Kind.MEASURED", "Kind.RECORDED").replace(
    'rerun="run it"', 'study="speed"'
)
CHANGED = "the code has changed since"


def put_record(site: Site, code: str, *, date: str = "2026-03-01", seed: int = 0) -> Path:
    """A record of the study ``tiny/speed`` that rests on ``code``."""
    entry = {
        "schema": 1, "study": "speed", "function": FUNCTION, "setting": {"seed": seed},
        "result": {"value": 1},
        "provenance": {
            "date": date, "commit": "abc", "versions": {}, "device": "a machine", "wall_s": 1.0,
            "code": code,
        },
    }  # fmt: skip
    return site.write(f"docs/_data/tiny/speed--seed={seed}.json", json.dumps(entry))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = claims_site(tmp_path, claims=RECORDED)
    conf = tmp_path / "docs" / "conf.py"
    conf.write_text(conf.read_text("utf-8") + 'exclude_patterns = ["_data"]\n', "utf-8")
    site.page("status", "# Status\n\n```{site-status}\n```\n")
    text = "Ours: {recorded}`tiny/speed`."
    site.notebook("concepts/tiny", CELL.format(name="tiny", value=-10), title="Tiny", text=text)
    return site


def test_a_page_says_when_and_on_what_it_was_recorded(site: Site) -> None:
    put_record(site, fingerprint_of(FUNCTION))
    put_record(site, fingerprint_of(FUNCTION), date="2026-03-04", seed=1)
    built = site.build()
    assert built.warnings == ""
    text = BeautifulSoup(built.html("concepts/tiny"), "html.parser").get_text()
    assert "Ours: recorded 2026-03-01 to 2026-03-04 on a machine (2 runs)." in text
    for page in ("concepts/tiny", "pages/claims", "pages/status"):
        assert CHANGED not in built.html(page), page


def test_a_record_older_than_the_code_is_marked_wherever_it_shows(site: Site) -> None:
    put_record(site, "other code")
    built = site.build()
    assert built.warnings == "", "a badge, not a warning"
    for page, times in (("concepts/tiny", 2), ("pages/claims", 1), ("pages/status", 1)):
        marks = BeautifulSoup(built.html(page), "html.parser").find_all(class_="aix-stale")
        assert [mark.get_text() for mark in marks] == [CHANGED] * times, page


def test_the_mark_comes_and_goes_without_executing_anything(site: Site) -> None:
    put_record(site, fingerprint_of(FUNCTION))
    assert CHANGED not in site.build().html("concepts/tiny")
    put_record(site, "other code")
    again = site.build()
    assert again.executed == 0
    assert CHANGED in again.html("concepts/tiny")


def test_a_record_whose_function_is_gone_is_marked_too(site: Site) -> None:
    path = put_record(site, "x")
    path.write_text(path.read_text("utf-8").replace("block_hashes", "no_such_function"), "utf-8")
    built = site.build()
    assert built.warnings == ""
    assert CHANGED in built.html("concepts/tiny")


def test_an_edit_of_the_package_marks_without_executing(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put_record(site, fingerprint_of(FUNCTION))
    assert CHANGED not in site.build().html("concepts/tiny")
    # As if block_hashes had been edited: another fingerprint, and a newer file of the package.
    monkeypatch.setattr(records, "fingerprint_of", lambda function: "edited")
    (tmp_path / "package" / "aiexplained").mkdir(parents=True)
    (tmp_path / "package" / "aiexplained" / "edited.py").write_text("")
    monkeypatch.setattr(recorded, "PACKAGE_ROOT", tmp_path / "package")
    again = site.build()
    assert again.executed == 0
    assert CHANGED in again.html("concepts/tiny")
    assert CHANGED in again.html("pages/claims")


def test_a_record_that_cannot_be_read_is_named(site: Site) -> None:
    put_record(site, "x").write_text("<<<<<<< ours", encoding="utf-8")
    assert "speed--seed=0.json: no JSON" in site.build().warnings


def test_an_unknown_study_is_a_located_warning(site: Site) -> None:
    put_record(site, "x")
    site.page("text", "# Text\n\n{recorded}`tiny/weight`\n")
    assert (
        "text.md:3: WARNING: no recorded study 'tiny/weight'; write 'concept/study'"
        in site.build().warnings
    )


def test_a_recorded_claim_says_how_to_record_it_again(site: Site) -> None:
    put_record(site, "x")
    assert "nox -s record -- tiny --only speed --folder again" in site.build().html("pages/claims")
