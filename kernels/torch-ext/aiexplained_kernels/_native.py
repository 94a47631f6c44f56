"""Compile one C++ file at first use, keep the library by hash, and load it with ctypes.

The files include no header of torch, so a compiler alone is needed and a build takes seconds. What
Python calls is marked as visible in them; the rest is hidden, so that two builds never mix. The
compiled library lies in the user's cache folder under the hash of everything that it was made from;
two processes that start at once both compile, and the later one replaces the earlier one's file in
one step.

Environment variables, read before a kernel's first use in a process:
    AIEXPLAINED_KERNELS_CXX: The compiler; default ``CXX``, else the first of g++, c++, clang++.
        Empty: no compiler.
    AIEXPLAINED_KERNELS_MARCH: The ``-march`` to compile for; default ``native``.
    AIEXPLAINED_KERNELS_DEFINES: Preprocessor names, separated by spaces.
    AIEXPLAINED_KERNELS_CACHE: Where the libraries are kept; default ``aiexplained_kernels`` in the
        user's cache folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = (
    "-O3",
    "-std=c++17",
    "-shared",
    "-fPIC",
    "-fopenmp",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-ffp-contract=fast",
)
COMPILERS = ("g++", "c++", "clang++")
SETTINGS = (
    *(f"AIEXPLAINED_KERNELS_{name}" for name in ("CXX", "CACHE", "MARCH", "DEFINES")),
    "CXX",
    "PATH",
)
"""Environment variables that decide which library is loaded, the first time."""


class BackendUnavailable(RuntimeError):
    """The backend that was asked for cannot run here; the message says why."""


def compiler() -> str | None:
    """Path of the C++ compiler, or None."""
    named = os.environ.get("AIEXPLAINED_KERNELS_CXX", os.environ.get("CXX"))
    candidates = COMPILERS if named is None else (named,)
    return next((path for name in candidates if name and (path := shutil.which(name))), None)


def _why_no_compiler() -> str:
    for variable in ("AIEXPLAINED_KERNELS_CXX", "CXX"):
        if variable in os.environ:
            return f"{variable} names {os.environ[variable]!r}"
    return f"none of {', '.join(COMPILERS)} is on the path"


def cache_folder() -> Path:
    """Where compiled libraries are kept."""
    named = os.environ.get("AIEXPLAINED_KERNELS_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aiexplained_kernels"


def load(name: str) -> ctypes.CDLL:
    """The library made from ``name.cpp``, compiled unless the cache holds it.

    Raises:
        BackendUnavailable: without a compiler, where it rejects the file, or where the library
            cannot be kept or loaded.
    """
    library = _load(name)
    if isinstance(library, str):
        raise BackendUnavailable(library)
    return library


@functools.cache
def _load(name: str) -> ctypes.CDLL | str:
    """The library, or why there is none: asked once in a process."""
    program = compiler()
    if program is None:
        return f"no C++ compiler was found to build {name}.cpp: {_why_no_compiler()}"
    march = os.environ.get("AIEXPLAINED_KERNELS_MARCH", "native")
    defines = os.environ.get("AIEXPLAINED_KERNELS_DEFINES", "").split()
    command = [program, *FLAGS, f"-march={march}", *(f"-D{x}" for x in defines)]
    command.append(str(HERE / f"{name}.cpp"))
    try:
        library = cache_folder() / f"{name}-{_digest(name, command)}.so"
        if library.exists():
            # One that does not load was made on another system, and is made again.
            with contextlib.suppress(OSError):
                return ctypes.CDLL(str(library))
        return _compile(command, library)
    except (OSError, RuntimeError) as error:
        return f"{name}.cpp was not built with {program}, kept or loaded: {error}"


def _digest(name: str, command: list[str]) -> str:
    """Hash of the sources, the command, the compiler's version and the processor's abilities."""
    version = subprocess.run([command[0], "--version"], capture_output=True, check=False).stdout
    sources = [(HERE / f"{name}.cpp").read_bytes()]
    sources += [path.read_bytes() for path in sorted(HERE.glob("*.h"))]
    parts = ["\0".join(command[:-1]).encode(), version, _processor().encode(), *sources]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


def _processor() -> str:
    """What ``-march=native`` depends on: a cache folder may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    abilities = ("flags", "Features", "model name", "cpu family", "model\t")
    return platform.machine() + "".join(sorted({x for x in lines if x.startswith(abilities)}))


def _compile(command: list[str], library: Path) -> ctypes.CDLL | str:
    """Build ``library`` and load it, or say why the compiler did not build it.

    Raises:
        OSError: if the cache folder cannot be written, or what was built cannot be loaded; then
            nothing is kept.
    """
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{library.stem}-", dir=library.parent) as folder:
        built = Path(folder) / library.name
        done = subprocess.run(
            [*command, "-o", str(built)], env={**os.environ, "LC_ALL": "C"},
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        if done.returncode:
            errors = (x for x in done.stderr.splitlines() if re.search(r": (fatal )?error: ", x))
            said = next(errors, done.stderr[:300])
            return f"{command[0]} could not build {Path(command[-1]).name}: {said.strip()}"
        ctypes.CDLL(str(built))
        built.replace(library)
    return ctypes.CDLL(str(library))
