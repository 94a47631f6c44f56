"""The execution cache re-executes what changed, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Two pages: ``a`` uses tinylib.one (which uses tinylib.deep), ``b`` uses tinylib.two."""
    site = Site(tmp_path)
    site.write("lib/tinylib/__init__.py", "")
    site.write("lib/tinylib/deep/__init__.py", "from . import value\n")
    site.write("lib/tinylib/deep/value.py", '"""A value."""\n\nVALUE = 3\n')
    site.write(
        "lib/tinylib/one.py",
        "def one():\n    from .deep.value import VALUE\n\n    return VALUE\n",
    )
    site.write("lib/tinylib/two.py", "def two():\n    return 2\n")
    site.notebook("pages/a", "from tinylib import one as o\nprint('a says', o.one())", title="A")
    site.notebook("pages/b", "from tinylib.two import two\nprint('b says', two())", title="B")
    return site


def cache_folders(site: Site, page: str) -> list[Path]:
    return sorted(site.folder.glob(f"build/.jupyter_cache/pages/{page}/*"))


def test_an_edit_re_executes_exactly_the_pages_that_use_it(site: Site) -> None:
    first = site.build()
    assert first.warnings == ""
    assert first.executed == 2
    assert site.build().executed == 0
    site.write("lib/tinylib/deep/value.py", "VALUE = 5\n")
    second = site.build()
    assert second.warnings == ""
    assert second.read == {"pages/a"}
    assert second.executed == 1
    assert "a says 5" in second.html("pages/a")


def test_an_edit_that_is_undone_finds_the_earlier_result(site: Site) -> None:
    site.build()
    before = (site.folder / "lib/tinylib/two.py").read_text(encoding="utf-8")
    site.write("lib/tinylib/two.py", "def two():\n    return 22\n")
    assert "b says 22" in site.build().html("pages/b")
    site.write("lib/tinylib/two.py", before)
    undone = site.build()
    assert undone.read == {"pages/b"}
    assert undone.executed == 0
    assert "b says 2\n" in undone.html("pages/b")


def test_comments_and_docstrings_execute_nothing(site: Site) -> None:
    site.build()
    site.write("lib/tinylib/deep/value.py", '"""Another text."""\n\n# A remark.\nVALUE = 3\n')
    assert site.build().read == set()


def test_prose_executes_nothing_and_a_cell_does(site: Site) -> None:
    site.build()
    cell = "from tinylib.two import two\nprint('b says', two())"
    site.notebook("pages/b", cell, title="B", text="A new sentence.")
    prose = site.build()
    assert prose.read == {"pages/b"}
    assert prose.executed == 0
    site.notebook("pages/b", cell + "\nprint('more')", title="B")
    assert site.build().executed == 1


def test_a_page_is_executed_again_when_a_record_that_it_names_changes(site: Site) -> None:
    site.write("docs/_data/two/run.json", "1")
    site.write("docs/_data/other/run.json", "1")
    cell = "name = 'two'\nprint(open(f'../_data/{name}/run.json').read(), 'is the record')"
    site.notebook("pages/b", cell, title="B")
    site.build()
    site.write("docs/_data/other/run.json", "2")
    assert site.build().read == set()
    site.write("docs/_data/two/run.json", "2")
    changed = site.build()
    assert changed.read == {"pages/b"}
    assert "2 is the record" in changed.html("pages/b")
    site.write("docs/_data/two/run-of-another-seed.json", "3")
    assert site.build().read == {"pages/b"}


def test_a_page_is_executed_again_when_a_rule_that_it_names_changes(site: Site) -> None:
    site.write("lib/tinylib/rules/walk.js", "1;")
    site.write("lib/tinylib/rules/hop.js", "1;")
    site.notebook("pages/b", "import tinylib\nrules = ('walk',)\nrules", title="B")
    site.build()
    site.write("lib/tinylib/rules/hop.js", "2;")
    assert site.build().read == set()
    site.write("lib/tinylib/rules/walk.js", "2;")
    assert site.build().read == {"pages/b"}


@pytest.mark.parametrize("name", ["fast.cpp", "fast.h"])
def test_a_page_is_executed_again_when_cpp_that_it_uses_changes(site: Site, name: str) -> None:
    """As a page on a kernel is: what it computes is compiled from these files."""
    site.write("lib/tinylib/fast/__init__.py", "")
    path = f"lib/tinylib/fast/{name}"
    site.write(path, "1;")
    site.notebook("pages/b", "import tinylib.fast", title="B")
    site.build()
    site.write(path, "2;")
    assert site.build().read == {"pages/b"}
    site.write(path, "1;")
    undone = site.build()
    assert undone.read == {"pages/b"}
    assert undone.executed == 0


def test_another_version_of_a_library_executes_all_pages(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.build()
    with monkeypatch.context() as patch:
        patch.setattr("aixdocs.fresh._version", lambda name: "0.0.1")
        assert site.build().read == {"pages/a", "pages/b"}


def test_a_page_that_failed_is_executed_in_every_build_until_it_works(site: Site) -> None:
    site.notebook("pages/b", "raise RuntimeError('no luck')", title="B")
    for _ in range(2):
        assert "no luck" in site.build().warnings
    site.notebook("pages/b", "print('luck')", title="B")
    assert site.build().warnings == ""


def test_what_an_interrupted_build_left_behind_is_removed(site: Site) -> None:
    site.build()
    (folder,) = cache_folders(site, "a")
    (folder / "executed.txt").unlink()
    for notebook in folder.rglob("*.ipynb"):
        notebook.unlink()
    shutil.rmtree(site.folder / "build/html-trees")
    again = site.build()
    assert again.warnings == ""
    assert again.executed == 1


def test_without_its_stamp_the_broken_folder_would_fail(site: Site) -> None:
    """The check above finds something: with the stamp left in place, the build dies."""
    site.build()
    (folder,) = cache_folders(site, "a")
    for notebook in folder.rglob("*.ipynb"):
        notebook.unlink()
    shutil.rmtree(site.folder / "build/html-trees")
    with pytest.raises(KeyError, match="does not exist"):
        site.build()


def test_parallel_builds_are_stable_and_equal_serial_ones(site: Site) -> None:
    for name in "cdefg":
        site.notebook(f"pages/{name}", f"print('{name} says', 7)", title=name.upper())
    parallel = site.build(jobs=2)
    assert parallel.warnings == ""
    pages = [f"pages/{name}" for name in "abcdefg"]
    written = [parallel.html(page) for page in pages]
    assert site.build(jobs=2).executed == 0
    shutil.rmtree(site.folder / "build")
    assert [site.build().html(page) for page in pages] == written


def test_a_cell_that_is_not_python_is_a_located_warning(site: Site) -> None:
    site.notebook("pages/b", "%matplotlib inline", title="B")
    warnings = site.build().warnings
    assert "a code cell is not plain Python" in warnings
    assert "b.md" in warnings
