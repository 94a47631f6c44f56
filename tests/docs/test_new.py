"""``nox -s new`` writes a concept that builds, passes its tests, and cannot pass for finished."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aixdocs.new import main, write_skeleton
from aixdocs.pagerules import problems
from aixdocs.pagesource import Page
from bs4 import BeautifulSoup
from tiny import REPOSITORY

from aiexplained.registry import read_concept

NAME, TITLE = "sparse_echo_with_a_long_name_2", "Sparse Echo 2.5 (Small), with a Title at the Limit"
PAGE = "concepts/sparse-echo-with-a-long-name-2"
INDEX = (
    "# Home\n\n```{concept-cards}\n```\n\n"
    "```{toctree}\n:hidden:\n\nclaims\nglossary\nreference\n```\n"
)
CLAIMS = "# Claims\n\n```{claims-ledger}\n```\n"
REFERENCE = "# Reference\n\n```{api-concepts}\n```\n"
GLOSSARY = "# Glossary\n\n```{glossary}\ntoken\n  A piece of a word.\n```\n"
GENERATED = shutil.ignore_patterns("__pycache__", "_build", "_pictures", "jupyter_execute")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and the site's configuration, with no concept but the new one."""
    root = tmp_path_factory.mktemp("new") / "checkout"
    shutil.copytree(REPOSITORY / "aiexplained", root / "aiexplained", ignore=GENERATED)
    for path in (root / "aiexplained" / "concepts").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "__init__.py":
            path.unlink()
    for path in (REPOSITORY / "docs").glob("_*"):
        if path.name not in {"_build", "_data", "_pictures", "_social"}:
            shutil.copytree(path, root / "docs" / path.name, ignore=GENERATED)
    for name in ("pyproject.toml", "docs/conf.py", "docs/references.bib"):
        shutil.copy(REPOSITORY / name, root / name)
    pages = {"index": INDEX, "claims": CLAIMS, "glossary": GLOSSARY, "reference": REFERENCE}
    for name, text in pages.items():
        (root / "docs" / f"{name}.md").write_text(text, encoding="utf-8")
    write_skeleton(NAME, TITLE, root)
    return root


def run(checkout: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a Python module in the checkout, which stands before the installed package."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=checkout, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def test_the_page_builds_without_warnings_and_shows_its_figures(checkout: Path) -> None:
    built = run(checkout, "sphinx", "-n", "-W", "--keep-going", "-q", "docs", "out")
    assert (built.returncode, built.stderr) == (0, "")
    html = BeautifulSoup((checkout / "out" / f"{PAGE}.html").read_text("utf-8"), "html.parser")
    assert len(html.select("[data-hash]")) >= 2
    assert len(html.find_all("aix-question")) == 4
    assert TITLE in html.h1.get_text()
    index = BeautifulSoup((checkout / "out" / "index.html").read_text("utf-8"), "html.parser")
    assert [link["href"] for link in index.select("li.aix-card a")] == [f"{PAGE}.html"]
    assert f"{NAME}.keep_largest" in (checkout / "out" / "reference.html").read_text("utf-8")
    assert "not testable here" in (checkout / "out" / "claims.html").read_text("utf-8")


def test_the_page_keeps_the_rules(checkout: Path) -> None:
    page = Page(f"{PAGE}.md", (checkout / "docs" / f"{PAGE}.md").read_text("utf-8"))
    assert not problems(page, [TITLE])
    assert len([block for block in page.blocks if block.name == "recall"]) >= 3


def test_module_and_page_say_what_the_registry_and_the_importer_see(checkout: Path) -> None:
    concept = read_concept(checkout / "aiexplained" / "concepts" / f"{NAME}.py")
    assert (concept.name, concept.title, concept.page) == (NAME, TITLE, PAGE)
    shutil.copy(REPOSITORY / "tests" / "test_examples.py", checkout / "tests")
    examples = f"examples and ({NAME} or {Path(PAGE).name})"
    found = run(checkout, "pytest", "-q", "-k", examples, "tests/test_examples.py")
    assert found.returncode == 0, found.stdout
    assert "2 passed" in found.stdout, "the examples of the module and of the page"


def test_the_test_file_passes_and_notices_a_wrong_rule(checkout: Path) -> None:
    file = checkout / "tests" / "concepts" / f"test_{NAME}.py"
    options = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-W", "error", str(file))
    passed = run(checkout, "pytest", *options)
    assert passed.returncode == 0, passed.stdout
    module = checkout / "aiexplained" / "concepts" / f"{NAME}.py"
    right = module.read_text("utf-8")
    assert right.count("-abs(values[place])") == 1
    module.write_text(right.replace("-abs(values[place])", "-values[place]"), encoding="utf-8")
    failed = run(checkout, "pytest", *options)
    module.write_text(right, encoding="utf-8")
    assert failed.returncode == 1
    assert "test_no_dropped_value_is_larger_than_a_kept_one" in failed.stdout


def test_the_files_are_in_the_project_s_style_and_types(checkout: Path) -> None:
    for command in (("ruff", "check"), ("ruff", "format", "--check")):
        done = run(checkout, *command, "aiexplained/concepts", "tests/concepts")
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["Sparse", "2fast", "sparse-echo", "sparse__echo", "_x", "class"])
def test_a_name_that_is_no_lower_case_identifier_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"lower-case words joined by '_', got '{name}'"):
        write_skeleton(name, root=tmp_path)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("title", ["", 'A "quote"', "A `b`", "$x$", "two\nlines", "a" * 51])
def test_a_title_that_would_break_the_files_is_refused(title: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a title is up to 50"):
        write_skeleton("x", title, tmp_path)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "taken",
    [
        "aiexplained/concepts/new_idea.py",
        "aiexplained/concepts/new_idea/__init__.py",
        "docs/concepts/new-idea.md",
        "tests/concepts/test_new_idea.py",
    ],
)
def test_nothing_is_written_where_something_exists(
    taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / taken
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        main(["new_idea", "New idea", "--root", str(tmp_path)])
    assert "'new_idea' exists already" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "mine"


def test_the_command_names_the_files_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new_idea", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert path.relative_to(tmp_path).as_posix() in said
        assert "concept_name" not in path.read_text("utf-8")
        assert "Concept title" not in path.read_text("utf-8")
    assert "# New idea\n" in (tmp_path / "docs" / "concepts" / "new-idea.md").read_text("utf-8")
