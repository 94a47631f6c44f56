"""The built site as one file for reading offline, with its checksum.

    python -m aixdocs.archive docs/_build/html docs/_build

The same site gives the same archive: names are sorted and times are fixed.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path

from aiexplained import __version__

NAME = f"ai-explained-{__version__}"
LONG_AGO = (1980, 1, 1, 0, 0, 0)
NOT_NEEDED = (".buildinfo", ".doctrees", "objects.inv", "_headers")


def pack(site: Path, folder: Path) -> Path:
    """Write the site as ``<NAME>.zip``, and ``<NAME>.zip.sha256``, to ``folder``.

    Raises:
        ValueError: if ``site`` holds no start page.
    """
    if not (site / "index.html").is_file():
        raise ValueError(f"{site} holds no index.html: build the site first")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{NAME}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(site.rglob("*")):
            name = path.relative_to(site)
            if path.is_file() and name.parts[0] not in NOT_NEEDED:
                entry = zipfile.ZipInfo(f"{NAME}/{name.as_posix()}", LONG_AGO)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes())
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    # As sha256sum writes it, so that `sha256sum -c` can check it.
    (folder / f"{NAME}.zip.sha256").write_text(f"{digest}  {target.name}\n", encoding="ascii")
    return target


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m aixdocs.archive")
    parser.add_argument("site", type=Path, help="folder with the built pages")
    parser.add_argument("folder", type=Path, help="where to put the archive")
    chosen = parser.parse_args(arguments)
    target = pack(chosen.site, chosen.folder)
    print(f"{target} ({target.stat().st_size / 1e6:.1f} MB) and its checksum")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
