"""Ternary Mamba: the size account, held to modules that are built and to what the paper prints."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from aiexplained.concepts.ternary_mamba import account
from aiexplained.concepts.ternary_mamba.account import SHAPES, Mamba2Shape

ODD = Mamba2Shape(
    d_model=35, n_layers=3, d_state=11, head_dim=7, expand=2, n_groups=2, d_conv=5, vocab_size=13
)

shapes = st.builds(
    lambda heads, **sizes: Mamba2Shape(d_model=7 * heads, head_dim=7, **sizes),
    heads=st.integers(1, 40), n_layers=st.integers(1, 5), d_state=st.integers(1, 40),
    n_groups=st.integers(1, 3), vocab_size=st.integers(1, 300),
)  # fmt: skip


def build(shape: Mamba2Shape) -> nn.ModuleDict:
    """A block's modules and what stands once, as layers that count their own weights."""
    d, inner, heads = shape.d_model, shape.expand * shape.d_model, 10
    channels = inner + 2 * shape.n_groups * shape.d_state
    return nn.ModuleDict(
        {
            "in_proj": nn.Linear(d, inner + channels + heads, bias=False),
            "out_proj": nn.Linear(inner, d, bias=False),
            "conv": nn.Conv1d(channels, channels, shape.d_conv, groups=channels),
            "norms": nn.ModuleList([nn.RMSNorm(d), nn.RMSNorm(inner)]),
            "heads": nn.ParameterList([nn.Parameter(nn.Linear(1, heads).bias) for _ in range(3)]),
        }
    )


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parts_add_up_to_the_modules_of_a_model():
    block, parts = build(ODD), ODD.parts()
    once = 13 * 35 + 35
    assert ODD.n_heads == 10
    assert ODD.total == 3 * count(block) + once == sum(parts.values())
    assert sum(n for name, n in parts.items() if "proj" in name) == ODD.projected
    assert ODD.projected == 3 * (count(block["in_proj"]) + count(block["out_proj"]))
    assert parts["conv weight"] + parts["conv bias"] == 3 * count(block["conv"])
    assert ODD.projections == tuple(
        (p.out_features, p.in_features) for p in (block["in_proj"], block["out_proj"])
    )


def test_the_comparison_would_catch_a_second_set_of_states():
    one = Mamba2Shape(**{**vars(ODD), "n_groups": 1})
    assert one.total != 3 * count(build(ODD)) + 13 * 35 + 35


def test_public_models_have_the_weights_that_their_names_say():
    billions = {name: shape.total / 1e9 for name, shape in SHAPES.items()}
    named = {"130M": 0.13, "370M": 0.37, "780M": 0.78, "1.3B": 1.3, "2.7B": 2.7}
    assert billions == pytest.approx(named, rel=0.035)
    assert SHAPES["1.3B"].total == 1_343_757_312
    assert SHAPES["1.3B"].in_rows == {"z": 4096, "x": 4096, "B": 128, "C": 128, "dt": 64}


def test_the_headline_follows_from_the_shape():
    found = account.measure_headline()
    assert round(found["ternary_mb"]) == account.PAPER_TERNARY_MB
    assert round(found["ratio"], 2) == account.PAPER_RATIO
    assert int(found["full_mb"]) == account.PAPER_FULL_MB  # 2,687.51
    unpadded = Mamba2Shape(2048, 48, vocab_size=50_277)
    assert round(sum(account.full_size(unpadded).values()) / 1e6) == account.PAPER_FULL_MB
    assert round(found["tied_ratio"], 1) == 5.0
    assert found["bits"] == 2.125


def test_with_scales_of_16_bits_one_account_fits_what_is_printed():
    (only,) = account.fits(744)
    assert (only.group_size, only.tied_head, only.code_bits) == (128, False, 2.0)
    others = {a.group_size: round(a.size_mb) for a in account.accounts(SHAPES["1.3B"])
              if not a.tied_head and a.code_bits == 2}  # fmt: skip
    assert others == {16: 879, 32: 802, 64: 763, 128: 744, 256: 734, 512: 729}
    assert account.fits(700) == []
    assert [(a.group_size, a.tied_head) for a in account.fits(538)] == [(128, True)]


def test_bytes_cannot_tell_wide_scales_from_large_groups():
    found = account.fits(744, scale_bytes=(1, 2, 4))
    assert [(a.group_size, a.scale_bytes) for a in found] == [(64, 1), (128, 2), (256, 4)]
    assert not any(a.tied_head for a in found)


def test_the_last_group_of_a_row_has_a_scale_of_its_own():
    terms = account.size_terms(ODD, group_size=32, tied_head=False, scale_bytes=3, code_bits=2)
    rows_in, rows_out = 70 + 70 + 2 * 22 + 10, 35
    assert terms["scales"] == 3 * 3 * (rows_in * 2 + rows_out * 3)  # rows of 35 and of 70
    assert terms["codes"] * 4 == ODD.projected
    assert terms["head"] == terms["embedding"] == 2 * 13 * 35


@given(shapes, st.integers(1, 400), st.booleans())
def test_terms_hold_between_bounds_of_the_rows(shape, group_size, tied_head):
    terms = account.size_terms(shape, group_size=group_size, tied_head=tied_head)
    full, scales = account.full_size(shape), terms["scales"] / 2
    assert full["projections"] == 8 * terms["codes"]
    assert sum(full.values()) == 2 * shape.total
    assert terms["other"] == full["other"] > 0
    rows = shape.n_layers * sum(n for n, _ in shape.projections)
    assert shape.projected / group_size <= scales < shape.projected / group_size + rows
    assert (terms["head"] == 0) == tied_head
    bits = account.bits_per_weight(shape, group_size=group_size)
    assert bits == pytest.approx(2 + 16 * scales / shape.projected)


def test_more_codes_in_a_byte_come_nearer_to_the_information_in_one():
    bits = account.bits_per_weight(SHAPES["1.3B"], group_size=128, code_bits=1.6)
    assert math.log2(3) + 16 / 128 < bits < 2


def test_the_figure_s_numbers_are_those_of_the_accounts():
    rows = account.measure_sizes(["370M", "1.3B"], (64, 128))
    assert len(rows) == 2 * 2 * 2
    sizes = {
        (r["group_size"], r["tied_head"]): sum(r["ternary"].values()) / 1e6
        for r in rows
        if r["size"] == "1.3B"
    }
    expected = account.accounts(SHAPES["1.3B"], group_sizes=(64, 128), code_bits=(2,))
    assert sizes == {(a.group_size, a.tied_head): a.size_mb for a in expected}
    assert rows[0]["full"] == account.full_size(SHAPES["370M"])
    assert {r["bits"] for r in rows} == {2.25, 2.125}
    with pytest.raises(ValueError, match="got \\['7B'\\]"):
        account.measure_sizes(["7B"])


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"d_model": 0, "n_layers": 1}, "'d_model': 0"),
        ({"d_model": 64, "n_layers": -2}, "'n_layers': -2"),
        ({"d_model": 40, "n_layers": 1}, "= 80, got 64"),
    ],
)
def test_shapes_that_cannot_be_are_refused(sizes, said):
    with pytest.raises(ValueError, match=said):
        Mamba2Shape(**sizes)


def test_costs_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="got 0, 2 and 2"):
        account.size_terms(ODD, group_size=0, tied_head=True)
    with pytest.raises(ValueError, match="got 1, 2 and -1"):
        account.bits_per_weight(ODD, group_size=1, code_bits=-1)
    with pytest.raises(ValueError, match="got 0"):
        account.fits(0)
