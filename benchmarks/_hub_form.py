"""The kernels' tree as Hugging Face's kernel-builder lays it out, which needs Nix."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "kernels"
PACKAGE = PROJECT / "torch-ext" / "aiexplained_kernels"
OPS = '''"""As kernel-builder writes it: a namespace of this build's own."""

import torch

ops = torch.ops.{namespace}


def add_op_namespace_prefix(op_name):
    return f"{namespace}::{{op_name}}"
'''


def lay_out(build: Path, namespace: str) -> Path:
    """Write the CPU variant of the tree to ``build``, in the operators' own ``namespace``.

    As kernel-builder does, this copies the files with the extensions that build.toml names, puts
    another ``_ops.py`` in place of ours, and adds ``metadata.json``.

    Returns:
        The folder of the variant.
    """
    config = tomllib.loads((PROJECT / "build.toml").read_text(encoding="utf-8"))
    variant = build / "torch-cpu"
    variant.mkdir(parents=True)
    for path in sorted(PACKAGE.iterdir()):
        if path.suffix.removeprefix(".") in config["torch-noarch"]["pyext"]:
            shutil.copy2(path, variant)
    (variant / "_ops.py").write_text(OPS.format(namespace=namespace), encoding="utf-8")
    metadata = {key: config["general"][key] for key in ("name", "version", "license")}
    metadata |= {"id": namespace, "python-depends": [], "backend": {"type": "cpu"}}
    (variant / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    return variant
