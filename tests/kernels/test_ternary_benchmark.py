"""The benchmark of ternary weights: no ratio without agreement; what it recorded is whole."""

from __future__ import annotations

from pathlib import Path

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
    monkeypatch.setattr(script, "vector_instructions", lambda: "AVX2")
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


def test_layers_of_torchao_are_measured_where_it_is_installed(here, monkeypatch):
    script.studies.cache_clear()
    monkeypatch.setattr(script, "has_torchao", lambda: True)
    assert [study.name for study in script.studies("cpu")] == ["product", "torchao"]
    script.studies.cache_clear()
    monkeypatch.setattr(script, "has_torchao", lambda: False)
    assert [study.name for study in script.studies("cpu")] == ["product"]
    script.studies.cache_clear()
    monkeypatch.setattr(script.importlib.metadata, "version", lambda name: f"{name} 1.2")
    monkeypatch.setattr(script, "torchao_rivals", lambda x, weight: {"2 bits": lambda: x + 1})
    found = script.measure_torchao(**here, rows=3)
    assert set(found["over"]) == {"ours native", "2 bits"}
    assert found["torchao"] == "torchao 1.2"


@pytest.mark.skipif(not script.has_torchao(), reason="torchao is not installed")
@pytest.mark.filterwarnings("default")
def test_layers_of_torchao_multiply_with_the_same_weight():
    weight, x = script.make_weight(64, 256), script.make_rows(3, 256)
    for name, call in script.torchao_rivals(x, weight).items():
        error = (call().float() - x @ weight.T).norm() / (x @ weight.T).norm()
        assert error < (1 if name == "2 bits" else 0.05)


@pytest.fixture
def no_gpu(monkeypatch):
    """The study of a GPU, carried out on the CPU."""
    product = kernels.ternary_linear
    asked = []

    def on_cpu(*inputs, backend, **options):
        asked.append(backend)
        return product(*inputs, **options)

    monkeypatch.setitem(script.PLACES, "gpu", "cpu")
    monkeypatch.setattr(script, "accelerator", lambda device: {"device": "a card"})
    monkeypatch.setattr(script, "compare", lambda device, *a, **k: script_compare("cpu", *a, **k))
    script_compare = _rounds.compare
    monkeypatch.setattr(kernels, "ternary_linear", on_cpu)
    return asked


@pytest.mark.parametrize("activations", ["int8", "native"])
def test_a_run_on_a_gpu_reports_ours_over_bfloat16(no_gpu, activations):
    found = script.measure_gpu(activations, rows=3, n_out=64, n_in=256)
    assert set(found["over"]) == {"bfloat16"}
    assert found["device"] == "a card"
    assert found["gb_a_s"] == found["packed_bytes"] / found["seconds"]["ours"] / 1e9
    assert set(no_gpu) == {"triton"}


def test_there_is_no_ratio_on_a_gpu_when_the_kernel_is_wrong(no_gpu, monkeypatch):
    right = kernels.ternary_linear
    monkeypatch.setattr(kernels, "ternary_linear", lambda *a, **k: right(*a, **k) * 1.1)
    with pytest.raises(SystemExit, match="FAILED: relative error"):
        script.measure_gpu("native", rows=3, n_out=64, n_in=256)


def test_a_gpu_is_asked_for_layers_as_wide_as_a_models():
    (study,) = script.studies("gpu")
    assert study.name == "gpu"
    assert study.resolve() is script.measure_gpu
    assert {setting["rows"] for setting in study.settings} == {1, 4, 16, 64}
    for setting in study.settings:
        assert setting["n_out"] >= 8192
        assert setting["n_in"] in (4096, 8192)
    assert len({study.file(Path(), setting) for setting in study.settings}) == 24
    assert all((Path(__file__).parents[2] / source).exists() for source in study.sources)


def test_what_ships_is_whole_and_of_a_known_study():
    known = {study.name: study for study in script.studies("cpu")}["product"]
    entries = records.load(script.FOLDER, known.name)
    assert len(entries) >= len(known.settings)
    for entry in entries:
        assert entry["function"] == known.function
        assert set(entry["setting"]) == set(known.settings[0])
        assert set(entry["sources"]) <= set(known.sources)  # files were added since some were made
