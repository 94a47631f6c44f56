"""The static import closure finds what running the cells would load, and not much more."""

from __future__ import annotations

import pytest
from aixdocs.closure import closure
from tiny import REPOSITORY

DATA = REPOSITORY / "docs" / "_data"


def used(cell: str) -> set[str]:
    files = closure([cell], ["aiexplained"], DATA)
    return {path.relative_to(REPOSITORY / "aiexplained").as_posix() for path in files}


def test_importing_the_package_uses_the_registry_and_no_mechanism() -> None:
    assert used("import aiexplained") == {"__init__.py", "registry.py", "errors.py"}


def test_cells_without_imports_use_nothing() -> None:
    assert closure(["x = 1", "print(x)"], ["aiexplained"], DATA) == set()


@pytest.mark.parametrize(
    "cell",
    [
        "import aiexplained.serving.block_cache",
        "from aiexplained.serving import block_cache as b",
        "from aiexplained.serving.block_cache import BlockCache",
        "def late():\n    from aiexplained.serving import BlockCache",
    ],
)
def test_every_form_of_import_is_followed(cell: str) -> None:
    assert {"__init__.py", "serving/__init__.py", "serving/block_cache.py"} <= used(cell)


def test_a_package_brings_its_lazy_parts_and_the_files_it_serves() -> None:
    found = used("from aiexplained import viz")
    assert {"viz/explorable.py", "viz/claims.py", "viz/static/explorables.js"} <= found
    assert not {name for name in found if name.startswith("concepts/")}


def test_cpp_sources_and_headers_beside_a_module_count() -> None:
    cell = "from aiexplained_kernels import block_list_attention"
    found = {path.name for path in closure([cell], ["aiexplained_kernels"], DATA)}
    package = REPOSITORY / "kernels" / "torch-ext" / "aiexplained_kernels"
    compiled = {path.name for path in package.iterdir() if path.suffix in {".cpp", ".h"}}
    assert "block_list_attention.cpp" in compiled
    assert compiled < found
    assert {"_native.py", "_block_list_torch.py", "block_list_attention_triton.py"} <= found


def test_packages_that_are_not_installed_are_skipped() -> None:
    assert closure(["import no_such_kernels"], ["no_such_kernels"], DATA) == set()
