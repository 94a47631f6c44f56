"""The benchmark of a packed Mamba-2: no figure without agreement, and files that are counted."""

from __future__ import annotations

import pytest
import torch

from aiexplained.concepts import ternary_mamba as tm
from benchmarks import _rounds
from benchmarks import ternary_mamba as script

TINY = tm.Mamba2Shape(96, 3, d_state=16, head_dim=32, vocab_size=101)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(tm.SHAPES, "tiny", TINY)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)


def test_a_run_tells_speeds_and_bytes():
    found = script.measure_decode(
        instructions=_rounds.vector_instructions(), shape="tiny", rounds=2
    )
    assert {len(v) for v in found["tokens_per_s"].values()} == {2}
    assert all(v > 0 for values in found["tokens_per_s"].values() for v in values)
    assert set(found["shares"]) == {"projections", "head"}
    assert all(0 < share < 1 for share in found["shares"].values())
    account = sum(tm.size_terms(TINY, group_size=128, tied_head=True).values())
    # Rows are filled up to runs of 128 weights in 32 bytes: of 96 weights, and of 192.
    padded = 3 * (sum(TINY.in_rows.values()) * (32 - 24) + TINY.d_model * (64 - 48))
    header = found["bytes"]["bf16"] - sum(tm.full_size(TINY).values())
    assert 0 < header < 8000
    assert found["bytes"]["ternary"] == pytest.approx(account + padded + header, rel=0.01)


def test_a_wrong_kernel_gives_no_figure(monkeypatch):
    def wrong(x, packed, scale, **options):
        return 1.01 * script.kernels.ternary_linear(x, packed, scale, **options)

    monkeypatch.setitem(script.OPERATORS, "multiply", wrong)
    with pytest.raises(SystemExit, match="FAILED"):
        script._check(script._make("tiny"))


def test_it_measures_what_the_page_shows_on_a_machine_like_this_one():
    (study,) = script.studies("cpu")
    assert study.name == "decode"
    assert {s["instructions"] for s in study.settings} == {_rounds.vector_instructions()}
    assert {s["shape"] for s in study.settings} <= set(tm.SHAPES)
    assert script.studies("gpu") == ()
