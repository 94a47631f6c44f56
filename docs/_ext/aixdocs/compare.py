"""Whether two builds of the same sources are the same, byte by byte.

    python -m aixdocs.compare one/html other/html

Only what is marked as varying may differ: elements of the class ``aix-varies``, such as the date
of a page's last execution.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

VARYING = re.compile(rb'(<(\w+) class="[^"]*\baix-varies\b[^"]*">).*?(</\2>)', re.DOTALL)


def content(path: Path) -> bytes:
    """Bytes of a file without what is marked as varying."""
    data = path.read_bytes()
    return VARYING.sub(rb"\1\3", data) if path.suffix == ".html" else data


def differences(one: Path, other: Path) -> Iterator[str]:
    """What differs between two folders, a line a file.

    Raises:
        ValueError: if a folder holds no pages.
    """
    trees = [
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        for folder in (one, other)
    ]
    for folder, tree in zip((one, other), trees, strict=True):
        if not any(name.suffix == ".html" for name in tree):
            raise ValueError(f"{folder} holds no pages")
    for name in sorted(trees[0] ^ trees[1]):
        yield f"only in {one if name in trees[0] else other}: {name}"
    for name in sorted(trees[0] & trees[1]):
        mine, theirs = content(one / name), content(other / name)
        if mine != theirs:
            yield f"differs: {name}, {_first_difference(mine, theirs)}"


def _first_difference(mine: bytes, theirs: bytes) -> str:
    ends = min(len(mine), len(theirs))
    place = next((i for i in range(ends) if mine[i] != theirs[i]), ends)
    excerpts = (data[max(0, place - 20) : place + 40] for data in (mine, theirs))
    return " against ".join(repr(text.decode("utf-8", "replace")) for text in excerpts)


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m aixdocs.compare")
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    chosen = parser.parse_args(arguments)
    found = list(differences(chosen.one, chosen.other))
    print(*found, sep="\n", end="\n" if found else "")
    files = sum(path.is_file() for path in chosen.one.rglob("*"))
    print(f"{len(found)} differences" if found else f"{files} files are the same")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
