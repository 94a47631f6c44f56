"""Every example that the kernels' docstrings, README and card show does what it says."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import kernels
import pytest
import torch
from jinja2 import Environment

import aiexplained_kernels
from aiexplained_kernels import _native

PROJECT = Path(__file__).parents[2] / "kernels"
MODULES = [
    module.name
    for module in pkgutil.iter_modules(aiexplained_kernels.__path__, "aiexplained_kernels.")
]


def code_blocks(text: str) -> str:
    return "".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_run(name: str) -> None:
    if "triton" in name and not importlib.util.find_spec("triton"):
        pytest.skip("triton is not installed")
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"torch": torch})
    assert failed == 0


def test_the_readme_session_prints_what_it_says() -> None:
    readme = code_blocks((PROJECT / "README.md").read_text(encoding="utf-8"))
    session = doctest.DocTestParser().get_doctest(readme, {}, "README.md", None, 0)
    failed, tried = doctest.DocTestRunner().run(session)
    assert tried >= 10
    assert not failed


def test_the_readme_names_every_environment_variable() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(AIEXPLAINED_\w+)` \|", readme, re.MULTILINE)
    assert set(table) == {name for name in _native.SETTINGS if name.startswith("AIEXPLAINED")}
    assert all(name in (_native.__doc__ or "") for name in table)


def test_the_card_shows_code_that_runs_and_every_public_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    template = Environment(trim_blocks=True).from_string((PROJECT / "CARD.md").read_text("utf-8"))
    card = template.render(repo_id="owner/name", functions=aiexplained_kernels.__all__)
    listed = re.findall(r"^- `(\w+)`$", card, re.MULTILINE)
    assert listed == list(aiexplained_kernels.__all__)
    asked = []
    monkeypatch.setattr(
        kernels, "get_kernel", lambda name, **_: asked.append(name) or aiexplained_kernels
    )
    exec(compile(code_blocks(card), "CARD.md", "exec"), {})
    assert asked == ["owner/name"]
    assert "block_list_attention" in capsys.readouterr().out
