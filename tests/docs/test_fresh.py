"""The execution cache re-executes what changed, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tiny import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Two pages: ``a`` uses tinylib.one (which uses tinylib.deep), ``b`` uses tinylib.two."""
    site = Site(tmp_path)
    site.write("lib/tinylib/__init__.py", "")
    site.write("lib/tinylib/deep.py", "VALUE = 3\n")
    site.write("lib/tinylib/one.py", "from .deep import VALUE\n\n\ndef one():\n    return VALUE\n")
    site.write("lib/tinylib/two.py", '"""Two."""\n\n\ndef two():\n    return 2\n')
    site.notebook("pages/a", "from tinylib import one\nprint('a says', one.one())", title="A")
    site.notebook("pages/b", "from tinylib.two import two\nprint('b says', two())", title="B")
    return site


def test_an_edit_re_executes_exactly_the_pages_that_use_it(site: Site) -> None:
    first = site.build()
    assert first.warnings == ""
    assert first.executed == 2
    assert site.build().executed == 0
    site.write("lib/tinylib/deep.py", "VALUE = 5\n")
    second = site.build()
    assert second.warnings == ""
    assert second.read == {"pages/a"}
    assert "a says 5" in second.html("pages/a")
    site.write("lib/tinylib/deep.py", "VALUE = 3\n")
    undone = site.build()
    assert undone.executed == 0
    assert "a says 3" in undone.html("pages/a")
