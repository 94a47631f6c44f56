"""Which code a result rests on: everything that a function can reach, and nothing beside it."""

import ast
import hashlib

import pytest

from aiexplained.provenance import canonical, imported_names, module_file, without_docstrings
from aiexplained.reach import fingerprint_of, reach

FILES = {
    "__init__.py": "from toypkg.low import helper\n",
    "low.py": (
        'LIMIT = 3\nUNUSED = 4\n\ndef helper(x):\n    """Old words."""\n    return x + LIMIT\n\n'
        "class Box:\n    def get(self):\n        return deep()\n\ndef deep():\n    return 1\n"
    ),
    "top.py": (
        "import toypkg\nfrom toypkg import helper as h, low\n\ndef measure():\n    return h(1)\n\n"
        "def boxed():\n    return low.Box().get()\n\ndef dotted():\n    return toypkg.helper(2)\n\n"
        "def alone():\n    return 5\n"
    ),
}


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "toypkg"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return tmp_path


def names(package, function):
    return {name for _, name in reach(f"toypkg.top:{function}", root=package)}


def test_names_are_followed_through_aliases_re_exports_and_attributes(package):
    assert names(package, "measure") == {"measure", "helper", "LIMIT"}
    assert names(package, "boxed") == {"boxed", "Box", "deep"}
    assert names(package, "dotted") == {"dotted", "helper", "LIMIT"}
    assert names(package, "alone") == {"alone"}


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("LIMIT = 3", "LIMIT = 4", True),
        ("return x + LIMIT", "return x - LIMIT", True),
        ('"""Old words."""', '"""New words."""', False),
        ("def helper(x):", "def helper(x: int) -> int:  # typed", False),
        ("UNUSED = 4", "UNUSED = 5", False),
        ("return 1", "return 2", False),
    ],
)
def test_only_code_that_was_reached_changes_the_fingerprint(package, old, new, changes):
    before = fingerprint_of("toypkg.top:measure", root=package)
    file = package / "toypkg" / "low.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new) + "\n" * 2)
    assert (fingerprint_of("toypkg.top:measure", root=package) != before) is changes


def test_an_unknown_function_is_named(package):
    with pytest.raises(LookupError, match=r"no function 'nothing' in a module 'toypkg\.top'"):
        reach("toypkg.top:nothing", root=package)


def test_the_real_measurement_reaches_the_model_the_cache_and_the_planner():
    found = reach("aiexplained.concepts.cacheweaver.real:measure_ttft")
    for module, name in (
        ("aiexplained.lm.transformer", "Transformer"),
        ("aiexplained.serving.block_cache", "BlockCache"),
        ("aiexplained.concepts.cacheweaver.planner", "weave"),
        ("aiexplained.data.python_reference", "load_passages"),
    ):
        assert (module, name) in found
    assert not any(module == "aiexplained.registry" for module, _ in found)


def test_imports_are_found_at_any_depth_with_their_parents():
    code = "def f():\n    from a.b import c\nimport d.e as x\nfrom . import g\n"
    assert imported_names(code, package="p.q") == {
        "a",
        "a.b",
        "a.b.c",
        "d",
        "d.e",
        "p",
        "p.q",
        "p.q.g",
    }


def test_a_package_comes_before_a_module_of_the_same_name(package):
    (package / "toypkg" / "low").mkdir()
    (package / "toypkg" / "low" / "__init__.py").write_text("")
    assert module_file("toypkg.low", package).name == "__init__.py"
    assert module_file("toypkg.none", package) is None


def test_docstrings_are_dropped_and_other_strings_are_kept():
    import ast

    dump = ast.dump(without_docstrings(ast.parse('"""A."""\ndef f():\n    "B"\n    return "C"\n')))
    assert "'A.'" not in dump
    assert "'B'" not in dump
    assert "'C'" in dump


def test_the_canonical_form_is_the_same_in_every_version_of_python():
    code = (
        "class A:\n    @property\n    def f(self, *, x: int = 1):\n"
        "        return f'{x:{self.w}}' + ''\n"
    )
    digest = hashlib.sha256(canonical(ast.parse(code)).encode()).hexdigest()
    assert digest[:16] == "44fb135d17f1cfa4"  # seen with 3.11, 3.12 and 3.13
