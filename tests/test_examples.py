"""Every example that a docstring or a page shows does what it says."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import aiexplained

MODULES = [module.name for module in pkgutil.walk_packages(aiexplained.__path__, "aiexplained.")]
DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted([*DOCS.glob("concepts/*.md"), *DOCS.glob("kernels/*.md")])


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_run(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"torch": torch})
    assert failed == 0


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_examples_of_a_page_run(page):
    blocks = re.findall(r"^```python\n(>>> .*?)^```", page.read_text("utf-8"), re.M | re.S)
    assert blocks, "a page shows how to use the package"
    example = doctest.DocTestParser().get_doctest("".join(blocks), {}, page.name, str(page), 0)
    assert doctest.DocTestRunner().run(example).failed == 0


def test_a_wrong_example_would_be_noticed():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(wrong, out=lambda _: None).failed == 1
