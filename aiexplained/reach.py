"""Which definitions a function can reach, so that a recorded result knows what it rests on.

Static and standard library only: names are followed through imports and re-exports, within this
package. A class counts as a whole; a name that a local variable shadows is followed all the same,
so the set may be too large, never too small, unless code reaches something by a computed name.
"""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from pathlib import Path

from aiexplained.provenance import PACKAGE_ROOT, canonical, module_file, without_docstrings

Definition = tuple[str, str]
"""Module and top-level name."""


def reach(function: str, *, root: Path = PACKAGE_ROOT) -> dict[Definition, str]:
    """Definitions that ``"module:function"`` can reach, each with its source in canonical form.

    Comments, layout, docstrings and the types of arguments and results do not count.

    Raises:
        LookupError: if the module or the function does not exist.
    """
    module, _, name = function.partition(":")
    found: dict[Definition, str] = {}
    todo = [_resolve(module, name, root)]
    if todo[0] is None:
        raise LookupError(f"no function {name!r} in a module {module!r}")
    while todo:
        definition = todo.pop()
        if definition is None or definition in found:
            continue
        node = _parse(definition[0], root).definitions[definition[1]]
        found[definition] = canonical(node)
        todo += [_resolve(*use, root) for use in _uses(node, definition[0], root)]
    return dict(sorted(found.items()))


def fingerprint_of(function: str, *, root: Path = PACKAGE_ROOT) -> str:
    """Hash over all that :func:`reach` finds."""
    text = "\n".join(f"{m}.{n}: {source}" for (m, n), source in reach(function, root=root).items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Module:
    """Top-level definitions and imports of one module."""

    def __init__(self, name: str, file: Path) -> None:
        tree = without_docstrings(ast.parse(file.read_text(encoding="utf-8")))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                node.returns = None
            elif isinstance(node, ast.arg):
                node.annotation = None
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        self.definitions: dict[str, ast.AST] = {}
        self.imports: dict[str, tuple[str, str | None]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (alias.name, None)
            elif isinstance(node, ast.ImportFrom):
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*(parent if node.level else []), *filter(None, [node.module])])
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (base, alias.name)
        for node in tree.body:
            for target in _bound_names(node):
                self.definitions[target] = node


def _bound_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _parse(name: str, root: Path) -> _Module:
    file = module_file(name, root)
    if file is None:
        raise LookupError(f"no module {name!r} below {root}")
    return _parsed(name, file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1024)
def _parsed(name: str, file: Path, _modified: int) -> _Module:
    return _Module(name, file)


def _uses(node: ast.AST, module: str, root: Path) -> list[tuple[str, str]]:
    """``(module, name)`` pairs that ``node`` refers to, through this module's names."""
    here = _parse(module, root)
    uses = []
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            uses.append((module, part.id))
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            base, name = here.imports.get(part.value.id, ("", None))
            uses.append((f"{base}.{name}" if name else base, part.attr))
    return uses


def _resolve(module: str, name: str, root: Path) -> Definition | None:
    """Where ``name`` as seen from ``module`` is defined, if that is inside the package."""
    while module_file(module, root) is not None:
        here = _parse(module, root)
        if name in here.definitions:
            return module, name
        if name not in here.imports or here.imports[name][1] is None:
            return None
        base, imported = here.imports[name]
        module, name = base, str(imported)
    return None
