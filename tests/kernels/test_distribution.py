"""The kernels as a distribution: what its wheel holds; the same tree loads as from the Hub."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from types import ModuleType

import kernels
import pytest
import torch
from _hub_form import PACKAGE, PROJECT, lay_out
from kernels._rust import Build  # the parser that kernel-builder itself uses
from torch import Tensor

import aiexplained_kernels

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in PACKAGE.iterdir() if path.is_file())
MODULES = [path for path in FILES if path.suffix == ".py"]


def toml(path: Path) -> dict:
    return tomllib.loads(path.read_text(encoding="utf-8"))


# The folder and its name


def where_kernels_is(folder: Path) -> str:
    """The file of ``import kernels``, asked in ``folder``."""
    code = "import kernels; print(kernels.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_beside_the_folder_the_name_kernels_still_means_hugging_faces_package() -> None:
    assert where_kernels_is(ROOT) == kernels.__file__


def test_an_init_file_in_the_folder_would_hide_that_package(tmp_path: Path) -> None:
    own = tmp_path / "kernels" / "__init__.py"
    own.parent.mkdir()
    own.touch()
    assert where_kernels_is(tmp_path) == str(own)


def test_both_distributions_share_version_license_and_oldest_torch() -> None:
    ours, package = (toml(x / "pyproject.toml")["project"] for x in (PROJECT, ROOT))
    for key in ("version", "license", "requires-python", "authors"):
        assert ours[key] == package[key], key
    assert set(ours["dependencies"]) < set(package["dependencies"])
    assert (PROJECT / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_tests_use_no_older_triton_than_the_extra_allows() -> None:
    (extra,) = toml(PROJECT / "pyproject.toml")["project"]["optional-dependencies"]["gpu"]
    group = toml(ROOT / "pyproject.toml")["dependency-groups"]["test"]
    assert [word.split(" ;")[0] for word in group if word.startswith("triton")] == [extra]


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel of the distribution, built without the network."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
        "--no-build-isolation", "--wheel-dir", folder, PROJECT,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


def test_the_wheel_holds_every_source_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    held = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == {f"aiexplained_kernels/{path.name}": path.read_bytes() for path in FILES}
    assert {".py", ".cpp", ".h"} < {path.suffix for path in FILES}
    assert "aiexplained_kernels/py.typed" in held


def test_the_wheel_says_what_it_needs(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(wheel.read(name))
    assert metadata["Name"] == "aiexplained-kernels"
    assert metadata["License-Expression"] == "Apache-2.0"
    needs = metadata.get_all("Requires-Dist", [])
    assert [need for need in needs if "extra ==" not in need] == ["torch>=2.6"]
    assert "triton>=3.6; extra == 'gpu'" in needs
    assert wheel.read(name.replace("METADATA", "licenses/LICENSE"))


# The tree as kernel-builder lays it out


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The order of sums, and so every bit, is the same in two runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def loaded(build: Path) -> ModuleType:
    return kernels.get_local_kernel(build, backend="cpu")


def operators() -> set[str]:
    """All operators that torch knows, with their namespaces."""
    return set(torch._C._dispatch_get_all_op_names())


def gradients(package: ModuleType, backend: str) -> list[Tensor]:
    """Result, logsumexp and gradients of one attention over prime sizes."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 2, 131, 16, generator=generator, requires_grad=True)
    key, value = (
        torch.randn(1, 1, 137, 16, generator=generator, requires_grad=True) for _ in range(2)
    )
    counts, indices = package.window_block_list(131, 137, window_size=67)
    results = package.block_list_attention(
        query, key, value, counts, indices, window_size=67, sink_tokens=3, backend=backend
    )
    total = sum(x.square().sum() for x in results)
    return [*results, *torch.autograd.grad(total, (query, key, value))]


def test_kernel_builder_accepts_the_configuration(tmp_path: Path) -> None:
    build = Build.open(PROJECT)
    assert {str(backend).rpartition(".")[2].lower() for backend in build.general.backends} == {
        "cpu", "cuda", "rocm",
    }  # fmt: skip
    wrong = (PROJECT / "build.toml").read_text(encoding="utf-8").replace("pyext", "py-ext")
    (tmp_path / "build.toml").write_text(wrong, encoding="utf-8")
    with pytest.raises(ValueError, match="build"):
        Build.open(tmp_path)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_the_hubs_form_and_the_installed_one_agree_in_one_process(
    tmp_path: Path, one_thread: None, backend: str
) -> None:
    namespace = f"_aiexplained_kernels_cpu_{backend}"
    variant = lay_out(tmp_path / "build", namespace)
    before = operators()
    from_hub = loaded(tmp_path / "build")
    ours = {name.partition("::")[2] for name in before if name.startswith("aiexplained::")}
    assert operators() - before == {f"{namespace}::{name}" for name in ours}
    assert Path(from_hub.__file__).parent == variant
    assert from_hub.block_list_attention is not aiexplained_kernels.block_list_attention
    assert from_hub.__all__ == aiexplained_kernels.__all__
    report = from_hub.backend_report()
    assert report == aiexplained_kernels.backend_report(), "the C++ and its headers came along"
    for one, other in zip(
        gradients(from_hub, backend), gradients(aiexplained_kernels, backend), strict=True
    ):
        assert torch.equal(one, other)


def test_without_a_namespace_of_its_own_the_second_one_would_fail(tmp_path: Path) -> None:
    variant = lay_out(tmp_path / "build", "_aiexplained_kernels_cpu_clash")
    shutil.copy2(PACKAGE / "_ops.py", variant)
    with pytest.raises(RuntimeError, match=r"operator \(aiexplained::\w+"):
        loaded(tmp_path / "build")


# The rules of the Hub


def broken_rules(source: str, name: str) -> list[str]:
    """What in a module's source would keep it from living beside another version of itself."""
    allowed = {*sys.stdlib_module_names, "torch"} | ({"triton"} if "triton" in name else set())
    broken = []
    for node in ast.walk(ast.parse(source, feature_version=(3, 9))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        broken += [f"imports {m}" for m in modules if m.partition(".")[0] not in allowed]
        if name == "_ops.py":
            continue
        if isinstance(node, ast.Constant) and re.search(r"\w::", str(node.value)):
            broken.append(f"names a namespace: {node.value}")
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.ops":
            broken.append("uses torch.ops")
        if isinstance(node, ast.Try) and "_ops" in ast.unparse(node):
            broken.append("imports _ops with a fallback")
    return broken


@pytest.mark.parametrize("path", MODULES, ids=[path.stem for path in MODULES])
def test_modules_keep_the_rules_of_the_hub(path: Path) -> None:
    assert broken_rules(path.read_text(encoding="utf-8"), path.name) == []


@pytest.mark.parametrize(
    "source",
    [
        "from aiexplained_kernels import _ops",
        "import numpy",
        "import triton",
        "def late():\n    import aiexplained",
        "torch.library.define('aiexplained::x', '() -> ()')",
        "torch.library.define(f'aiexplained::{x}', '() -> ()')",
        "torch.ops.aiexplained.x()",
        "try:\n    from ._ops import ops\nexcept ImportError:\n    ops = None",
    ],
)
def test_the_check_of_the_rules_would_notice(source: str) -> None:
    assert broken_rules(source, "module.py")


def test_public_names_are_a_plain_list_and_all_there() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert names == aiexplained_kernels.__all__ == sorted(names)
    assert all(hasattr(aiexplained_kernels, name) for name in names)
    assert importlib.util.find_spec("aiexplained_kernels").origin == str(PACKAGE / "__init__.py")
