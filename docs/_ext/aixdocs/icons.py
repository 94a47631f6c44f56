"""The theme's icon fonts, reduced to the icons that the site shows.

The theme carries about two thousand icons in three fonts, 110 kB each over the wire, and a page
shows a dozen. After the build, each font is cut down to the code points that some page, script or
style sheet of the site names.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx

FONTS = "_static/vendor/fontawesome/webfonts"
NAME = re.compile(r"\bfa-[a-z0-9-]+")
DEFINITION = re.compile(r'((?:\.fa-[a-z0-9-]+,?)+)\{--fa:"\\([0-9a-f]+)"\}')
PRIVATE_USE = re.compile("[\ue000-\uf8ff]")


def code_points(styles: Iterable[str], others: Iterable[str]) -> set[int]:
    """Code points of the icons that ``styles`` show by themselves or that ``others`` name."""
    named = {name for text in others for name in NAME.findall(text)}
    found = set()
    for text in styles:
        found |= {ord(character) for character in PRIVATE_USE.findall(text)}
        for names, point in DEFINITION.findall(text):
            if named.intersection(NAME.findall(names)):
                found.add(int(point, 16))
    return found


def site_code_points(out: Path) -> set[int]:
    """Code points of all icons that the site in ``out`` may show."""
    static = out / "_static"
    pages = [path for path in out.rglob("*.html") if static not in path.parents]
    files = [*pages, *(p for p in static.rglob("*.js") if "bokeh" not in p.parts)]
    styles, others = ([p.read_text("utf-8") for p in ps] for ps in (static.rglob("*.css"), files))
    return code_points(styles, others)


def cut_font(source: Path, points: set[int]) -> bytes:
    """The font in ``source`` with the glyphs of ``points`` only, as WOFF2."""
    subsetter = subset.Subsetter(subset.Options(hinting=False))
    subsetter.populate(unicodes=points)
    target = io.BytesIO()
    with TTFont(source, recalcTimestamp=False) as font:
        subsetter.subset(font)
        font.flavor = "woff2"
        font.save(target)
    return target.getvalue()


def cut_fonts(app: Sphinx, exception: Exception | None) -> None:
    """Replace the fonts that the build has just copied; the cut ones are kept for the next one."""
    out = Path(app.outdir)
    fonts = sorted((out / FONTS).glob("*.woff2"))
    if exception or app.builder.format != "html" or not fonts:
        return
    points = site_code_points(out)
    for font in fonts:
        key = hashlib.sha256(font.read_bytes() + repr(sorted(points)).encode()).hexdigest()[:16]
        kept = Path(app.doctreedir, "icons", f"{key}.woff2")
        if not kept.is_file():
            kept.parent.mkdir(exist_ok=True)
            part = kept.with_suffix(".part")
            part.write_bytes(cut_font(font, points))
            part.replace(kept)
        shutil.copyfile(kept, font)


def setup(app: Sphinx) -> None:
    app.connect("build-finished", cut_fonts)
