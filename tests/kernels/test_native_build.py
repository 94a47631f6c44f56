"""C++ is compiled once, at first use; where that fails, torch computes and the reason is said."""

from __future__ import annotations

import importlib.util
import os
import platform
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from aiexplained_kernels import (
    BackendUnavailable,
    _backends,
    _native,
    backend_report,
    block_list_attention,
    window_block_list,
)

OPERATOR = "block_list_attention"
VISIBLE = '__attribute__((visibility("default")))'
SOURCE = f'#include "number.h"\nextern "C" {VISIBLE} int number() {{ return NUMBER; }}\n'
HEADER = "#pragma once\n#ifndef NUMBER\n#define NUMBER 7\n#endif\n"
# Loads the module alone, without torch: a process of its own takes a moment then.
PROCESS = f"""
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("native", {_native.__file__!r})
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
native.HERE = pathlib.Path(sys.argv[1])
print(native.load("number").number())
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, no settings, and a process that has loaded nothing yet."""
    for name in set(_native.SETTINGS) - {"PATH"}:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "cache"
    monkeypatch.setenv("AIEXPLAINED_KERNELS_CACHE", str(folder))
    if _native.compiler() is None:
        pytest.skip("no C++ compiler is installed")
    _native._load.cache_clear()
    yield folder
    _native._load.cache_clear()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one C++ file and its header, in place of the package's."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "number.cpp").write_text(SOURCE, encoding="utf-8")
    (folder / "number.h").write_text(HEADER, encoding="utf-8")
    monkeypatch.setattr(_native, "HERE", folder)
    return folder


def script(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def recorded(folder: Path, before: str = "") -> Path:
    """A compiler that notes each build in ``folder/builds`` before it builds."""
    note = f'case "$*" in *-shared*) echo "$*" >> {folder / "builds"}; {before or ":"} ;; esac'
    return script(folder / "cxx", f'{note}\nexec {_native.compiler()} "$@"')


def builds(folder: Path) -> int:
    path = folder / "builds"
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def number() -> int:
    """What the tiny library says, loaded as a new process would load it."""
    _native._load.cache_clear()
    return _native.load("number").number()


def start(sources: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS, str(sources)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> int:
    said, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    return int(said)


# What is kept


def test_a_library_is_built_once_and_kept_under_a_hash(tiny: Path, cache: Path) -> None:
    assert number() == 7
    (library,) = cache.iterdir()
    assert library.name.startswith("number-")
    before = library.stat().st_mtime_ns
    assert number() == 7
    assert [x.stat().st_mtime_ns for x in cache.iterdir()] == [before]


def test_a_process_asks_the_compiler_and_the_cache_only_once(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = _native.load("number")
    monkeypatch.setattr(_native.subprocess, "run", None)
    monkeypatch.setattr(_native.ctypes, "CDLL", None)
    assert _native.load("number") is library
    monkeypatch.setenv("AIEXPLAINED_KERNELS_DEFINES", "NUMBER=8")
    assert _native.load("number") is library


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("AIEXPLAINED_KERNELS_DEFINES", "NUMBER=11 OTHER", 11),
        pytest.param(
            "AIEXPLAINED_KERNELS_MARCH", "x86-64-v3", 7,
            marks=pytest.mark.skipif(
                platform.machine() != "x86_64", reason="the processor is no x86-64"
            ),
        ),
    ],
)  # fmt: skip
def test_other_flags_are_another_library(
    tiny: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    expected: int,
) -> None:
    assert number() == 7
    first = set(cache.iterdir())
    monkeypatch.setenv(variable, value)
    assert number() == expected
    assert len(set(cache.iterdir()) - first) == 1
    monkeypatch.delenv(variable)
    assert number() == 7
    assert len(list(cache.iterdir())) == 2, "undoing the change finds the first library"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("number.cpp", "NUMBER;", "NUMBER + 64;"), ("number.h", "NUMBER 7", "NUMBER 71")],
)
def test_an_edited_source_or_header_is_another_library(
    tiny: Path, cache: Path, name: str, old: str, new: str
) -> None:
    assert number() == 7
    text = (tiny / name).read_text(encoding="utf-8")
    (tiny / name).write_text(text.replace(old, new), encoding="utf-8")
    assert number() == 71
    assert len(list(cache.iterdir())) == 2


def test_another_version_of_the_compiler_is_another_library(
    tiny: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cxx"
    monkeypatch.setenv("AIEXPLAINED_KERNELS_CXX", str(compiler))
    for version in ("1.0", "1.1"):
        said = f'case "$*" in --version) echo {version}; exit ;; esac'
        script(compiler, f'{said}\nPATH={os.environ["PATH"]} exec g++ "$@"')
        assert number() == 7
    assert len(list(cache.iterdir())) == 2


def test_a_library_that_does_not_load_is_built_again(tiny: Path, cache: Path) -> None:
    assert number() == 7
    (library,) = cache.iterdir()
    # A new file: this process has the old one mapped.
    library.unlink()
    library.write_bytes(b"made on another system")
    assert answer(start(tiny)) == 7
    assert list(cache.iterdir()) == [library]
    assert library.stat().st_size > 1000


# Several processes


def test_a_second_process_finds_the_library_and_does_not_compile(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIEXPLAINED_KERNELS_CXX", str(recorded(tmp_path)))
    assert [answer(start(tiny)) for _ in range(2)] == [7, 7]
    assert builds(tmp_path) == 1
    (tiny / "number.h").write_text(HEADER.replace("7", "13"), encoding="utf-8")
    assert answer(start(tiny)) == 13
    assert builds(tmp_path) == 2, "the count notices a build"


def test_two_processes_that_start_at_once_both_load_and_leave_one_library(
    tiny: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither compiler begins before both were called, so both find the cache empty.
    wait = f'while [ "$(wc -l < {tmp_path / "builds"})" -lt 2 ]; do sleep 0.01; done'
    monkeypatch.setenv("AIEXPLAINED_KERNELS_CXX", str(recorded(tmp_path, wait)))
    both = [start(tiny) for _ in range(2)]
    assert [answer(process) for process in both] == [7, 7]
    assert builds(tmp_path) == 2
    (left,) = cache.rglob("*")
    assert left.suffix == ".so"


# What goes wrong


def reason() -> str:
    with pytest.raises(BackendUnavailable) as caught:
        number()
    return str(caught.value)


def test_the_compilers_first_error_is_in_the_message(tiny: Path, cache: Path) -> None:
    lines = ["#warning an error: not yet", "#error no such luck", "#error nor here"]
    (tiny / "number.cpp").write_text("\n".join(lines) + "\n", encoding="utf-8")
    said = reason()
    assert said.startswith(f"{_native.compiler()} could not build number.cpp: ")
    assert said.endswith("no such luck")
    assert "not yet" not in said
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AIEXPLAINED_KERNELS_CXX", ""), ("AIEXPLAINED_KERNELS_CXX", "no-such-compiler"), ("CXX", "")],
)
def test_a_compiler_that_is_not_there_is_named(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    expected = f"no C++ compiler was found to build number.cpp: {variable} names {value!r}"
    assert reason() == expected


def test_without_compilers_on_the_path_the_names_that_were_tried_are_said(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert number() == 7
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendUnavailable, match=r"none of g\+\+, c\+\+, clang\+\+ is on the path"):
        number()


def test_our_variable_comes_before_cxx(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIEXPLAINED_KERNELS_CXX", str(recorded(tmp_path)))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert number() == 7
    assert builds(tmp_path) == 1


@pytest.mark.parametrize("body", ["exit 0", 'while [ "$1" != -o ]; do shift; done; echo x > "$2"'])
def test_a_compiler_that_builds_nothing_loadable_leaves_nothing(
    tiny: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    if "-o" in body:
        body = f'case "$*" in *-shared*) {body} ;; esac'
    monkeypatch.setenv("AIEXPLAINED_KERNELS_CXX", str(script(tmp_path / "cxx", body)))
    assert f"number.cpp was not built with {tmp_path / 'cxx'}" in reason()
    assert list(cache.rglob("*")) == []


def test_a_cache_folder_that_cannot_be_made_is_named(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIEXPLAINED_KERNELS_CACHE", str(tmp_path / "file" / "cache"))
    assert str(tmp_path / "file") in reason()


def test_the_cache_lies_in_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIEXPLAINED_KERNELS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _native.cache_folder() == tmp_path / "aiexplained_kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert _native.cache_folder() == tmp_path / "home" / ".cache" / "aiexplained_kernels"


# The operator's own file

B, H, T, D, WINDOW, SINKS = 1, 3, 131, 29, 71, 5


def attention(backend: str) -> tuple[Tensor, Tensor]:
    """One attention in float64, always on the same input."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, B, H, T, D, generator=generator, dtype=torch.float64)
    counts, indices = (x.expand(B, H, *x.shape[2:]) for x in window_block_list(T, T, WINDOW))
    return block_list_attention(
        query, key, value, counts, indices,
        window_size=WINDOW, sink_tokens=SINKS, backend=backend,
    )  # fmt: skip


V3 = platform.machine() == "x86_64" and "AVX" in torch.backends.cpu.get_cpu_capability()
PROCESSORS = [
    "native",
    pytest.param(
        "x86-64-v3", marks=pytest.mark.skipif(not V3, reason="the processor is no x86-64 with AVX2")
    ),
]


@pytest.mark.parametrize("march", PROCESSORS)
def test_the_operator_builds_for_a_processor_and_computes_the_same(
    monkeypatch: pytest.MonkeyPatch, cache: Path, march: str
) -> None:
    monkeypatch.setenv("AIEXPLAINED_KERNELS_MARCH", march)
    assert backend_report()[OPERATOR]["native"] == "ready"
    assert len(list(cache.iterdir())) == len(_backends.OPERATORS)
    # A score sums D products and a result up to T terms, in another order.
    tolerance = (T + D) * torch.finfo(torch.float64).eps
    for native, formula in zip(attention("native"), attention("torch"), strict=True):
        assert not torch.equal(native, formula), "it is another implementation"
        assert (native - formula).abs().max() <= tolerance * formula.abs().max()


def test_without_a_compiler_the_formula_in_torch_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIEXPLAINED_KERNELS_CXX", "")
    missing = f"no C++ compiler was found to build {OPERATOR}.cpp"
    for one, other in zip(attention("auto"), attention("torch"), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(BackendUnavailable) as caught:
        attention("native")
    said = str(caught.value)
    assert said.startswith(f"{OPERATOR} cannot run with backend 'native': {missing}")
    assert "AIEXPLAINED_KERNELS_CXX" in said
    report = backend_report()[OPERATOR]
    assert report["native"].startswith(missing)
    assert report["torch"] == "ready"


def test_a_report_says_why_triton_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIEXPLAINED_KERNELS_CXX", "")
    said = backend_report()[OPERATOR]["triton"]
    if importlib.util.find_spec("triton") is None:
        assert said == "the package triton is not installed"
    elif not torch.cuda.is_available():
        assert said == "no GPU is visible to torch"
    else:
        assert said == "ready"


def test_a_triton_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton")
    monkeypatch.setattr(triton, "__version__", "3.5.1")
    monkeypatch.setattr(_backends, "_triton_missing", _backends._triton_missing.__wrapped__)
    report = _backends.backend_report()["block_list_attention"]
    assert report["triton"] == "it takes triton 3.6 or newer, got 3.5.1"
