"""Recorded results: resumable, checked, and honest about code that changed."""

import json
import sys

import pytest

from aiexplained import records
from aiexplained.errors import RecordError
from aiexplained.records import Study

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
    assert not records.is_stale(entry)
    assert "1 run)" in records.describe([entry])
    monkeypatch.setattr(records, "fingerprint_of", lambda function: "code-2")
    assert records.is_stale(entry)
    assert "the code has changed since for 1 of them" in records.describe([entry])


def test_missing_results_name_the_command(tmp_path):
    with pytest.raises(RecordError, match="nox -s record -- nothing"):
        records.load("nothing", "toy", folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("provenance"), "needs the keys"),
        (lambda e: e.update(schema=0), "schema 0, this version reads 1"),
        (lambda e: e["provenance"].pop("device"), "provenance lacks .'device'"),
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
    [(("Toy Study", "m:f", ()), "words joined by"), (("toy", "m.f", ()), "'module:function'")],
)
def test_a_study_checks_its_names(arguments, message):
    with pytest.raises(ValueError, match=message):
        Study(*arguments)


def test_every_shipped_record_is_whole_and_of_a_known_study():
    from aiexplained.concepts import cacheweaver

    known = {study.name: study for study in cacheweaver.STUDIES}
    files = sorted((records.data_folder() / "cacheweaver").glob("*.json"))
    assert files
    for file in files:
        entry = records.check(json.loads(file.read_text()), file)
        study = known[entry["study"]]
        assert entry["setting"] in [dict(s) for s in study.settings]
        assert file == study.file(file.parent, entry["setting"])
