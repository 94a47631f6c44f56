"""The reference: every public name is on it, and has something to say for itself."""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from aixdocs.apipages import public_names
from bs4 import BeautifulSoup
from tiny import Site

import aiexplained

NOT_OFFERED = (
    "aiexplained.concepts",  # a directive of their own documents them
    "aiexplained.reach",  # serves the records
    "aiexplained.provenance",
    "aiexplained.viz",  # what pages and notebooks use is in its __all__
    "aiexplained.lm",
)
API = Path(__file__).parents[2] / "docs" / "api"

MODULE = '''"""A library of a test."""

__all__ = ["Thing", "act"]


def act() -> None:
    """Act."""


class Thing:
    """A thing."""

    def use(self) -> None:
        """Use it."""

    @property
    def size(self) -> int:
        """Its size."""
        return 1


def unlisted() -> None:
    pass
'''


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    conf = tmp_path / "docs" / "conf.py"
    text = conf.read_text("utf-8").replace('["aixdocs"]', '["aixdocs", "sphinx.ext.autodoc"]')
    conf.write_text(text, "utf-8")
    site.page("api", "# Reference\n\n```{api-module} apilib\n```\n")
    yield site
    sys.modules.pop("apilib", None)


def test_public_names_are_documented_and_others_are_not(site: Site) -> None:
    site.write("lib/apilib.py", MODULE)
    built = site.build()
    assert built.warnings == ""
    page = BeautifulSoup(built.html("pages/api"), "html.parser")
    assert page.find(id="apilib.act")
    assert page.find(id="apilib.Thing.size")
    assert not page.find(id="apilib.unlisted")


@pytest.mark.parametrize(
    ("docstring", "symbol"),
    [("Act.", "act"), ("A thing.", "Thing"), ("Use it.", "Thing.use"), ("Its size.", "Thing.size")],
)
def test_a_public_symbol_without_documentation_fails_the_build(
    site: Site, docstring: str, symbol: str
) -> None:
    site.write("lib/apilib.py", MODULE.replace(f'"""{docstring}"""', "..."))
    warnings = site.build().warnings
    assert f"api.md:3: WARNING: apilib.{symbol} is public and has no docstring" in warnings


def test_without_a_list_what_the_module_defines_is_public(site: Site) -> None:
    site.write("lib/apilib.py", MODULE.replace('__all__ = ["Thing", "act"]', ""))
    assert "apilib.unlisted is public and has no docstring" in site.build().warnings


def test_an_optional_package_that_is_not_installed_is_said_to_be_missing(site: Site) -> None:
    site.page("api", "# Reference\n\n```{api-module} no_such_kernels\n:optional:\n```\n")
    built = site.build()
    assert built.warnings == ""
    text = BeautifulSoup(built.html("pages/api"), "html.parser").get_text()
    assert "no_such_kernels is not installed where this site was built" in text


def test_an_optional_package_that_is_there_is_documented(site: Site) -> None:
    site.write("lib/apilib.py", MODULE)
    site.page("api", "# Reference\n\n```{api-module} apilib\n:optional:\n```\n")
    built = site.build()
    assert built.warnings == ""
    assert BeautifulSoup(built.html("pages/api"), "html.parser").find(id="apilib.act")


def test_the_page_of_the_kernels_stands_without_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.page("api", (API / "kernels.md").read_text("utf-8").replace("{doc}`nn`", "nn"))
    monkeypatch.setitem(sys.modules, "aiexplained_kernels", None)
    built = site.build()
    assert built.warnings == ""
    assert "aiexplained_kernels</span></code> is not installed" in built.html("pages/api")


def documented_modules() -> set[str]:
    return {
        f"aiexplained.{name}"
        for page in API.glob("*.md")
        for name in re.findall(r"\{api-module\} aiexplained\.([\w.]+)", page.read_text("utf-8"))
    }


def test_every_public_name_of_the_package_is_in_the_reference() -> None:
    shown = documented_modules()
    offered = {
        id(getattr(import_module(module), name))
        for module in shown
        for name in getattr(import_module(module), "__all__", ())
    }
    missing = []
    for part in pkgutil.walk_packages(aiexplained.__path__, "aiexplained."):
        if part.name in shown or part.name.startswith(NOT_OFFERED):
            continue
        module = import_module(part.name)
        own = (getattr(module, name) for name in public_names(module))
        missing += [f"{part.name}.{v.__name__}" for v in own if id(v) not in offered]
    assert not missing, "offer it on a page of docs/api, or begin its name with an underscore"
