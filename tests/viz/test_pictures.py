"""Static pictures: one per figure, drawn once, removed when no page refers to them."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run

import pytest

from aiexplained import viz
from aiexplained.viz import pictures


def hashes(site: Path) -> list[str]:
    return pictures.figures_by_page(site)[site / "index.html"]


def test_pages_name_their_figures(
    site: Path,
    make_grid_figure: Callable[[], viz.Explorable],
    make_rule_figure: Callable[[], viz.Explorable],
) -> None:
    made = [make().drawing.digest for make in (make_grid_figure, make_rule_figure)]
    assert hashes(site) == made


def test_a_folder_without_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no built pages"):
        pictures.draw_pictures(tmp_path, tmp_path / "out")


def test_without_a_browser_it_says_so_and_succeeds(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pictures.main([str(site), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("no browser on the PATH (chromium, ")


@pytest.mark.browser
def test_pictures_are_drawn_once_and_stale_ones_removed(
    site: Path, tmp_path: Path, browser_type_launch_args: dict[str, object]
) -> None:
    page = site / "index.html"
    built = tmp_path / "built"
    built.mkdir()
    (built / "index.html").write_bytes(page.read_bytes())
    (built / "_static").symlink_to(site / "_static")
    out = tmp_path / "out"
    out.mkdir()
    (out / "0123456789abcdef.png").write_bytes(b"stale")
    command = [sys.executable, "-m", "aiexplained.viz.pictures", str(built), str(out)]
    first = run(command, capture_output=True, text=True, check=True)
    assert first.stdout == "2 pictures drawn, 0 kept, 1 removed\n"
    assert {path.stem for path in out.iterdir()} == set(hashes(site))
    for path in out.iterdir():
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
        assert 600 < width < 900
        assert height > 200
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = run(command, capture_output=True, text=True, check=True)
    assert again.stdout == "0 pictures drawn, 2 kept, 0 removed\n"
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
