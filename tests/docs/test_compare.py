"""Two clean builds give the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from aixdocs.compare import differences, main

DOCS = Path(__file__).parents[2] / "docs"
PAGE = "concepts/cacheweaver"
VERIFIED = '<p><span class="aix-verified aix-varies">{date}</span> {text}</p>'


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name, date in (("one", "2026-01-02"), ("other", "2026-01-03")):
        (tmp_path / name).mkdir()
        text = VERIFIED.format(date=date, text="same")
        (tmp_path / name / "index.html").write_text(text, encoding="utf-8")
        (tmp_path / name / "a.js").write_text("1", encoding="utf-8")
    return tmp_path / "one", tmp_path / "other"


def test_only_marked_parts_may_differ(folders: tuple[Path, Path]) -> None:
    assert list(differences(*folders)) == []
    assert main([str(folder) for folder in folders]) == 0


def test_another_byte_is_found_and_shown(folders: tuple[Path, Path]) -> None:
    text = VERIFIED.format(date="2026-01-03", text="sane")
    (folders[1] / "index.html").write_text(text, encoding="utf-8")
    (found,) = differences(*folders)
    assert found.startswith("differs: index.html")
    assert "same" in found
    assert "sane" in found
    assert main([str(folder) for folder in folders]) == 1


def test_a_file_of_one_build_only_is_found(folders: tuple[Path, Path]) -> None:
    (folders[0] / "b.css").write_text("", encoding="utf-8")
    (found,) = differences(*folders)
    assert found == f"only in {folders[0]}: b.css"


def test_a_mark_in_a_script_excuses_nothing(folders: tuple[Path, Path]) -> None:
    (folders[1] / "a.js").write_text('<b class="aix-varies">2</b>', encoding="utf-8")
    assert [line[:15] for line in differences(*folders)] == ["differs: a.js, "]


def test_an_empty_folder_is_no_build(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pages"):
        list(differences(tmp_path, tmp_path))


def test_a_real_page_built_twice_from_nothing_is_the_same(tmp_path: Path) -> None:
    builds = [tmp_path / name / "html" for name in ("one", "other")]
    for out in builds:
        command = [
            sys.executable, "-m", "sphinx", "-b", "html", "-n", "-W", "--keep-going", "-q",
            "-D", f"aix_only={PAGE}", "-d", out.parent / "doctrees", DOCS, out,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert list(differences(*builds)) == []
