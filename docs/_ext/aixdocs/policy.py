"""A content-security policy that the built site satisfies.

No page has a script of its own: what the theme writes into pages is left out here, or stands in a
file (see ``_templates/layout.html``). The policy is written to ``_headers``, the file from which
several hosts take their headers; for another host it says what to configure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.html._assets import _JavaScript

HEADERS = "_headers"
POLICY = {
    "default-src": "'none'",
    # BokehJS compiles the callbacks of its figures, which are part of the page, with Function().
    "script-src": "'self' 'unsafe-eval'",
    # Widgets style themselves with style elements, formulas with style attributes.
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def policy() -> str:
    """The value of the header ``Content-Security-Policy``."""
    return "; ".join(f"{directive} {sources}" for directive, sources in POLICY.items())


def drop_inline_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """The theme's inline scripts set options that no part of this site reads.

    The other scripts wait for the page, in their order, so that the text is shown first.
    """
    scripts = context.get("script_files", [])
    scripts[:] = [script for script in scripts if not getattr(script, "attributes", {}).get("body")]
    for script in scripts:
        if isinstance(script, _JavaScript) and "async" not in script.attributes:
            script.attributes["defer"] = "defer"


def write_headers(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        lines = [
            "/*",
            f"  Content-Security-Policy: {policy()}",
            "  X-Content-Type-Options: nosniff",
            "  Referrer-Policy: strict-origin-when-cross-origin",
        ]
        Path(app.outdir, HEADERS).write_text("\n".join(lines) + "\n", encoding="ascii")


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", drop_inline_scripts, priority=950)
    app.connect("build-finished", write_headers)
