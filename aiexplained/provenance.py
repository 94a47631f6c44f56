"""Which code a result rests on: what a text imports, and a hash of what files mean.

Standard library only, and static: nothing is imported. The hash ignores comments, layout and
docstrings, so rewording a docstring makes nothing stale.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

PACKAGE_ROOT = Path(__file__).resolve().parents[1]


def module_file(name: str, root: Path = PACKAGE_ROOT) -> Path | None:
    """Source file of a dotted module name below ``root``, or ``None`` if there is none."""
    base = root.joinpath(*name.split("."))
    for candidate in (base / "__init__.py", base.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def imported_names(code: str, *, package: str = "") -> set[str]:
    """Dotted names that ``code`` may import, wherever the statement stands.

    ``from a import b`` gives both ``a`` and ``a.b``, since ``b`` may be a module; every parent
    package is included, since importing a module runs it. ``package`` resolves relative imports.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parent if node.level else []), *filter(None, [node.module])])
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    parts = [name.split(".") for name in names]
    return {".".join(p[:i]) for p in parts for i in range(1, len(p) + 1)}


def fingerprint(files: Iterable[Path]) -> str:
    """Hash of several files: Python by its meaning, anything else by its bytes."""
    digests = [_digest(file, file.stat().st_mtime_ns) for file in sorted(files)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


@lru_cache(maxsize=4096)
def _digest(file: Path, _modified: int) -> str:
    data = file.read_bytes()
    if file.suffix == ".py":
        data = canonical(without_docstrings(ast.parse(data.decode("utf-8")))).encode()
    return hashlib.sha256(data).hexdigest()


def canonical(tree: ast.AST) -> str:
    """What code means, as a text that is the same in all versions of Python since 3.11."""
    for node in ast.walk(tree):
        if getattr(node, "type_params", None) == []:  # new in 3.12
            del node.type_params  # type: ignore[attr-defined]
        if isinstance(node, ast.JoinedStr):  # 3.12 adds empty parts to nested formats
            node.values = [x for x in node.values if getattr(x, "value", None) != ""]
    options = {"show_empty": True} if sys.version_info >= (3, 13) else {}
    return ast.dump(tree, annotate_fields=False, **options)


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The same tree with every docstring replaced by ``pass``, in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body[0] = ast.copy_location(ast.Pass(), first)
    return tree
