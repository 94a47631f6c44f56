"""The benchmark of the gated delta rule: no ratio without agreement; what it recorded is whole."""

from __future__ import annotations

import pytest
import torch

import aiexplained_kernels as kernels
from aiexplained import records
from benchmarks import _rounds
from benchmarks import gated_delta_rule as script


@pytest.fixture(autouse=True)
def one_round(monkeypatch):
    """One round of each rival, and the threads as they were."""
    every = _rounds.interleave
    monkeypatch.setattr(
        _rounds, "interleave", lambda device, calls, rounds: every(device, calls, 1)
    )
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def here():
    return {"instructions": script.vector_instructions()}


def test_a_forward_run_reports_every_form_over_ours(here):
    found = script.measure_forward(**here, width=32, tokens=300)
    assert set(found["seconds"]) == {"ours", "transformers", "chunks", "loop"}
    for name, ratio in found["over"].items():
        assert ratio == pytest.approx(found["seconds"][name] / found["seconds"]["ours"])
    assert 0 < found["tflops"] < found["gemm_tflops"]


def test_chunks_of_another_length_are_as_right_and_leave_the_usual_length(here):
    usual = script.in_torch.CHUNK
    found = script.measure_chunks(**here, width=32, tokens=300, chunk=8)
    assert set(found["over"]) == {"chunks"}
    assert usual == script.in_torch.CHUNK


def test_training_and_decoding_report_ratios(here):
    assert set(script.measure_training(**here, width=32, tokens=300)["over"]) == {
        "chunks", "transformers",
    }  # fmt: skip
    assert set(script.measure_decode(**here, heads=2, width=32)["over"]) == {"loop", "transformers"}


@pytest.mark.parametrize("study", ["forward", "chunks", "training"])
def test_there_is_no_ratio_when_the_kernel_is_wrong(here, monkeypatch, study):
    right = kernels.gated_delta_rule

    def wrong(*inputs, **options):
        out, state = right(*inputs, **options)
        return out * 1.01, state

    monkeypatch.setattr(kernels, "gated_delta_rule", wrong)
    more = {"chunk": 8} if study == "chunks" else {}
    with pytest.raises(SystemExit, match=r"FAILED: ours: relative error 1.0e-02"):
        getattr(script, f"measure_{study}")(**here, width=32, tokens=300, **more)


def test_a_machine_records_only_under_its_own_instructions():
    with pytest.raises(ValueError, match=r"this machine has .*, not an abacus"):
        script.measure_decode("an abacus", 2, 32)


@pytest.mark.parametrize("study", [study.name for study in script.studies("cpu")])
def test_what_ships_is_whole_and_of_a_known_study(study):
    known = {one.name: one for one in script.studies("cpu")}[study]
    entries = records.load(script.FOLDER, study)
    assert len(entries) >= len(known.settings)
    for entry in entries:
        assert entry["function"] == known.function
        assert set(entry["setting"]) == set(known.settings[0])
        assert entry["sources"] == list(known.sources)
