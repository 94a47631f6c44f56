"""The benchmark of block lists prints a ratio only after agreement; what it recorded is whole."""

from __future__ import annotations

import pytest
import torch
from block_list_attention import studies

import aiexplained_kernels as kernels
from aiexplained import records

# Torch's compiler imports something of its own that it calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")


@pytest.fixture
def benchmark(monkeypatch):
    """The script with one round of each rival."""
    import block_list_attention as script

    once = script.interleave
    monkeypatch.setattr(script, "interleave", lambda device, calls, rounds: once(device, calls, 1))
    threads = torch.get_num_threads()
    yield script
    torch.set_num_threads(threads)
    torch.compiler.reset()


@pytest.fixture
def on_this_machine(benchmark):
    return {"device": "cpu", "instructions": benchmark.instructions_of("cpu")}


def test_a_forward_run_reports_consistent_ratios(benchmark, on_this_machine):
    found = benchmark.measure_forward(**on_this_machine, dtype="float32", head_dim=64, tokens=2048)
    assert found["work_ratio"] == pytest.approx(2048 * 2049 / 2 / (found_pairs(2048)))
    assert found["efficiency"] == pytest.approx(found["over_dense"] / found["work_ratio"])
    assert found["over_dense"] == pytest.approx(found["dense_s"] / found["ours_s"])
    assert found["ours_tflops"] > 0


def found_pairs(tokens: int) -> int:
    """Pairs on lists of the own block and up to 16 earlier ones."""
    return sum(min(block + 1, 17) for block in range(tokens // 64)) * 64 * 64


def test_a_paged_run_reports_a_ratio(benchmark, on_this_machine):
    found = benchmark.measure_paged(**on_this_machine, head_dim=64, length=256, page_size=16)
    assert found["ratio"] == pytest.approx(found["gather_s"] / found["ours_s"])


def test_there_is_no_ratio_when_the_kernel_is_wrong(benchmark, on_this_machine, monkeypatch):
    def wrong(*inputs, **options):
        out, logsumexp = right(*inputs, **options)
        return out * 1.01, logsumexp

    right = kernels.block_list_attention
    monkeypatch.setattr(kernels, "block_list_attention", wrong)
    with pytest.raises(SystemExit, match=r"FAILED: relative error 1.0e-02.*no ratio"):
        benchmark.measure_forward(**on_this_machine, dtype="float32", head_dim=64, tokens=2048)


def test_a_machine_records_only_under_its_own_instructions(benchmark):
    with pytest.raises(ValueError, match=r"this machine runs on .*, not on a quantum computer"):
        benchmark.measure_million("cpu", "a quantum computer")


@pytest.mark.parametrize("study", ["forward", "paged", "million", "threads"])
def test_what_ships_is_whole_and_of_a_known_study(study):
    known = {one.name: one for one in (*studies("cpu"), *studies("gpu"))}[study]
    for entry in records.load("block-list-attention", study):
        assert entry["function"] == known.function
        assert set(entry["setting"]) == set(known.settings[0])
        assert entry["sources"]
