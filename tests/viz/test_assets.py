"""What the site carries, and what importing the package costs."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from importlib.metadata import version

import pytest

from aiexplained import viz
from aiexplained.viz.assets import cdn_hashes, rule_file


def loaded(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_static_files_exist_and_hold_bokehjs_of_this_version() -> None:
    files = viz.static_files()
    assert all(path.is_file() for path in files.values())
    js = {name for name in files if name.startswith("aix/bokeh/")}
    end = f"{version('bokeh')}.min.js"
    assert js == {f"aix/bokeh/bokeh-{end}", f"aix/bokeh/bokeh-widgets-{end}"}
    assert {"aix/explorables.js", "aix/explorables.css", "aix/rules/cacheweaver.js"} <= set(files)


def test_cdn_hashes_are_those_of_the_installed_files() -> None:
    files = {name.rsplit("/", 1)[1]: path for name, path in viz.static_files().items()}
    assert cdn_hashes()
    for name, integrity in cdn_hashes().items():
        hashed = base64.b64encode(hashlib.sha384(files[name].read_bytes()).digest()).decode()
        assert integrity == f"sha384-{hashed}"


def test_drawing_loads_no_mechanism() -> None:
    modules = loaded("from aiexplained import viz; viz.show, viz.claims_table, viz.bind_grid")
    assert "bokeh.models" in modules
    assert not {name for name in modules if name.split(".")[0] == "torch"}
    heavy = ("aiexplained.concepts", "aiexplained.nn", "aiexplained.lm")
    assert not {name for name in modules if name.startswith(heavy)}


def test_rendering_stored_outputs_loads_no_bokeh() -> None:
    assert not {m for m in loaded("import aiexplained.viz.render") if m.split(".")[0] == "bokeh"}


@pytest.mark.parametrize("name", ["../static/explorables", "Cacheweaver", "nothing", ""])
def test_only_existing_rules_are_found(name: str) -> None:
    with pytest.raises(ValueError, match="no page rule"):
        rule_file(name)


def test_unknown_names_of_the_package_are_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        viz.nothing  # noqa: B018
    assert set(dir(viz)) == set(viz.__all__)
