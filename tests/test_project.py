"""The parts of the project that say the same thing in two places do say the same."""

from __future__ import annotations

import doctest
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import aiexplained
from aiexplained.registry import concepts

ROOT = Path(__file__).parents[1]
GENERATED = {".nox", "_build", "_pictures", "_vendor", "jupyter_execute", "__pycache__"}
# Sources come from an index that the reader's own pip names. Written in two parts each, so that
# this file may be searched as well.
PRIVATE = (
    "files.python" + "hosted", "pypi" + ".org", "npm" + "js.org", "download." + "pytorch",
    "deb.de" + "bian.org", "/wo" + "rk/", "/ro" + "ot/", "/tm" + "p/", "bash" + "_jobs",
)  # fmt: skip


GRANTED: dict[str, dict[str, dict[str, str]]] = {
    "tests": {},
    "docs": {
        "build": {"contents": "read", "pages": "read"},
        "publish": {"pages": "write", "id-token": "write"},
        "notebooks": {"contents": "write"},
    },
    "release": {"release": {"contents": "write"}},
}
"""What jobs of the workflows may do beyond reading the repository."""


def project_files() -> list[Path]:
    """Files under version control; without git, those that no tool made."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        files = [ROOT / name for name in listed.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = [
            path for path in ROOT.rglob("*") if not GENERATED & set(path.relative_to(ROOT).parts)
        ]  # fmt: skip
    return [path for path in files if path.is_file()]


def project_texts() -> dict[Path, str]:
    texts = {}
    for path in project_files():
        try:
            texts[path] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return texts


def private_words(texts: dict[Path, str]) -> list[str]:
    return [f"{path}: {word}" for path, text in texts.items() for word in PRIVATE if word in text]


def console_commands(path: Path) -> set[str]:
    """Commands of a page's console blocks, without comments."""
    blocks = re.findall(r"```console\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    return {line.split("#")[0].strip() for block in blocks for line in block.splitlines()}


def changelog_versions(text: str) -> list[str]:
    return re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)


def test_every_concept_has_a_module_a_page_and_a_test() -> None:
    names = {concept.name for concept in concepts()}
    pages = {p.stem.replace("-", "_") for p in (ROOT / "docs" / "concepts").glob("*.md")}
    tests = {p.stem.removeprefix("test_") for p in (ROOT / "tests" / "concepts").glob("test_*.py")}
    assert names, "the registry found concepts"
    assert pages == names
    assert names <= tests
    # A concept that is a package may have several test files: test_x_part.py.
    assert all(any(t == n or t.startswith(f"{n}_") for n in names) for t in tests)


def test_the_kernels_folder_is_no_package() -> None:
    """The import name ``kernels`` belongs to another distribution."""
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_no_file_names_a_registry_host_or_a_path_of_one_machine() -> None:
    assert not private_words(project_texts())


@pytest.mark.parametrize(
    "line", ["see /wo" + "rk/x", "pip install -i https://pypi" + ".org/simple"]
)
def test_the_search_for_private_words_would_find_one(line: str) -> None:
    assert private_words({Path("x.md"): line})


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = console_commands(ROOT / "README.md")
    assert commands == {"nox -s docs -- open", "nox -s tests"}
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "nox -s tests" in script.splitlines()


def test_the_guide_and_the_sessions_install_the_same_torch() -> None:
    pins = {
        name: re.findall(r"\btorch==[\d.]+", (ROOT / name).read_text(encoding="utf-8"))
        for name in ("noxfile.py", "docs/guide/build.md")
    }
    assert len(set(pins["noxfile.py"])) == 1
    assert set(pins["docs/guide/build.md"]) == set(pins["noxfile.py"])


def test_every_session_that_the_guides_name_exists() -> None:
    sessions = set(re.findall(r"@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text()))
    workflows = [f".github/workflows/{name}.yml" for name in ("docs", "release")]
    for name in ("README.md", "CONTRIBUTING.md", ".ci/run", ".pre-commit-config.yaml", *workflows):
        text = (ROOT / name).read_text(encoding="utf-8")
        named = re.findall(r"\bnox -s ((?:[a-z]+ ?)+)", text)
        assert named, f"{name} names a session"
        assert set(" ".join(named).split()) <= sessions, name
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert set(table) == sessions


def test_workflows_are_whole_and_ask_for_no_more_than_they_need() -> None:
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert {file.stem for file in files} == {"docs", "release", "tests"}
    for file in files:
        workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}, file.name
        granted = {n: j["permissions"] for n, j in workflow["jobs"].items() if "permissions" in j}
        assert granted == GRANTED[file.stem]
        for name, job in workflow["jobs"].items():
            assert job["timeout-minutes"] <= 60, f"{file.name}: {name}"
            assert set(job.get("needs", "").split()) <= set(workflow["jobs"])
            assert all("uses" in step or "run" in step for step in job["steps"])


def test_the_readme_session_prints_what_it_says() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    session = doctest.DocTestParser().get_doctest("".join(blocks), {}, "README.md", None, 0)
    failed, tried = doctest.DocTestRunner().run(session)
    assert tried >= 5
    assert not failed


def test_every_locked_requirement_has_a_version_and_hashes() -> None:
    text = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.replace("\\\n", " "))
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"[\w.\[\]-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert not re.search(r"^torch==", text, re.MULTILINE), "torch is installed apart"


def test_version_stands_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert project["version"] == aiexplained.__version__
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [aiexplained.__version__]
    assert changelog_versions(changelog)[0] == aiexplained.__version__


def test_a_changelog_entry_without_a_date_does_not_count() -> None:
    assert changelog_versions("## [0.2.0]\n## [0.1.0] - 2026-01-02") == ["0.1.0"]
