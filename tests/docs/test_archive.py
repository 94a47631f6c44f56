"""The offline archive: whole, checked by its sum, the same each time."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from _browser import Watch
from aixdocs.archive import NAME, main, pack
from playwright.sync_api import BrowserContext, expect


@pytest.fixture
def small(tmp_path: Path) -> Path:
    site = tmp_path / "html"
    (site / "concepts").mkdir(parents=True)
    (site / "index.html").write_text("home", encoding="utf-8")
    (site / "concepts" / "x.html").write_text("x", encoding="utf-8")
    (site / ".buildinfo").write_text("times of the build", encoding="utf-8")
    return site


def test_the_archive_holds_the_pages_in_one_folder(small: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(pack(small, tmp_path / "out")) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{NAME}/concepts/x.html", f"{NAME}/index.html"]


def test_the_checksum_is_that_of_the_archive(small: Path, tmp_path: Path) -> None:
    assert main([str(small), str(tmp_path)]) == 0
    digest, name = (tmp_path / f"{NAME}.zip.sha256").read_text(encoding="ascii").split()
    assert digest == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_the_same_site_gives_the_same_archive(small: Path, tmp_path: Path) -> None:
    first = pack(small, tmp_path / "a").read_bytes()
    os.utime(small / "index.html", (0, 0))
    assert pack(small, tmp_path / "b").read_bytes() == first
    (small / "index.html").write_text("hone", encoding="utf-8")
    assert pack(small, tmp_path / "c").read_bytes() != first


def test_a_folder_without_a_site_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no index\.html"):
        pack(tmp_path, tmp_path)


@pytest.mark.browser
def test_the_unpacked_site_opens_from_disk(
    site: Path, new_context: Callable[..., BrowserContext], tmp_path: Path
) -> None:
    with zipfile.ZipFile(pack(site, tmp_path)) as archive:
        archive.extractall(tmp_path)
    home = (tmp_path / NAME).as_uri()
    context = new_context()
    watch = Watch(context, home)
    page = context.new_page()
    page.goto(f"{home}/index.html")
    page.locator(".aix-card-title a").first.click()
    expect(page.locator("article h1")).to_be_visible()
    assert "/concepts/" in page.url
    assert not watch.troubles
