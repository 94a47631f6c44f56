"""The benchmark of ternary weights: no ratio without agreement; what it recorded is whole."""

from __future__ import annotations

import pytest
import torch

import aiexplained_kernels as kernels
from aiexplained import records
from benchmarks import _rounds
from benchmarks import ternary_linear as script


@pytest.fixture(autouse=True)
def one_round(monkeypatch):
    """One round of each rival, a short reading of memory, and the threads as they were."""
    once = _rounds.interleave
    monkeypatch.setattr(_rounds, "interleave", lambda device, calls, rounds: once(device, calls, 1))
    monkeypatch.setattr(script, "bandwidth", lambda: 10.0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def here():
    return {"instructions": script.vector_instructions(), "n_out": 64, "n_in": 256}


@pytest.mark.parametrize("activations", ["int8", "native"])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_run_reports_every_form_over_ours(here, activations, rows):
    found = script.measure_product(**here, activations=activations, rows=rows)
    forms = {"float32", "bfloat16", "int8", "int4"}
    forms |= {"dynamic int8"} if activations == "int8" else set()
    assert set(found["over"]) == forms
    for name, ratio in found["over"].items():
        assert ratio == pytest.approx(found["seconds"][name] / found["seconds"]["ours"])
    groups = 1 if activations == "int8" else 2
    assert found["packed_bytes"] == 64 * (256 / 4 + 4 * groups)


def test_products_in_bfloat16_that_take_seconds_are_left_out(here, monkeypatch):
    monkeypatch.setattr(script, "MOST_HALF", 64 * 256)
    found = script.measure_product(**here, activations="native", rows=2)
    assert "bfloat16" not in found["over"]


@pytest.mark.parametrize("activations", ["int8", "native"])
def test_there_is_no_ratio_when_the_kernel_is_wrong(here, monkeypatch, activations):
    right = kernels.ternary_linear
    monkeypatch.setattr(kernels, "ternary_linear", lambda *a, **k: right(*a, **k) * 1.01)
    with pytest.raises(SystemExit, match=r"FAILED: relative error 1.0e-02"):
        script.measure_product(**here, activations=activations, rows=3)


def test_the_bandwidth_is_that_of_this_machine(monkeypatch):
    monkeypatch.undo()
    assert 0.5 < script.bandwidth() < 1000


def test_what_ships_is_whole_and_of_a_known_study():
    (known,) = script.studies("cpu")
    entries = records.load(script.FOLDER, known.name)
    assert len(entries) >= len(known.settings)
    for entry in entries:
        assert entry["function"] == known.function
        assert set(entry["setting"]) == set(known.settings[0])
        assert entry["sources"] == list(known.sources)
