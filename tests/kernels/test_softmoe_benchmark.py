"""The benchmark of SoftMoE's layer: no figure without agreement, and experts that are counted."""

from __future__ import annotations

import math

import pytest
import torch

from aiexplained.concepts.softmoe.layer import Experts
from benchmarks import _rounds
from benchmarks import softmoe as script

SIZE = {"n_tokens": 29, "d_model": 13, "d_ff": 17, "n_experts": 11}


@pytest.fixture(autouse=True)
def keep_threads(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)


def measure(**changes):
    return script.measure_time(
        **{"instructions": _rounds.vector_instructions(), "rounds": 3, **SIZE, **changes}
    )


def test_a_run_tells_the_experts_and_times_of_every_rule():
    found = measure()
    active = found["active_experts"]
    assert [active[f"hard {k}"] for k in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert active["all"] == SIZE["n_experts"]
    for k in (1, 1.5, 2):
        assert 1 <= active[f"soft {k:g}"] <= math.ceil(2 * k)
    for name in ("seconds", "router_seconds"):
        assert set(found[name]) == set(script.RULES)
        assert {len(times) for times in found[name].values()} == {3}
        assert all(time > 0 for times in found[name].values() for time in times)
    for rule, times in found["seconds"].items():
        middle, router = sorted(times)[1], sorted(found["router_seconds"][rule])[1]
        assert found["us_per_token"][rule] == pytest.approx(1e6 * middle / SIZE["n_tokens"])
        assert found["router_share"][rule] == pytest.approx(router / middle)


def test_scores_have_standard_deviation_one_whatever_the_sizes():
    for d_model in (5, 97):
        layer, x = script.make_layer(**{**SIZE, "d_model": d_model})
        assert float((x @ layer.weight.T).std()) == pytest.approx(1, rel=1e-5)


def test_a_layer_that_is_slightly_wrong_gives_no_figure(monkeypatch):
    right = Experts.run
    monkeypatch.setattr(Experts, "run", lambda self, e, x: 1.001 * right(self, e, x))
    with pytest.raises(SystemExit, match="FAILED"):
        measure()


def test_a_layer_that_leaves_an_expert_out_gives_no_figure(monkeypatch):
    right = Experts.run
    monkeypatch.setattr(Experts, "run", lambda self, e, x: (e != 7) * right(self, e, x))
    with pytest.raises(SystemExit, match="FAILED"):
        measure()


def test_it_measures_on_a_machine_like_this_one_only():
    (study,) = script.studies("cpu")
    assert study.resolve() is script.measure_time
    assert {s["instructions"] for s in study.settings} == {_rounds.vector_instructions()}
    assert script.studies("gpu") == ()
    with pytest.raises(ValueError, match="this machine"):
        measure(instructions="another")
