"""Recorded results: what is too slow, or too much a matter of the machine, for a page's build.

A concept lists its studies; :func:`record` runs what is missing, one small JSON file a setting,
each with its provenance. Finished files are skipped, so a study that was interrupted goes on where
it stopped, and a partial set is usable: it says how many runs it holds.

Run ``python -m aiexplained.records <concept>`` (or ``nox -s record -- <concept>``).
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from aiexplained.errors import RecordError
from aiexplained.provenance import PACKAGE_ROOT, fingerprint
from aiexplained.reach import fingerprint_of

SCHEMA = 1
VERSIONS_OF = (
    "aiexplained", "numpy", "torch", "tokenizers", "transformers", "triton", "typeseg",
)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """One measurement over several settings.

    Args:
        name: Short name, e.g. ``"ttft"``.
        function: ``"module:function"``; it takes a setting's items as keyword arguments and
            returns plain numbers, strings, lists and dicts.
        settings: One dict a run; a seed is a setting like any other.
        sources: Files that the result rests on besides the definitions that ``function`` reaches
            (a kernel's C++, say), relative to the checkout.
    """

    name: str
    function: str
    settings: tuple[Mapping[str, Any], ...]
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.name):
            raise ValueError(f"Study.name must be words joined by '-', got {self.name!r}")
        if not re.fullmatch(r"[\w.]+:\w+", self.function):
            raise ValueError(f"Study.function must read 'module:function', got {self.function!r}")

    def resolve(self) -> Callable[..., Any]:
        """Import and return the measuring function."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]

    def file(self, folder: Path, setting: Mapping[str, Any]) -> Path:
        """Where the run of one setting is kept."""
        key = "-".join(f"{k}={setting[k]}" for k in sorted(setting))
        return folder / f"{self.name}--{re.sub(r'[^A-Za-z0-9=.,_-]', '_', key)}.json"


def data_folder(start: Path | None = None) -> Path:
    """``docs/_data`` of the checkout that holds ``start`` (default: the working folder).

    ``AIEXPLAINED_DATA`` names another folder.
    """
    named = os.environ.get("AIEXPLAINED_DATA")
    if named:
        return Path(named)
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "docs" / "_data").is_dir():
            return folder / "docs" / "_data"
    raise RecordError(
        "no folder docs/_data above the working folder; set AIEXPLAINED_DATA to where it is"
    )


def record(study: Study, folder: Path) -> Iterator[tuple[Path, bool]]:
    """Run the settings of ``study`` that have no file yet; yield each file, and if it is new.

    A result with the key ``"device"`` (a GPU's name, say) is recorded as made there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for setting in study.settings:
        file = study.file(folder, setting)
        if file.exists():
            if read(file)["setting"] != dict(setting):
                raise RecordError(f"{file} holds another setting than {dict(setting)}")
            yield file, False
            continue
        code, start = _code_of(study.function, study.sources), time.perf_counter()
        result = study.resolve()(**setting)
        entry = {
            "schema": SCHEMA,
            "study": study.name,
            "function": study.function,
            "setting": dict(setting),
            "result": result,
            "provenance": provenance(code, wall_s=time.perf_counter() - start),
        }
        if study.sources:
            entry["sources"] = list(study.sources)
        if isinstance(result, dict) and "device" in result:
            entry["provenance"]["device"] = result["device"]
        part = file.with_suffix(".part")
        part.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
        part.replace(file)
        yield file, True


def load(concept: str, study: str, *, folder: Path | None = None) -> list[dict[str, Any]]:
    """All recorded runs of one study, in a fixed order.

    Returns:
        Dicts with ``setting``, ``result`` and ``provenance``.

    Raises:
        RecordError: if there is none (the message names the command), or one is malformed.
    """
    root = (folder or data_folder()) / concept
    files = sorted(root.glob(f"{study}--*.json"))
    if not files:
        raise RecordError(
            f"no recorded run of {concept}/{study} in {root}; make them with "
            f"'nox -s record -- {concept}'"
        )
    return [read(file) for file in files]


def read(file: Path) -> dict[str, Any]:
    """One record.

    Raises:
        RecordError: if the file is no JSON, or no whole record of the current schema.
    """
    try:
        entry = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordError(f"{file}: no JSON: {error}") from error
    return check(entry, file)


def check(entry: Any, file: Path) -> dict[str, Any]:
    """Return ``entry`` if it is a whole record of the current schema."""
    required = {"schema", "study", "function", "setting", "result", "provenance"}
    if not isinstance(entry, dict) or required - set(entry):
        raise RecordError(f"{file}: a record needs the keys {sorted(required)}")
    if entry["schema"] != SCHEMA:
        raise RecordError(f"{file}: schema {entry['schema']}, this version reads {SCHEMA}")
    origin = entry["provenance"] if isinstance(entry["provenance"], dict) else {}
    missing = {"date", "commit", "versions", "device", "wall_s", "code"} - set(origin)
    if missing:
        raise RecordError(f"{file}: provenance lacks {sorted(missing)}")
    return entry


@dataclass(frozen=True)
class Summary:
    """Where the runs of a study come from.

    Args:
        runs: Number of runs.
        dates: Days of recording, ISO 8601, in order.
        devices: Machines, in alphabetical order.
        stale: Runs that reached a function that has changed since, or is gone; comments do not
            count.
    """

    runs: int
    dates: tuple[str, ...]
    devices: tuple[str, ...]
    stale: int

    @property
    def origin(self) -> str:
        """Dates, machines and number of runs in words."""
        span = " to ".join(dict.fromkeys((self.dates[0], self.dates[-1])))
        runs = f"{self.runs} run{'s' * (self.runs > 1)}"
        return f"recorded {span} on {', '.join(self.devices)} ({runs})"

    @property
    def warning(self) -> str:
        """That the code has changed, in words; empty if it has not."""
        if not self.stale:
            return ""
        of_them = "" if self.stale == self.runs else f" for {self.stale} of {self.runs} runs"
        return f"the code has changed since{of_them}"


def summarize(entries: Sequence[Mapping[str, Any]]) -> Summary:
    """Sum up the runs of one study.

    Raises:
        ValueError: if there is none.
    """
    if not entries:
        raise ValueError("summarize needs at least one run, got none")
    rests_on = [(e["function"], tuple(e.get("sources", ()))) for e in entries]
    now = {each: _fingerprint(*each) for each in set(rests_on)}
    return Summary(
        runs=len(entries),
        dates=tuple(sorted({e["provenance"]["date"] for e in entries})),
        devices=tuple(sorted({e["provenance"]["device"] for e in entries})),
        stale=sum(
            e["provenance"]["code"] != now[each] for e, each in zip(entries, rests_on, strict=True)
        ),
    )


def _fingerprint(function: str, sources: tuple[str, ...]) -> str | None:
    try:
        return _code_of(function, sources)
    except (LookupError, FileNotFoundError):  # renamed or removed since
        return None


def _code_of(function: str, sources: tuple[str, ...]) -> str:
    """Fingerprint of what a function reaches, and of files besides."""
    code = fingerprint_of(function)
    return fingerprint(PACKAGE_ROOT / source for source in sources) + code if sources else code


def merge(source: Path, target: Path) -> Iterator[tuple[Path, bool]]:
    """Add the records in ``source`` to ``target``; yield each file, and if it is new.

    A set that several machines recorded in parts becomes whole in this way. A setting that both
    have is kept as it is in ``target`` when the results are equal.

    Args:
        source: Folder of one concept's records.
        target: Another one.

    Raises:
        RecordError: if a file of ``source`` is malformed, or a result differs from the one in
            ``target``; nothing is written then.
    """
    files = sorted(source.glob("*.json"))
    if not files:
        raise RecordError(f"no records to merge in {source}")
    fresh = []
    for file in files:
        entry, ours = read(file), target / file.name
        if ours.exists():
            if read(ours)["result"] != entry["result"]:
                raise RecordError(
                    f"{file.name} differs in {source} and {target}: remove the one you distrust"
                )
        else:
            fresh.append(file)
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file in fresh:
            shutil.copyfile(file, target / file.name)
        yield target / file.name, file in fresh


def provenance(code: str, *, wall_s: float) -> dict[str, Any]:
    """Where a run that ended just now comes from; ``code`` is its fingerprint at the start."""
    versions = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": dt.date.today().isoformat(),
        "commit": _commit(),
        "versions": versions,
        "device": device_name(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "wall_s": round(wall_s, 1),
        "code": code,
    }


def device_name() -> str:
    """The processor's name as the system gives it, and how many cores may be used."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text(encoding="utf-8"))
        name = found.group(1).strip() if found else name
    return f"{name}, {os.cpu_count()} cores"


def _commit() -> str:
    """The checkout's commit; a copy without history says it in ``AIEXPLAINED_COMMIT``."""
    named = os.environ.get("AIEXPLAINED_COMMIT")
    if named:
        return named
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Record the studies of one concept, or one of them."""
    parser = argparse.ArgumentParser(prog="python -m aiexplained.records", description=main.__doc__)
    parser.add_argument("concept")
    parser.add_argument("--only", help="name of one study")
    parser.add_argument("--list", action="store_true", help="only name the files, run nothing")
    parser.add_argument("--folder", type=Path, help="default: docs/_data of this checkout")
    parser.add_argument("--merge", type=Path, help="add what was recorded with --folder MERGE")
    options = parser.parse_args(argv)
    module = importlib.import_module(f"aiexplained.concepts.{options.concept}")
    folder = (options.folder or data_folder()) / options.concept
    if options.merge:
        try:
            for file, new in merge(options.merge / options.concept, folder):
                print(f"{'added' if new else 'kept'}  {file}")
        except RecordError as error:
            parser.error(str(error))
        return 0
    studies = [s for s in module.STUDIES if options.only in (None, s.name)]
    if not studies:
        names = ", ".join(s.name for s in module.STUDIES)
        parser.error(f"{options.concept} has no study {options.only!r}; it has {names}")
    for study in studies:
        if options.list:
            print(*(study.file(folder, setting) for setting in study.settings), sep="\n")
            continue
        for file, new in record(study, folder):
            print(f"{'recorded' if new else 'kept'}  {file}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
