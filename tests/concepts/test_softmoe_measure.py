"""SoftMoE's experiments, run small, and what gradients tell a router."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from aiexplained.concepts.softmoe import measure
from aiexplained.concepts.softmoe.gradients import (
    ROUTERS,
    measure_curve,
    measure_gradients,
    measure_nudge,
)
from aiexplained.concepts.softmoe.lapsum import laplace_cdf, soft_top_k
from aiexplained.concepts.softmoe.measure import (
    TEXT_RULES,
    TOKEN_RULES,
    correlation,
    measure_number,
    measure_text,
    measure_tokens,
)
from aiexplained.concepts.softmoe.model import Mixtures
from aiexplained.concepts.softmoe.routing import CUT, HardTopK, ToldNumber
from aiexplained.concepts.softmoe.tokens import make_tokens

SHORT = {"steps": 23, "lr": 3e-3, "seed": 0}
TEXT = {"n_layers": 2, "d_model": 24, "steps": 7, "lr": 3e-3, "seed": 0}
N_EXPERTS, N_LAYERS = 8, 2
ANSWER_ZERO = make_tokens(4099, torch.Generator().manual_seed(1)).targets.square().mean()
"""The error of a model that always answers zero."""


@pytest.fixture(autouse=True, scope="module")
def small_tests():
    """Fewer fresh tokens and windows than what is recorded; the text is read once."""
    patch = pytest.MonkeyPatch()
    for name in ("load_corpus", "encode_characters"):
        patch.setattr(measure, name, cache(getattr(measure, name)))
    patch.setattr(measure, "TEST_TOKENS", 4099)
    patch.setattr(measure, "HELD_OUT_WINDOWS", 41)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def runs(small_tests):
    return {name: measure_tokens(rule=name, **SHORT) for name in TOKEN_RULES}


@pytest.fixture(scope="module")
def text():
    return measure_text(rule="learned budgets", **TEXT)


# Tokens


def test_every_rule_is_measured_by_the_same_numbers(runs):
    for name, run in runs.items():
        assert set(run) == {
            "loss", "train_experts", "experts", "by_need", "loss_by_need", "correlation",
            "budgets", "busiest", "idle",
        }  # fmt: skip
        assert 0 < run["loss"] < 2 * ANSWER_ZERO, name
        assert len(run["by_need"]) == len(run["loss_by_need"]) == 3
        assert 1 / N_EXPERTS <= run["busiest"] <= 1
        assert 0 <= run["idle"] <= 1 - 1 / N_EXPERTS


def test_numbers_by_need_average_to_the_numbers_of_all_tokens(runs):
    for name, run in runs.items():
        for whole, parts in (("experts", "by_need"), ("loss", "loss_by_need")):
            spread = max(run[parts]) - min(run[parts])
            # Shares of the needs are a third, give or take four standard deviations.
            allowed = 2 * spread * 4 * math.sqrt(2 / 9 / 4099) + 1e-5
            assert run[whole] == pytest.approx(np.mean(run[parts]), abs=allowed), name


def test_rules_that_fix_how_many_experts_run_run_as_many(runs):
    fixed = {f"hard, {k}": k for k in (1, 2, 3, 4)} | {"always two": 2, "all": N_EXPERTS}
    for name, k in fixed.items():
        assert runs[name]["train_experts"] == runs[name]["experts"] == k
        assert runs[name]["by_need"] == [k] * 3
        assert runs[name]["correlation"] is None
    assert runs["all"]["busiest"] == pytest.approx(1 / N_EXPERTS)


def test_the_told_model_runs_what_is_needed(runs):
    assert runs["told"]["by_need"] == [1, 2, 3]
    assert runs["told"]["correlation"] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    "name", [name for name, rule in TOKEN_RULES.items() if rule.kind == "soft"]
)
def test_soft_rules_run_at_least_one_expert_and_no_more_than_the_cut_allows(runs, name):
    rule, run = TOKEN_RULES[name], runs[name]
    budget = N_LAYERS * (rule.k - 1) + 1 if rule.learned else rule.k
    for experts in (run["train_experts"], run["experts"], *run["by_need"]):
        assert 1 <= experts <= math.ceil(rule.expansion * budget)


def test_only_learned_budgets_are_told_and_they_share_what_there_is(runs):
    found = {name: run["budgets"] for name, run in runs.items() if run["budgets"]}
    assert list(found) == ["learned budgets"]
    (budgets,) = found.values()
    assert sum(budgets) == pytest.approx(N_LAYERS * TOKEN_RULES["learned budgets"].k)
    assert min(budgets) >= 1
    assert budgets[0] != budgets[1]


@pytest.mark.parametrize("name", ["soft, 1.5", "learned budgets", "relu"])
def test_a_run_follows_its_seed(runs, name):
    assert measure_tokens(rule=name, **SHORT) == runs[name]
    assert measure_tokens(rule=name, **{**SHORT, "seed": 1})["loss"] != runs[name]["loss"]


def test_the_weight_of_the_balance_loss_may_be_another_than_the_rules(runs):
    same = measure_tokens(rule="hard, 2", balance=TOKEN_RULES["hard, 2"].balance, **SHORT)
    assert same == runs["hard, 2"]
    for seed in range(3):
        free, forced = (
            measure_tokens(rule="hard, 2", balance=weight, steps=61, lr=3e-3, seed=seed)["busiest"]
            for weight in (0.0, 1.0)
        )
        assert forced < free


def test_schedules_run_from_before_the_first_step_to_after_the_last(monkeypatch):
    steer, seen = Mixtures.steer, []

    def spy(self, step, steps):
        steer(self, step, steps)
        seen.append((step, steps, list(self)[1].router.temperature))

    monkeypatch.setattr(Mixtures, "steer", spy)
    measure_tokens(rule="as in the source", **SHORT)
    assert [step for step, _, _ in seen] == list(range(24))
    assert {steps for _, steps, _ in seen} == {23}
    assert seen[0][2] == 5.0
    assert seen[-1][2] == 1.0


def test_errors_are_measured_on_tokens_that_no_run_was_trained_on(monkeypatch):
    seeds = []

    def spy(n_tokens, generator):
        seeds.append(generator.initial_seed())
        return make_tokens(n_tokens, generator)

    monkeypatch.setattr(measure, "make_tokens", spy)
    for seed in range(2):
        measure_tokens(rule="hard, 2", **{**SHORT, "seed": seed})
    assert len(set(seeds)) == 2
    assert min(seeds) >= 1_000_000


@pytest.mark.parametrize("call", [measure_tokens, measure_text])
def test_an_unknown_rule_is_named(call):
    options = SHORT if call is measure_tokens else TEXT
    with pytest.raises(ValueError, match=r"one of hard, 1, .*, as in the source.*; got 'soft'"):
        call(rule="soft", **options)


def test_the_task_rewards_unequal_numbers_of_experts():
    for seed in range(3):
        told, hard = (
            measure_tokens(rule=rule, steps=101, lr=3e-3, seed=seed) for rule in ("told", "hard, 2")
        )
        assert told["experts"] == pytest.approx(2, abs=4 * math.sqrt(2 / 3 / 4099))
        assert hard["experts"] == 2
        assert told["loss"] < hard["loss"] < ANSWER_ZERO


def test_the_number_can_be_told_without_the_choice():
    for seed in range(2):
        told = measure_number(steps=101, lr=3e-3, seed=seed)
        assert told["experts"] == pytest.approx(2, abs=4 * math.sqrt(2 / 3 / 4099))
        assert told["loss"] > measure_tokens(rule="told", steps=101, lr=3e-3, seed=seed)["loss"]
    assert measure_number(steps=101, lr=3e-3, seed=1) == told


def test_each_token_runs_the_number_that_it_is_told():
    logits = torch.tensor([[0.1, 0.3, 0.2], [1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    weights = ToldNumber(torch.tensor([1, 3, 2]))(logits)
    assert weights.count_nonzero(dim=-1).tolist() == [1, 3, 2]
    assert torch.equal(weights[0], logits[0].softmax(-1) * torch.tensor([0.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match=r"ToldNumber.counts must be \[N\] .* got \(2,\)"):
        ToldNumber(torch.tensor([1, 2]))(logits)


# Text


def test_text_is_measured_and_the_budgets_leave_a_trace(text):
    assert set(text) == {
        "loss", "train_experts", "experts", "by_layer", "correlation", "by_kind", "parameters",
        "budgets", "trace", "trace_steps", "busiest", "idle",
    }  # fmt: skip
    assert text["trace_steps"] == list(range(8))
    assert len(text["trace"]) == 8
    assert text["trace"][0] == [TEXT_RULES["learned budgets"].k] * 2
    assert text["trace"][-1] == text["budgets"]
    assert text["trace"][1] != text["trace"][-1]
    assert all(sum(budgets) == pytest.approx(3) for budgets in text["trace"])
    assert text["experts"] == pytest.approx(np.mean(text["by_layer"]), rel=1e-5)
    assert min(text["by_kind"].values()) <= text["experts"] <= max(text["by_kind"].values())


def test_a_trace_has_no_more_points_than_are_drawn(text):
    run = measure_text(rule="learned budgets", **{**TEXT, "steps": 53})
    assert len(run["trace"]) == len(run["trace_steps"]) == measure.TRACE_POINTS + 1
    assert run["trace_steps"][0] == 0
    assert run["trace_steps"][-1] == 53
    assert run["loss"] < text["loss"] < math.log(128)


def test_a_run_on_text_follows_its_seed_and_its_rule(text):
    assert measure_text(rule="learned budgets", **TEXT) == text
    hard = measure_text(rule="hard, 2", **{**TEXT, "seed": 1})
    assert hard["train_experts"] == hard["experts"] == 2
    assert hard["budgets"] is None
    assert hard["parameters"] == text["parameters"] - N_LAYERS
    assert "trace" not in hard


def test_a_character_is_of_one_kind():
    alphabet = " ,abC"
    lines = ["ab, C", "aC ,b"]
    ids = torch.tensor([[alphabet.index(c) for c in line] for line in lines])
    kinds = measure._kinds(ids, alphabet)
    assert torch.equal(sum(mask.int() for mask in kinds.values()), torch.ones(10, dtype=torch.int))
    names = [next(name for name in kinds if kinds[name][i]) for i in range(10)]
    # A window begins without context: a letter there counts as a later one.
    assert names[:5] == ["later letter", "later letter", "other", "space", "first letter"]
    assert names[5:] == ["later letter", "later letter", "space", "other", "first letter"]


def test_correlation_is_pearsons_or_none():
    x, y = torch.randn(2, 101, generator=torch.Generator().manual_seed(0))
    assert correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    assert correlation(x, 3 - 2 * x) == pytest.approx(-1)
    assert correlation(x, torch.ones(101)) is None
    assert correlation(torch.ones(101), y) is None


# Gradients


@pytest.fixture(scope="module")
def told():
    return [measure_gradients(seed=seed) for seed in range(3)]


def test_a_softmax_over_the_chosen_tells_the_others_nothing(told):
    for found in told:
        assert found["choose, then softmax"]["outside"] < 1e-5
        assert found["choose, then softmax"]["knows"] == 0


@pytest.mark.parametrize("name", ["softmax, then choose", "soft, cut to two"])
def test_routers_that_run_two_tell_the_others_something_but_not_their_worth(told, name):
    for found in told:
        assert found[name]["outside"] > 1
        # Worths of experts that did not run are independent of what is told: four deviations.
        assert abs(found[name]["knows"]) < 4 / math.sqrt(2048)


def test_experts_that_run_a_little_are_told_their_worth(told):
    for found in told:
        assert set(found) == set(ROUTERS)
        assert found["soft, not cut"]["knows"] > 0.5


def test_what_gradients_tell_follows_the_seed():
    assert measure_gradients(seed=5, n_tokens=97) == measure_gradients(seed=5, n_tokens=97)
    assert measure_gradients(seed=5, n_tokens=97) != measure_gradients(seed=6, n_tokens=97)


SCORES = [1.2, -0.6, 0.4, 0.5, -2.1, 0.9, 0.1]


@pytest.mark.parametrize(
    ("k", "n_hard"), [(0.3, 1), (1.0, 1), (1.49, 1), (1.5, 2), (2.5, 3), (3.4, 3)]
)
def test_the_curve_is_soft_top_k_and_its_shares_are_finite_differences(k, n_hard):
    found = measure_curve(SCORES, k=k, temperature=0.4)
    r, h = torch.tensor(SCORES, dtype=torch.float64), 1e-6
    heights = laplace_cdf((r - found["threshold"]) / 0.4)
    assert found["weights"] == pytest.approx(heights.tolist(), abs=1e-14)
    assert sum(found["weights"]) == pytest.approx(k)
    low, high = (soft_top_k(r, k + d, temperature=0.4) for d in (-h, h))
    # Rounding divided by the step, and the step's square.
    assert found["shares"] == pytest.approx(((high - low) / (2 * h)).tolist(), abs=1e-9)
    assert sum(found["shares"]) == pytest.approx(1)
    assert found["hard"] == HardTopK(n_hard)(r[None])[0].tolist()


def test_the_curve_keeps_what_reaches_the_cut():
    for cut in (0.0, 1.0, CUT):
        found = measure_curve(SCORES, k=2.0, temperature=0.4, cut=cut)
        ordered = sorted(found["weights"], reverse=True)
        low = max(cut * 2 / 7, ordered[3])
        assert found["kept"] == [w if w >= low else 0.0 for w in found["weights"]]
    assert found == measure_curve(SCORES, k=2.0, temperature=0.4)


@pytest.mark.parametrize(("k", "near", "last"), [(1, 5, 0), (2, 3, 5), (3, 2, 3), (6, 4, 1)])
def test_nudging_a_near_miss_moves_both_soft_weights_and_not_its_own_hard_one(k, near, last):
    found, h = measure_nudge(SCORES, k=k, temperature=0.4), 1e-6

    def weights(nudge):
        scores = [s + nudge * (i == near) for i, s in enumerate(SCORES)]
        r = torch.tensor([scores], dtype=torch.float64)
        return {"hard": HardTopK(k)(r)[0], "soft": soft_top_k(r, k, temperature=0.4)[0]}

    now, low, high = weights(0), weights(-h), weights(h)
    for name in ("hard", "soft"):
        assert found[name] == pytest.approx(
            (now[name][near].item(), now[name][last].item()), abs=1e-14
        )
        slope = (high[name] - low[name]) / (2 * h)
        expected = (slope[near].item(), slope[last].item())
        assert found[f"{name}_slope"] == pytest.approx(expected, abs=1e-9)
    assert found["hard"][0] == found["hard_slope"][0] == 0
    assert found["soft_slope"][0] > 0 > found["soft_slope"][1]
    # What no slope foretells: once past the last chosen, the near miss takes its place.
    gap = SCORES[last] - SCORES[near]
    assert weights(gap - h)["hard"][near] == 0 < weights(gap - h)["hard"][last]
    assert weights(gap + h)["hard"][last] == 0 < weights(gap + h)["hard"][near]


@pytest.mark.parametrize(
    ("scores", "k", "message"),
    [
        ([1.0, 0.0], 2, "k must be from 1 to 1, got 2"),
        ([1.0, 0.0], 0, "k must be from 1 to 1, got 0"),
        ([1.0, 0.5, 0.5], 2, "must score less than the last chosen, 0.5"),
    ],
)
def test_a_near_miss_must_be_one(scores, k, message):
    with pytest.raises(ValueError, match=message):
        measure_nudge(scores, k=k, temperature=1.0)
