"""The benchmark of SubQ's page: what it times is right, and what it counts is what is read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import aiexplained_kernels as kernels
from aiexplained.concepts import subq
from aiexplained.nn.block_list import block_list_mask
from benchmarks import subq as script
from benchmarks.block_list_attention import instructions_of


@pytest.fixture(autouse=True)
def keep_threads() -> Iterator[None]:
    """The benchmark runs with one; tests after it as before."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_run_reports_times_and_their_ratios() -> None:
    found = script.measure_time(instructions_of("cpu"), n_tokens=1024, budget=256)
    assert set(found["seconds"]) == {"dense", "ours", "choose", "choose flat"}
    assert all(seconds > 0 for seconds in found["seconds"].values())
    assert found["work"] == pytest.approx(1024 * 1025 / 2 / found["pairs"])
    assert found["efficiency"] == pytest.approx(found["speedup"] / found["work"])
    assert found["speedup"] == found["seconds"]["dense"] / found["seconds"]["ours"]


def test_pairs_are_those_that_the_lists_let_through() -> None:
    query, key = torch.randn(2, 1, 1, 1024, 16).unbind()
    lists = script._choose(query, key, subq.make_selector("block means", budget=256))
    assert script._pairs(lists, 1024) == int(block_list_mask(*lists, 1024, 1024).sum())
    kernels.check_block_list(*lists, 1024, 1024)


def test_this_machine_is_named_in_what_would_be_recorded() -> None:
    (study,) = script.studies("cpu")
    assert {s["instructions"] for s in study.settings} == {instructions_of("cpu")}
    assert script.studies("gpu") == ()
    with pytest.raises(ValueError, match="this machine"):
        script.measure_time("another", n_tokens=1024, budget=256)
