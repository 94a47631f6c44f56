"""Recorded results: resumable, checked, and honest about code that changed."""

import importlib
import json
import os
import signal
import subprocess
import sys

import pytest

from aiexplained import records
from aiexplained.errors import RecordError
from aiexplained.provenance import PACKAGE_ROOT
from aiexplained.records import Study
from aiexplained.registry import concepts

MODULE = '''
"""A study for the test."""
CALLS = []


def measure(*, seed, scale=1):
    CALLS.append(seed)
    if seed == 13:
        raise RuntimeError("killed in the middle")
    return {"value": scale * seed}
'''


@pytest.fixture
def study(tmp_path, monkeypatch):
    package = tmp_path / "aixstudy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(records, "fingerprint_of", lambda function: "code-1")
    yield Study("toy", "aixstudy.inner:measure", tuple({"seed": s} for s in (3, 5, 13, 7)))
    for name in ("aixstudy", "aixstudy.inner"):
        sys.modules.pop(name, None)


def run(study, folder):
    return [(file.name, new) for file, new in records.record(study, folder)]


def test_a_study_killed_in_the_middle_goes_on_where_it_stopped(study, tmp_path):
    folder = tmp_path / "out" / "toy-concept"
    with pytest.raises(RuntimeError, match="killed in the middle"):
        run(study, folder)
    assert sorted(f.name for f in folder.iterdir()) == ["toy--seed=3.json", "toy--seed=5.json"]
    calls = sys.modules["aixstudy.inner"].CALLS
    calls.clear()
    rest = Study(study.name, study.function, tuple({"seed": s} for s in (3, 5, 7)))
    assert run(rest, folder) == [
        ("toy--seed=3.json", False), ("toy--seed=5.json", False), ("toy--seed=7.json", True),
    ]  # fmt: skip
    assert calls == [7]
    loaded = records.load("toy-concept", "toy", folder=tmp_path / "out")
    assert [e["result"]["value"] for e in loaded] == [3, 5, 7]
    assert {e["setting"]["seed"] for e in loaded} == {3, 5, 7}


def test_a_record_says_where_it_comes_from(study, tmp_path):
    (file, _), *_ = records.record(Study("toy", study.function, ({"seed": 3},)), tmp_path)
    provenance = json.loads(file.read_text())["provenance"]
    assert provenance["device"] == records.device_name()
    assert provenance["versions"]["python"].count(".") == 2
    assert provenance["code"] == "code-1"
    assert provenance["wall_s"] >= 0


def test_a_changed_function_makes_a_record_stale(study, tmp_path, monkeypatch):
    assert (
        len(list(records.record(Study("toy", study.function, ({"seed": 3},)), tmp_path / "c"))) == 1
    )
    (entry,) = records.load("c", "toy", folder=tmp_path)
    about = records.summarize([entry])
    assert about.origin.endswith(f"on {records.device_name()} (1 run)")
    assert about.warning == ""
    monkeypatch.setattr(records, "fingerprint_of", lambda function: "code-2")
    assert records.summarize([entry]).warning == "the code has changed since"
    newer = {**entry, "provenance": {**entry["provenance"], "code": "code-2"}}
    both = records.summarize([entry, newer])
    assert (both.stale, both.warning) == (1, "the code has changed since for 1 of 2 runs")


def test_a_changed_source_beside_the_function_makes_a_record_stale(study, tmp_path, monkeypatch):
    source = tmp_path / "kernel.cpp"
    source.write_text("int a = 1;")
    monkeypatch.setattr(records, "PACKAGE_ROOT", tmp_path)
    one = Study("toy", study.function, ({"seed": 3},), sources=("kernel.cpp",))
    (file, _), *_ = records.record(one, tmp_path / "out")
    assert records.summarize([records.read(file)]).stale == 0
    source.write_text("int a = 2;")
    assert records.summarize([records.read(file)]).stale == 1
    source.unlink()
    assert records.summarize([records.read(file)]).stale == 1


def test_a_result_may_name_the_device_and_a_copy_its_commit(study, tmp_path, monkeypatch):
    monkeypatch.setenv("AIEXPLAINED_COMMIT", "0123abc")
    inner = tmp_path / "aixstudy" / "inner.py"
    inner.write_text('def measure(*, seed):\n    return {"value": 1, "device": "a GPU"}\n')
    (file, _), *_ = records.record(Study("toy", study.function, ({"seed": 3},)), tmp_path / "out")
    provenance = records.read(file)["provenance"]
    assert (provenance["device"], provenance["commit"]) == ("a GPU", "0123abc")


def test_no_runs_have_no_summary():
    with pytest.raises(ValueError, match="at least one run"):
        records.summarize([])


KILLED = """
import os, signal
from pathlib import Path
from aiexplained import records

def measure(*, seed):
    if seed == 2 and not os.environ.get("GO_ON"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": seed}

if __name__ == "__main__":
    records.fingerprint_of = lambda function: "code"
    study = records.Study("toy", "killed:measure", tuple({"seed": s} for s in range(4)))
    for file, new in records.record(study, Path("data")):
        print(file.name, new)
"""


def test_a_process_killed_by_force_leaves_only_whole_files(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)}
    command = [sys.executable, "killed.py"]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "check": False}
    first = subprocess.run(command, env=environment, **options)
    assert first.returncode == -signal.SIGKILL
    files = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert files == ["toy--seed=0.json", "toy--seed=1.json"]
    second = subprocess.run(command, env={**environment, "GO_ON": "1"}, **options)
    assert second.stdout.splitlines() == [
        "toy--seed=0.json False", "toy--seed=1.json False",
        "toy--seed=2.json True", "toy--seed=3.json True",
    ]  # fmt: skip


@pytest.fixture
def two_parts(study, tmp_path):
    """Seeds 3 and 5 recorded in one place, 5 and 7 in another."""
    for name, seeds in (("a", (3, 5)), ("b", (5, 7))):
        part = Study("toy", study.function, tuple({"seed": s} for s in seeds))
        list(records.record(part, tmp_path / name))
    return tmp_path / "a", tmp_path / "b"


def test_parts_recorded_on_two_machines_become_one_set(two_parts, tmp_path):
    ours, theirs = two_parts
    merged = [(file.name, new) for file, new in records.merge(theirs, ours)]
    assert merged == [("toy--seed=5.json", False), ("toy--seed=7.json", True)]
    values = [e["result"]["value"] for e in records.load("a", "toy", folder=tmp_path)]
    assert values == [3, 5, 7]


def test_results_that_differ_are_not_merged_and_nothing_is_written(two_parts):
    ours, theirs = two_parts
    file = theirs / "toy--seed=5.json"
    entry = json.loads(file.read_text())
    entry["result"]["value"] = 6
    file.write_text(json.dumps(entry))
    with pytest.raises(RecordError, match=r"toy--seed=5\.json differs"):
        list(records.merge(theirs, ours))
    assert sorted(f.name for f in ours.iterdir()) == ["toy--seed=3.json", "toy--seed=5.json"]


def test_the_command_merges(two_parts, capsys):
    ours, theirs = two_parts
    theirs.rename(ours.parent / "cacheweaver")  # as recorded with --folder of the parent
    arguments = ["cacheweaver", "--merge", str(ours.parent), "--folder", str(ours)]
    assert records.main(arguments) == 0
    assert (ours / "cacheweaver" / "toy--seed=7.json").is_file()
    assert "added" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        records.main(["cacheweaver", "--merge", str(ours / "absent"), "--folder", str(ours)])
    assert "no records to merge" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", '{"schema": 1', "<<<<<<< ours"])
def test_a_file_that_is_no_json_is_named(tmp_path, text):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "toy--seed=3.json").write_text(text)
    with pytest.raises(RecordError, match=r"toy--seed=3\.json: no JSON"):
        records.load("c", "toy", folder=tmp_path)


def test_a_function_that_is_gone_makes_a_record_stale(study, tmp_path, monkeypatch):
    ((file, _),) = records.record(Study("toy", study.function, ({"seed": 3},)), tmp_path)

    def gone(function):
        raise LookupError(function)

    monkeypatch.setattr(records, "fingerprint_of", gone)
    assert records.summarize([records.read(file)]).warning == "the code has changed since"


def test_two_settings_never_share_a_file_silently(study, tmp_path):
    list(records.record(Study("toy", study.function, ({"seed": 3},)), tmp_path))
    other = Study("toy", study.function, ({"seed": "3"},))
    with pytest.raises(RecordError, match="holds another setting than"):
        list(records.record(other, tmp_path))


def test_nothing_to_merge_is_an_error(tmp_path):
    with pytest.raises(RecordError, match="no records to merge"):
        list(records.merge(tmp_path / "absent", tmp_path))


def test_missing_results_name_the_command(tmp_path):
    with pytest.raises(RecordError, match="nox -s record -- nothing"):
        records.load("nothing", "toy", folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("provenance"), "needs the keys"),
        (lambda e: e.update(schema=0), "schema 0, this version reads 1"),
        (lambda e: e["provenance"].pop("device"), "provenance lacks .'device'"),
        (lambda e: e.update(provenance=None), "provenance lacks"),
    ],
)
def test_a_malformed_record_is_refused(study, tmp_path, change, message):
    (file, _), *_ = records.record(Study("toy", study.function, ({"seed": 3},)), tmp_path)
    entry = json.loads(file.read_text())
    change(entry)
    with pytest.raises(RecordError, match=message):
        records.check(entry, file)


def test_the_command_records_one_study_and_refuses_an_unknown_one(tmp_path, capsys):
    assert (
        records.main(["cacheweaver", "--only", "sweep", "--folder", str(tmp_path), "--list"]) == 0
    )
    assert "sweep--" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        records.main(["cacheweaver", "--only", "nonsense", "--folder", str(tmp_path)])
    assert "has no study 'nonsense'; it has ttft, quality, sweep" in capsys.readouterr().err


def test_the_data_folder_is_found_from_below_or_named(tmp_path, monkeypatch):
    (tmp_path / "docs" / "_data").mkdir(parents=True)
    inner = tmp_path / "docs" / "concepts"
    inner.mkdir()
    assert records.data_folder(inner) == tmp_path / "docs" / "_data"
    monkeypatch.setenv("AIEXPLAINED_DATA", str(tmp_path))
    assert records.data_folder() == tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Toy Study", "m:f", ()), "words joined by"),
        (("a--b", "m:f", ()), "words joined by"),
        (("toy", "m.f", ()), "'module:function'"),
    ],
)
def test_a_study_checks_its_names(arguments, message):
    with pytest.raises(ValueError, match=message):
        Study(*arguments)


@pytest.mark.parametrize("concept", [concept.name for concept in concepts()])
def test_every_shipped_record_is_whole_and_of_a_known_study(concept):
    module = importlib.import_module(f"aiexplained.concepts.{concept}")
    known = {study.name: study for study in getattr(module, "STUDIES", ())}
    files = sorted((records.data_folder() / concept).glob("*.json"))
    assert bool(files) == bool(known)
    for file in files:
        entry = records.check(json.loads(file.read_text()), file)
        study = known[entry["study"]]
        assert entry["setting"] in [dict(s) for s in study.settings]
        assert file == study.file(file.parent, entry["setting"])
    studies = {claim.study for claim in module.CONCEPT.claims if claim.study}
    assert studies <= set(known), "a claim names a study that does not exist"
