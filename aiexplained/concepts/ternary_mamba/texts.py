"""Ordinary files that every builder has: programs, pages and prose inside the locked packages.

They are only read, and none is shipped with this project. Each package has one version in
``requirements/lock.txt``, and a hash of the bytes goes with each result.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from itertools import cycle, islice
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from aiexplained.errors import CorpusUnavailable

Split = Literal["train", "test"]
WINDOW = 192
"""Bytes in a window."""

_SPHINX = "pydata_sphinx_theme"
_SCRIPTS = f"{_SPHINX}/assets/scripts"
_BOOK = "sphinx_book_theme/theme/sphinx_book_theme/static"
_HELP = "sphinxcontrib/applehelp/locales/id/LC_MESSAGES"
_FILES: tuple[tuple[str, Split, str, str], ...] = (
    ("python", "train", "jinja2", "jinja2/lexer.py"),
    ("python", "train", "attrs", "attr/_make.py"),
    ("python", "test", "click", "click/core.py"),
    ("python", "test", "pluggy", "pluggy/_manager.py"),
    ("javascript", "train", "import-linter", "importlinter/ui/static/explorer.js"),
    ("javascript", "train", "pydata-sphinx-theme", f"{_SCRIPTS}/pydata-sphinx-theme.js"),
    ("javascript", "test", "sphinx-copybutton", "sphinx_copybutton/_static/copybutton_funcs.js"),
    ("javascript", "test", "urllib3", "urllib3/contrib/emscripten/emscripten_fetch_worker.js"),
    ("css", "train", "import-linter", "importlinter/ui/static/styles.css"),
    ("css", "train", "myst-nb", "myst_nb/static/mystnb.css"),
    ("css", "test", "sphinx-copybutton", "sphinx_copybutton/_static/copybutton.css"),
    ("html", "train", "import-linter", "importlinter/ui/static/index.html"),
    ("html", "train", "pydata-sphinx-theme", f"{_SPHINX}/theme/{_SPHINX}/layout.html"),
    ("html", "test", "alabaster", "alabaster/layout.html"),
    ("json", "train", "nbformat", "nbformat/v4/nbformat.v4.5.schema.json"),
    ("json", "test", "jsonschema-specifications",
     "jsonschema_specifications/schemas/draft7/metaschema.json"),
    ("gettext", "train", "pydata-sphinx-theme", f"{_SPHINX}/locale/fr/LC_MESSAGES/sphinx.po"),
    ("gettext", "test", "sphinxcontrib-applehelp", f"{_HELP}/sphinxcontrib.applehelp.po"),
    ("markdown", "train", "huggingface-hub", "huggingface_hub/templates/modelcard_template.md"),
    ("markdown", "test", "mdit-py-plugins", "mdit_py_plugins/texmath/README.md"),
    ("c++", "train", "greenlet", "greenlet/TGreenlet.hpp"),
    ("c++", "train", "greenlet", "greenlet/greenlet_refs.hpp"),
    ("c++", "test", "greenlet", "greenlet/greenlet.h"),
    ("shell", "train", "virtualenv", "virtualenv/activation/bash/activate.sh"),
    ("shell", "test", "tqdm", "tqdm/completion.sh"),
    ("restructuredtext", "train", "snowballstemmer", "snowballstemmer-3.1.1.dist-info/METADATA"),
    ("restructuredtext", "test", "pluggy", "pluggy-1.7.0.dist-info/METADATA"),
    ("svg", "train", "ipykernel", "ipykernel/resources/logo-svg.svg"),
    ("svg", "test", "sphinx-book-theme", f"{_BOOK}/images/logo_jupyterlite.svg"),
)  # fmt: skip
KINDS = tuple(dict.fromkeys(kind for kind, *_ in _FILES))
"""Kinds of file, in the order in which windows of them take turns."""


@dataclass(frozen=True)
class ByteTexts:
    """Windows of ordinary files.

    Args:
        windows: Bytes, 0 to 255.
        kinds: Kind of the file that each window is from.
        sha256: Hash of the windows, one after the other.
    """

    windows: Int[Tensor, "n T"]
    kinds: tuple[str, ...]
    sha256: str


def byte_texts(split: Split, *, n_windows: int, window: int = WINDOW, seed: int = 0) -> ByteTexts:
    """Windows at random places of the files; no file is in both splits.

    Kinds take turns, so that each is there equally often, and files of a kind are drawn evenly.

    Args:
        split: ``"train"`` or ``"test"``.
        n_windows: How many.
        window: Bytes in each.
        seed: Seed of files and places.

    Raises:
        ValueError: for another split, or a size that is not positive or longer than a file.
        CorpusUnavailable: if a package is not installed, or has no such file.
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {get_args(Split)}, got {split!r}")
    if n_windows < 1 or window < 1:
        raise ValueError(f"n_windows and window must be positive, got {n_windows} and {window}")
    generator = torch.Generator().manual_seed(seed)
    kinds = tuple(islice(cycle(KINDS), n_windows))
    parts = [_window(kind, split, window, generator) for kind in kinds]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    return ByteTexts(torch.tensor([list(part) for part in parts]), kinds, digest)


def _window(kind: str, split: Split, window: int, generator: torch.Generator) -> bytes:
    files = [file for file in _FILES if file[:2] == (kind, split)]
    _, _, package, path = files[_draw(len(files), generator)]
    content = _read(package, path)
    if len(content) < window:
        raise ValueError(f"window must be at most {len(content)} bytes, as {path}, got {window}")
    start = _draw(len(content) - window + 1, generator)
    return content[start : start + window]


def _draw(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))


@lru_cache
def _read(package: str, path: str) -> bytes:
    try:
        return Path(str(metadata.distribution(package).locate_file(path))).read_bytes()
    except (metadata.PackageNotFoundError, OSError) as error:
        raise CorpusUnavailable(
            f"{path} of the package {package} is not here: install requirements/lock.txt"
        ) from error
