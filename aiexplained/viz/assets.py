"""The static files that a site with figures carries, and where notebooks find the same ones."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
BOKEH_CDN = "https://cdn.bokeh.org/bokeh/release"
"""Where a notebook outside the site finds BokehJS; pages of the site never use it."""

PARTS = ("bokeh", "bokeh-widgets")


@cache
def bokeh_folder() -> Path:
    """Folder of the installed Bokeh package, found without importing it."""
    spec = find_spec("bokeh")
    if spec is None or spec.origin is None:
        raise ImportError("figures need Bokeh: pip install 'aiexplained[viz]'")
    return Path(spec.origin).parent


@cache
def bokeh_version() -> str:
    """Version of the installed Bokeh, which BokehJS must match."""
    return version("bokeh")


def rule_file(name: str) -> Path:
    """Path of the page rule ``name``, a classic script that sets ``aiexplained.rules.<name>``.

    Raises:
        ValueError: if ``name`` is not a lower-case identifier, or there is no such rule.
    """
    path = HERE / "rules" / f"{name}.js"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.js"))
        raise ValueError(f"no page rule {name!r} in viz/rules; there are {known}")
    return path


def static_files() -> dict[str, Path]:
    """Files that the site serves, by name relative to ``_static``.

    Returns:
        ``aix/explorables.js`` and ``.css``, ``aix/rules/*.js``, and ``aix/bokeh/*`` with the
        BokehJS version in the name.
    """
    files = {
        f"aix/{name}": HERE / "static" / name for name in ("explorables.js", "explorables.css")
    }
    files |= {f"aix/rules/{p.name}": p for p in sorted((HERE / "rules").glob("*.js"))}
    scripts = bokeh_folder() / "server" / "static" / "js"
    for part in PARTS:
        files[f"aix/bokeh/{part}-{bokeh_version()}.min.js"] = scripts / f"{part}.min.js"
    return files


@cache
def static_text(name: str) -> str:
    """Text of ``explorables.js`` or ``explorables.css``, for notebooks, which inline them."""
    return (HERE / "static" / name).read_text(encoding="utf-8")


@cache
def cdn_hashes() -> dict[str, str]:
    """Subresource-integrity hashes of BokehJS on its CDN, by file name, as Bokeh publishes them."""
    path = bokeh_folder() / "_sri" / f"{bokeh_version()}.json"
    if not path.is_file():
        return {}
    published: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    names = [f"{part}-{bokeh_version()}.min.js" for part in PARTS]
    return {name: f"sha384-{published[name]}" for name in names if name in published}
