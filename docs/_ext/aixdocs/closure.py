"""What a page's code really uses: a static import closure and the data files that it names.

Nothing is imported. Modules are followed from the cells through every ``import`` statement, at any
depth, inside the packages given. A string constant that is the name of a record or of a rule in the
browser brings that file in, wherever in the closure it stands. C++ sources beside the modules are
compiled when they are used, so they count as well.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from aiexplained import provenance

MAX_NAME = 80


def closure(cells: Iterable[str], packages: Iterable[str], data: Path) -> set[Path]:
    """Files of ``packages`` and ``data`` that the code ``cells`` may use.

    Args:
        cells: Source texts of the page's code cells.
        packages: Top-level packages to follow; those not installed are skipped.
        data: Folder of recorded results; a name stands for ``name/**`` or ``name.json`` in it.

    Raises:
        SyntaxError: if a cell is not Python.
    """
    roots = {name: root for name in packages if (root := _root(name))}
    modules: dict[str, Path | None] = {}
    names: set[str] = set()
    waiting: set[str] = set()
    for cell in cells:
        waiting |= provenance.imported_names(cell)
        names |= _strings(cell)
    while waiting:
        module = waiting.pop()
        root = roots.get(module.partition(".")[0])
        path = modules[module] = provenance.module_file(module, root) if root else None
        if path:
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            imports, strings = _facts(path, path.stat().st_mtime_ns, package)
            waiting |= imports - modules.keys()
            names |= strings
    found = {path for path in modules.values() if path}
    folders = {path.parent for path in found}
    return found.union(_records(names, data), *(_resources(names, folder) for folder in folders))


def _root(package: str) -> Path | None:
    """Folder that holds the package, found without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parents[1] if spec and spec.origin else None


@lru_cache(maxsize=1024)
def _facts(path: Path, modified: int, package: str) -> tuple[set[str], set[str]]:
    code = path.read_text(encoding="utf-8")
    return provenance.imported_names(code, package=package), _strings(code)


def _strings(code: str) -> set[str]:
    constants = (node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str) and len(value) <= MAX_NAME}


def _records(names: set[str], data: Path) -> Iterator[Path]:
    for path in data.glob("*"):
        if path.is_dir() and path.name in names:
            yield from (file for file in path.rglob("*") if file.is_file())
        elif path.is_file() and path.stem in names:
            yield path


def _resources(names: set[str], folder: Path) -> set[Path]:
    """Rules that are named, all static files and all C++, beside the modules of one folder."""
    rules = {path for path in folder.glob("rules/*.js") if path.stem in names}
    static = {path for path in folder.glob("static/*") if path.is_file()}
    return rules.union(static, folder.glob("*.cpp"), folder.glob("*.h"))
