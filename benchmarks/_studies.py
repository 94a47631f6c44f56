"""What benchmarks that can be recorded share: their command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aiexplained.records import Study, data_folder, record


def run_studies(doc: str, studies: Callable[[str], Iterable[Study]], folder: str) -> int:
    """Measure, print and perhaps record; the exit status.

    Args:
        doc: What the benchmark says of itself; its first line is shown as help.
        studies: What is measured on a device, ``"cpu"`` or ``"gpu"``.
        folder: Name of the records' folder.
    """
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--record", action="store_true", help="keep what is missing as records")
    parser.add_argument("--folder", type=Path, help="of the records; default: docs/_data")
    parser.add_argument("--only", help="name of one study")
    arguments = parser.parse_args()
    for one in studies(arguments.device):
        if arguments.only not in (None, one.name):
            continue
        if arguments.record:
            for file, new in record(one, (arguments.folder or data_folder()) / folder):
                print(f"{'recorded' if new else 'kept'}  {file.name}", flush=True)
        else:
            for setting in one.settings:
                report(one.name, setting, one.resolve()(**setting))
    return 0


def report(name: str, setting: dict[str, Any], result: dict[str, Any]) -> None:
    """Print a run in one line."""
    said = " ".join(
        f"{k}={v:.4g}" for k, v in sorted(_numbers(result)) if not k.startswith("spread")
    )
    print(f"{name:<8} {' '.join(map(str, setting.values()))}: {said}", flush=True)


def _numbers(result: dict[str, Any]) -> Iterable[tuple[str, float]]:
    for key, value in result.items():
        if isinstance(value, float):
            yield key, value
        elif isinstance(value, dict):
            yield from ((f"{key}.{name}", x) for name, x in _numbers(value))
