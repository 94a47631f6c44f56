"""From records of Ternary Mamba to the numbers on its page, on records made up for it."""

from __future__ import annotations

import pytest

from aiexplained.concepts import ternary_mamba as tm

BASE, STEPS = 300, 100


def training(
    seed, *, distilled=1.5, full=1.0, rounded=2.0, nothing=((0, 4.0), (200, 2.0), (400, 1.0))
):
    def arm(loss, curve=((0, 2.0), (STEPS, 1.5)), parameters=1000):
        return {"loss": loss, "curve": [list(p) for p in curve], "parameters": parameters}

    arms = {
        "continued in full": arm(full), "distilled": arm(distilled), "not distilled": arm(1.6),
        "ternary from nothing, all steps": arm(1.0, nothing),
        "full from nothing, all steps": arm(0.9),
        "small, full, all steps": arm(1.7, parameters=200),
        **{f"distilled, groups of {g}": arm(distilled + 0.1) for g in (16, 32, 64, "a row")},
    }  # fmt: skip
    return {
        "setting": {"seed": seed, "base_steps": BASE, "steps": STEPS},
        "result": {
            "checkpoint": 1.1,
            "rounded": dict.fromkeys(("16", "32", "64", "128", "row"), rounded),
            "arms": arms,
        },
    }


def rounding(seed, model, **fixes):
    return {
        "setting": {"seed": seed, "model": model},
        "result": {
            "full": 1.0, "bits": {"8": 1.0, "4": 1.1}, "fixes": {"absmean": 2.0, **fixes},
            "parts": {"x": 1.25}, "weights": 800,
        },
    }  # fmt: skip


def test_what_is_recovered_is_counted_from_the_rounded_to_the_continued_model():
    assert tm.recovered([training(0)]) == [50.0]
    assert tm.recovered([training(1, distilled=1.0), training(0, distilled=2.0)]) == [0.0, 100.0]


def test_steps_from_nothing_are_read_between_the_points_of_a_curve():
    """The distilled run ends at 1.5; from nothing that is half of the way from 200 to 400."""
    assert tm.steps_from_nothing([training(0)], count_checkpoint=False) == [3.0]
    assert tm.steps_from_nothing([training(0)], count_checkpoint=True) == [0.75]
    never = training(0, nothing=((0, 4.0), (400, 1.6)))
    with pytest.raises(ValueError, match=r"seed 0: from nothing never reaches 1\.500"):
        tm.steps_from_nothing([never], count_checkpoint=False)


def test_a_curve_that_starts_below_its_target_needs_no_step():
    assert tm.steps_to_reach([(0, 1.0), (10, 2.0)], 1.5) == 0
    assert tm.steps_to_reach([(0, 2.0), (10, 1.9)], 1.5) is None


def test_curves_from_the_checkpoint_move_when_its_steps_count():
    arms = {"distilled": "a", "ternary from nothing, all steps": "b"}
    entries = [training(0), training(1)]
    new, every = (tm.loss_curves(entries, arms, all_steps=all_) for all_ in (False, True))
    assert new["a"] == ([0, STEPS], [2.0, 1.5])
    assert every["a"] == ([BASE, BASE + STEPS], [2.0, 1.5])
    assert new["b"] == every["b"] == ([0, 200, 400], [4.0, 2.0, 1.0])


def test_losses_by_group_are_above_the_continued_model():
    found = tm.by_group([training(0)])
    assert list(found) == ["16", "32", "64", "128", "row"]
    assert found["128"] == {"rounded": [1.0], "trained": [0.5]}
    assert found["row"]["trained"] == [pytest.approx(0.6)]


def test_losses_are_told_in_words():
    told = tm.tell_losses([training(0), training(1, rounded=3.0)])
    assert "rounded 2.500, trained with the rounding 1.500" in told


def test_corrections_are_told_as_a_share_of_the_damage_of_plain_rounding():
    entries = [
        rounding(1, "mamba", a=1.5),
        rounding(0, "mamba", a=2.5),
        rounding(0, "transformer", a=1.0),
    ]
    assert tm.closed_by_fixes(entries, "mamba") == {"a": [-50.0, 50.0]}
    assert tm.closed_by_fixes(entries, "transformer") == {"a": [100.0]}
    assert tm.rounding_costs(entries, "mamba", "parts") == {"x": [0.25, 0.25]}
    with pytest.raises(ValueError, match="no record of 'rnn'"):
        tm.rounding_costs(entries, "rnn", "bits")


def test_zeros_are_averaged_over_seeds_and_codes_are_those_of_the_first():
    def run(seed, share, scale="learned", **more):
        return {
            "setting": {"seed": seed, "scale": scale, "weight_decay": 0.1},
            "result": {"zeros": [[0, 0.3], [25, share]], "loss": 1.0 + seed, **more},
        }

    entries = [
        run(1, 0.5), run(0, 0.4, codes=[["-0+"], ["00+"]]),
        run(0, 0.3, "recomputed", codes=[["-0+"], ["-0+"]]),
    ]  # fmt: skip
    (found,) = tm.zero_runs(entries, {("learned", 0.1): "drifts"})
    assert found["label"] == "drifts"
    assert found["zeros"] == [(0, 0.3), (25, pytest.approx(0.45))]
    assert (found["low"], found["high"]) == ([0.3, 0.4], [0.3, 0.5])
    assert found["codes"] == [[[-1, 0, 1]], [[0, 0, 1]]]
    assert found["final"] == [0.4, 0.5]
    assert found["losses"] == [1.0, 2.0]
    with pytest.raises(ValueError, match="a run of seed 0 with 'learned' and decay 3"):
        tm.zero_runs(entries, {("learned", 3.0): "drifts"})


def test_errors_are_compared_head_by_head():
    heads = [{"dt once": 1.0, "B once": 2.0}, {"dt once": 3.0, "B once": 2.0}]
    entry = {"setting": {"seed": 0}, "result": {"heads": heads}}
    assert tm.error_ratios([entry], "once") == [1.0]
    assert tm.error_ratios([entry], "once", middle=max) == [1.5]


def test_damage_is_compared_between_the_start_and_the_last_half():
    result = {"ends": [2, 4, 8], "full": [2.0, 1.5, 1.0], "rounded": [2.5, 2.5, 1.25]}
    assert tm.late_damage([{"setting": {"seed": 0}, "result": result}]) == [(0.5, 0.25)]


def test_bytes_count_codes_scales_and_what_stays_in_sixteen_bits():
    entries = [rounding(0, "mamba"), rounding(0, "transformer")]
    points = {p["name"]: p for p in tm.sizes_and_losses([training(0)], entries)}
    assert points["16 bits"]["bytes"] == 2 * 1000
    assert points["ternary, trained"]["bytes"] == (2 + 16 / 128) / 8 * 800 + 2 * 200
    assert points["4 bits"]["bytes"] == (4 + 16 / 32) / 8 * 800 + 2 * 200
    assert points["small, 16 bits"]["bytes"] == 2 * 200
    assert points["4 bits"]["losses"] == [pytest.approx(0.1)]
    assert points["ternary, trained"]["losses"] == [pytest.approx(1.5 - 1.0)]
    assert points["ternary, rounded"]["losses"] == [pytest.approx(2.0 - 1.1)]
    assert points["small, 16 bits"]["losses"] == [pytest.approx(1.7 - 0.9)]


def test_agreement_is_told_in_percent_by_seed():
    def run(seed, *agreement):
        return {"setting": {"seed": seed}, "result": {"steps": [0, 10], "agreement": agreement}}

    steps, shares = tm.agreement_curve([run(1, 0.25, 0.75), run(0, 0.125, 0.5)])
    assert steps == [0, 10]
    assert shares == [[12.5, 25.0], [50.0, 75.0]]
    alone = {"setting": {"bits": "int4", "part": "all"}, "result": {"agreement": 0.25}}
    assert tm.agreements([alone]) == {("int4", "all"): 25}
