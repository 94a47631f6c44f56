"""The skeleton of a new concept: ``python -m aixdocs.new name "Title"`` (``nox -s new``).

Module, page and test are whole and pass their checks, around a small mechanism of their own. What
their sentences say is what to write there; the page rules find those that are left over.
"""

from __future__ import annotations

import argparse
import datetime as dt
import keyword
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "docs" / "_templates" / "new"
MARKS = ("concept_name", "Concept title", "2000-01-01")
"""What the templates say for the name, the title and the date."""

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
TITLE = re.compile(r"[A-Za-z0-9](?:[\w .,:+&()/–-]{0,48}[\w.+)])?")


def write_skeleton(name: str, title: str | None = None, root: Path = ROOT) -> list[Path]:
    """Write the three files of a new concept, all or none.

    Args:
        name: Name of the module; the page's has hyphens instead of underscores.
        title: Name of the method as the field writes it; made from ``name`` if left out.
        root: The checkout.

    Returns:
        The files: module, page, test.

    Raises:
        ValueError: if ``name`` or ``title`` cannot be used.
        FileExistsError: if the concept or one of the files exists; nothing is written then.
    """
    title = name.replace("_", " ").capitalize() if title is None else title
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ValueError(f"a name is lower-case words joined by '_', got {name!r}")
    if not TITLE.fullmatch(title):
        raise ValueError(f"a title is up to 50 letters, digits and plain signs, got {title!r}")
    texts = {
        root / "aiexplained" / "concepts" / f"{name}.py": "module.py",
        root / "docs" / "concepts" / f"{name.replace('_', '-')}.md": "page.md",
        root / "tests" / "concepts" / f"test_{name}.py": "test.py",
    }
    package = root / "aiexplained" / "concepts" / name
    taken = [path for path in (package, *texts) if path.exists()]
    if taken:
        raise FileExistsError(f"{name!r} exists already: {', '.join(map(str, taken))}")
    for path, template in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_filled(template, name, title), encoding="utf-8")
    return list(texts)


def _filled(template: str, name: str, title: str) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    today = dt.datetime.now(dt.UTC).date().isoformat()
    for mark, value in zip(MARKS, (name, title, today), strict=True):
        text = text.replace(mark, value)
    return text


def main(arguments: list[str] | None = None) -> int:
    """Write module, page and test of a new concept."""
    parser = argparse.ArgumentParser(prog="nox -s new --", description=main.__doc__)
    parser.add_argument("name", help="module name, e.g. variable_width")
    parser.add_argument("title", nargs="?", help='as the field writes it, e.g. "Variable width"')
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    given = parser.parse_args(arguments)
    try:
        files = write_skeleton(given.name, given.title, given.root)
    except (ValueError, FileExistsError) as error:
        parser.exit(2, f"{error}\n")
    for path in files:
        print(path.relative_to(given.root))
    print("Write what their sentences ask for, then run: nox -s docs tests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
