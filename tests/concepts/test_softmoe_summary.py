"""What the page makes of recorded runs."""

import pytest

from aiexplained.concepts import softmoe
from aiexplained.records import load

LOSSES = {
    "hard, 1": 8.0,
    "hard, 2": 4.0,
    "hard, 4": 2.0,
    "hard, 4, renormalized": 3.0,
    "hard, 7": 1.0,
}
EXPERTS = {"hard, 1": 1, "hard, 2": 2, "hard, 4": 4, "hard, 4, renormalized": 4, "hard, 7": 7}


def make_entry(rule, seed, loss, experts, train_experts=None):
    result = {"loss": loss, "experts": experts, "train_experts": train_experts or experts}
    return {"setting": {"rule": rule, "seed": seed}, "result": result}


def make_entries(**soft):
    hard = [
        make_entry(rule, seed, loss + seed, EXPERTS[rule])
        for rule, loss in LOSSES.items()
        for seed in (3, 0)
    ]
    return hard + [make_entry("soft, 2", seed, **soft) for seed in (3, 0) if soft]


def test_numbers_come_by_rule_in_the_order_of_the_seeds():
    assert softmoe.by_rule(make_entries(), "loss")["hard, 2"] == [4, 7]


def test_of_two_orders_the_better_one_is_the_baseline():
    assert softmoe.hard_rules(make_entries()) == ["hard, 1", "hard, 2", "hard, 4", "hard, 7"]
    worse = [e for e in make_entries() if e["setting"]["rule"] != "hard, 4"]
    assert softmoe.hard_rules(worse)[2] == "hard, 4, renormalized"


def test_curves_are_those_of_one_seed():
    assert softmoe.hard_curve(make_entries(), 3) == [(1, 11), (2, 7), (4, 5), (7, 4)]
    with pytest.raises(ValueError, match="seed 5 has 0 runs of hard top-k"):
        softmoe.hard_curve(make_entries(), 5)


@pytest.mark.parametrize(("loss", "needed"), [(4, 2), (6, 1.5), (3, 3), (1, 7), (9, 1), (8, 1)])
def test_experts_needed_lie_on_the_curve_and_start_at_its_first_point(loss, needed):
    assert softmoe.experts_needed([(1, 8), (2, 4), (4, 2), (7, 1)], loss) == needed


def test_a_loss_that_is_never_reached_needs_no_number_of_experts():
    with pytest.raises(ValueError, match=r"no point has a loss of 0.5, the lowest is 1"):
        softmoe.experts_needed([(1, 8), (7, 1)], 0.5)


def test_a_bump_in_the_curve_does_not_hide_that_it_was_there_before():
    assert softmoe.experts_needed([(1, 8), (2, 4), (3, 5), (4, 2)], 4.5) == 1.875


@pytest.mark.parametrize(("experts", "loss"), [(0.5, 8), (1, 8), (1.5, 6), (3, 3), (7, 1), (9, 1)])
def test_losses_lie_on_the_curve_and_stop_at_its_ends(experts, loss):
    assert softmoe.loss_at([(1, 8), (2, 4), (4, 2), (7, 1)], experts) == loss


def make_soft(rule, seed, loss, experts):
    return make_entry(rule, seed, loss, experts, train_experts=experts / 2)


def test_savings_are_where_the_curve_of_a_seed_meets_the_baseline():
    soft = [
        make_soft("soft, 1", 0, 6.0, 1), make_soft("soft, 2", 0, 2.0, 2),  # 4 at 1.5
        make_soft("soft, 2", 3, 5.0, 1.6), make_soft("soft, 1", 3, 9.0, 0.8),  # 7 at 1.2
    ]  # fmt: skip
    entries, rules = make_entries() + soft, ["soft, 2", "soft, 1"]
    use = softmoe.savings(entries, rules, "in use", baseline="hard, 2")
    assert use == pytest.approx([-25, -40])
    training = softmoe.savings(entries, rules, "in training", baseline="hard, 2")
    assert training == pytest.approx([-62.5, -70])
    itself = softmoe.savings(entries, ["hard, 1", "hard, 2"], "in use", baseline="hard, 2")
    assert itself == [0, 0]
    with pytest.raises(ValueError, match="no record of the rule 'soft, 9'"):
        softmoe.savings(entries, ["soft, 9"], "in use", baseline="hard, 2")
    with pytest.raises(ValueError, match="no point has a loss of"):
        softmoe.savings(entries, ["soft, 1"], "in use", baseline="hard, 2")


def test_gains_are_read_off_the_curve_of_the_same_seed_at_equal_experts():
    entries = make_entries(loss=6.0, experts=3.0, train_experts=1.5)
    assert softmoe.gains(entries, ["soft, 2"], "in use") == pytest.approx([3, 0])
    assert softmoe.gains(entries, ["soft, 2"], "in training") == pytest.approx([0, -3])
    assert softmoe.gains(entries, ["hard, 1", "hard, 7"], "in use") == [0, 0]


def test_gaps_pair_the_seeds():
    entries = make_entries(loss=6.0, experts=1.2)
    assert softmoe.gaps(entries, "soft, 2", "hard, 2") == [2, -1]
    assert softmoe.gaps(entries[:-1], "soft, 2", "hard, 2") == [-1]
    assert softmoe.gaps(entries, "soft, 2", "hard, 1", others=make_entries()) == [-2, -5]


def test_points_are_means_from_few_experts_to_many():
    entries = make_entries(loss=6.0, experts=1.2)
    rules = ["hard, 2", "soft, 2", "not run"]
    assert softmoe.read_points(entries, "in use", rules) == ([1.2, 2], [6, 5.5])


def test_the_last_three_of_ten_layers():
    assert softmoe.last_share([1] * 10) == pytest.approx(30)
    assert softmoe.last_share([1, 3]) == 75


@pytest.fixture(scope="module", params=["tokens", "text"])
def runs(request):
    return load("softmoe", request.param)


def test_every_rule_has_the_seeds_that_the_page_counts_on(runs):
    seeds = {rule: len(found) for rule, found in softmoe.by_rule(runs, "loss").items()}
    assert min(seeds.values()) >= 3
    assert {"hard, 1", "soft, 1.5", "soft, 2", "as in the source", "always two"} <= set(seeds)


def test_hard_routers_ran_what_they_are_named_for(runs):
    for rule, found in softmoe.by_rule(runs, "experts").items():
        if rule.startswith("hard"):
            assert set(found) == {float(rule.split(", ")[1])}


def test_made_up_tokens_reward_the_right_number_of_experts():
    losses = softmoe.by_rule(load("softmoe", "tokens"), "loss")
    assert max(losses["told"]) < min(losses["hard, 2"])


def test_the_soft_router_saves_experts_on_made_up_tokens():
    soft = ["soft, 1.5", "soft, 2", "soft, 3"]
    runs = load("softmoe", "tokens")
    saved = softmoe.savings(runs, soft, "in training", baseline="hard, 2")
    assert len(saved) == 3
    assert max(saved) < -24  # more than the source reports


def test_the_soft_router_runs_more_where_more_is_needed():
    for low, middle, high in softmoe.by_rule(load("softmoe", "tokens"), "by_need")["soft, 2"]:
        assert low < middle < high


def test_learned_budgets_tilt_to_the_last_layers_and_pay():
    runs = load("softmoe", "depth")
    budgets = softmoe.by_rule(runs, "budgets")["learned budgets"]
    assert all(30 < softmoe.last_share(each) < 45 for each in budgets)
    assert max(softmoe.gaps(runs, "learned budgets", "soft, 1.5")) < 0


def test_the_source_schedule_loses_in_few_steps():
    for study, ours in (("tokens", "soft, 1.5"), ("text", "soft, 1.5")):
        assert min(softmoe.gaps(load("softmoe", study), "as in the source", ours)) > 0


def test_without_the_balance_loss_one_expert_takes_more():
    kept, free = (softmoe.by_rule(load("softmoe", name), "busiest") for name in ("text", "balance"))
    for rule in ("hard, 2, renormalized", "soft, 1.5"):
        assert min(free[rule]) > max(kept[rule])


def test_most_runs_on_text_save_experts_and_all_gain_at_equal_experts():
    runs, soft = load("softmoe", "text"), ["soft, 1", "soft, 1.5", "soft, 2"]
    saved = softmoe.savings(runs, soft, "in training", baseline="hard, 2, renormalized")
    assert sum(x < -20 for x in saved) == 4
    assert len(saved) == 5
    assert max(softmoe.gains(runs, soft, "in training")) < 0


def test_weights_matter_in_the_task_and_the_number_hardly_does_to_hard_top_k():
    losses = softmoe.by_rule(load("softmoe", "tokens"), "loss")
    told = [entry["result"]["loss"] for entry in load("softmoe", "number")]
    assert max(losses["always two"]) < min(losses["hard, 2"])
    assert max(losses["soft, 3"]) < min(losses["always two"])
    assert sum(losses["always two"]) < sum(told) < sum(losses["hard, 2"])
