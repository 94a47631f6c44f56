"""What is measured of variable widths, and how runs become the numbers of the page."""

import pytest
import torch

from aiexplained.concepts import variable_width as vw
from aiexplained.concepts.variable_width.measure import SEQ_LEN, VARIATIONS
from aiexplained.lm import Transformer

VOCAB = 63


@pytest.mark.parametrize("arm", vw.ARMS)
def test_every_arm_has_as_many_weights_as_the_uniform_model(arm):
    widths = vw.arm_widths(arm, 8, 96, vocab_size=VOCAB)
    learned = vw.ARMS[arm].resize.startswith("learned")
    uniform = vw.count_parameters((96,) * 8, 96, VOCAB)
    found = vw.count_parameters(widths, 96, VOCAB, own_ends=True, learned_resize=learned)
    assert found == pytest.approx(uniform, rel=0.01)
    assert all(w % 4 == 0 for w in widths)


def test_the_arms_have_the_shapes_that_their_names_say():
    shape = {arm: vw.arm_widths(arm, 8, 96, vocab_size=VOCAB) for arm in vw.ARMS}
    assert shape["uniform"] == (96,) * 8
    assert shape["zero"] == shape["paper"]
    assert [w.index(min(w)) for w in (shape["paper"], shape["hourglass"])] == [5, 3]
    assert shape["diamond"].index(max(shape["diamond"])) == 3
    assert min(shape["paper"]) < min(shape["mild"]) < 96
    with pytest.raises(ValueError, match="arm must be one of uniform, paper"):
        vw.arm_widths("pear", 8, 96, vocab_size=VOCAB)


@pytest.fixture(scope="module")
def short_run():
    settings = {"width": 16, "layers": 4, "steps": 4, "lr": 3e-3, "seed": 0}
    return lambda **changes: vw.measure_training(**{"arm": "paper", **settings, **changes})


def test_a_run_is_decided_by_its_settings(short_run):
    first = short_run()
    assert short_run() == first
    other = short_run(seed=1, arm="zero")
    assert other["loss"] != first["loss"]
    assert other["widths"] == first["widths"]
    assert first["loss"] < torch.tensor(float(first["vocab_size"])).log() + 0.5
    assert len(first["curve"]) == 4
    assert first["widths"] == list(vw.arm_widths("paper", 4, 16, vocab_size=first["vocab_size"]))


def test_a_run_without_training_fails(short_run):
    with pytest.raises(ValueError, match="steps >= 1"):
        short_run(steps=0)


def test_the_parameters_are_those_that_the_account_counts(short_run):
    run = short_run(steps=1)
    widths, vocab_size = run["widths"], run["vocab_size"]
    gains = 2 * sum(widths) + widths[-1]
    counted = vw.count_parameters(widths, 1, vocab_size, own_ends=True)
    assert run["parameters"] == counted + gains


def test_outer_coordinates_reach_the_top_only_by_carrying():
    """What the first layer wrote beside the waist is lost to zero padding, and to it alone."""
    reach = {}
    for resize in ("carry", "zero"):
        model = vw.VariableWidthTransformer((20, 4, 20), n_heads=2, vocab_size=11, resize=resize)
        with torch.no_grad():
            before = model(torch.arange(5)[None])
            model.blocks[0].feed_forward.down.weight[4:] += 1
            reach[resize] = (model(torch.arange(5)[None]) - before).abs().max().item()
    assert reach["zero"] == 0
    assert reach["carry"] > 0.01


def test_contributions_count_each_writer_once():
    widths = [36, 30, 6, 15, 36]
    carried = vw.measure_contributions(widths, d_model=20, resize=vw.carry_forward)
    padded = vw.measure_contributions(widths, d_model=20, resize=vw.zero_pad)
    for layer, found in enumerate(carried):
        for coordinate, n in enumerate(found):
            writers = sum(coordinate < w for w in widths[:layer])
            assert n == writers + (coordinate < 20)  # the embedding wrote the first 20
    assert padded[:3] == carried[:3]
    assert padded[3][6:] == [0] * 9
    assert carried[3][6:] == [3] * 9


def test_the_accounts_name_all_four_models():
    accounts = vw.measure_accounts()
    assert list(accounts) == ["200M", "500M", "1B", "2B"]
    assert all(abs(row["weights"]) < 0.5 < row["stored"] < 2.5 for row in accounts.values())
    longer = vw.measure_accounts(131_072)
    assert all(longer[k]["flops"] < accounts[k]["flops"] < 0 for k in accounts)
    assert all(longer[k]["cache"] == accounts[k]["cache"] for k in accounts)


@pytest.mark.parametrize("variation", VARIATIONS)
def test_a_variation_changes_one_thing(short_run, variation):
    settings = {"width": 16, "layers": 4, "steps": 2, "lr": 3e-3, "seed": 0}
    ours = short_run(arm="uniform", steps=2)
    run = vw.measure_variation(variation=variation, arm="uniform", **settings)
    assert (run["widths"], run["parameters"]) == (ours["widths"], ours["parameters"])
    # The uniform model's ends are as wide as its layers in any case.
    assert (run["loss"] == ours["loss"]) == (variation == "kept-ends")


def test_kept_ends_store_more_weights_than_they_use():
    run = vw.measure_variation(
        variation="kept-ends", arm="paper", width=16, layers=4, steps=1, lr=3e-3, seed=0
    )
    widths, vocab_size = run["widths"], run["vocab_size"]
    gains = 2 * sum(widths) + widths[-1]
    in_use = vw.count_parameters(widths, 16, vocab_size)
    assert run["parameters"] - gains == in_use + vw.count_idle(widths, 16)
    assert widths[0] > 16
    with pytest.raises(ValueError, match="got 'wider' and 'paper'"):
        vw.measure_variation(
            variation="wider", arm="paper", width=16, layers=4, steps=1, lr=3e-3, seed=0
        )


# ---- from runs to numbers ----------------------------------------------------------------------


def entry(arm, width, seed, loss, layers=4):
    return {
        "setting": {
            "arm": arm,
            "width": width,
            "layers": layers,
            "seed": seed,
            "steps": 7,
            "lr": 0.1,
        },
        "result": {
            "loss": loss,
            "widths": list(vw.arm_widths(arm, layers, width, vocab_size=VOCAB)),
            "vocab_size": VOCAB,
        },
    }


def test_losses_are_compared_within_a_seed():
    entries = [entry("uniform", 32, 0, 2.0), entry("uniform", 32, 1, 3.0)]
    entries += [entry("paper", 32, 1, 2.5), entry("paper", 32, 0, 2.25), entry("paper", 32, 9, 1.0)]
    losses = vw.summarize_losses(entries)
    assert losses == {"uniform": {0: 2.0, 1: 3.0}, "paper": {0: 2.25, 1: 2.5, 9: 1.0}}
    assert vw.differences(losses, "paper") == [0.25, -0.5]


def test_losses_of_different_settings_are_not_mixed():
    with pytest.raises(ValueError, match="cannot be compared"):
        vw.summarize_losses([entry("uniform", 32, 0, 2.0), entry("paper", 48, 0, 2.0)])


def test_gaps_are_taken_within_a_setting_and_a_seed():
    entries = [entry("uniform", 32, 0, 2.0), entry("paper", 32, 0, 2.5), entry("paper", 48, 0, 1.0)]
    assert vw.gaps_by(entries, by="width") == {32: [0.5]}  # nothing to compare 48 with
    baseline = [entry("uniform", 48, 0, 1.25), entry("paper", 48, 0, 7.0)]
    assert vw.gaps_by(entries, by="width", baseline=baseline) == {32: [0.5], 48: [-0.25]}


def test_the_fit_finds_a_curve_of_its_kind():
    law = vw.Curve(scale=5.0, power=0.37)
    costs = [10.0, 40.0, 90.0, 160.0, 1000.0]
    found = vw.fit_curve(costs, [law.loss(c) for c in costs])
    assert (found.scale, found.power) == pytest.approx((5.0, 0.37))
    assert found.cost(law.loss(77.0)) == pytest.approx(77.0)


def test_the_fit_needs_two_costs_and_a_falling_loss():
    with pytest.raises(ValueError, match="two different costs"):
        vw.fit_curve([2.0, 2.0], [3.0, 2.0])
    with pytest.raises(ValueError, match="all positive"):
        vw.fit_curve([0.0, 2.0], [3.0, 2.0])
    with pytest.raises(ValueError, match="does not fall"):
        vw.fit_curve([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])


def runs_on(law, by, share, noise=0.0):
    """Uniform models on a curve, and the paper's shape at ``share`` of the cost of equal loss."""
    rng = torch.Generator().manual_seed(0)
    uniform, others = [], []
    for seed in range(4):
        for width in (24, 32, 40, 48):
            run = entry("uniform", width, seed, 0.0)
            loss = law.loss(vw.price(run)[by])
            run["result"]["loss"] = loss + noise * torch.randn((), generator=rng).item()
            uniform.append(run)
        run = entry("paper", 32, seed, 0.0)
        run["result"]["loss"] = law.loss(vw.price(run)[by] / share)
        others.append(run)
    return uniform, others


@pytest.mark.parametrize("by", ["flops", "cache"])
@pytest.mark.parametrize("share", [0.8, 1.3])
def test_the_loss_matched_reading_is_the_ratio_of_costs_at_one_loss(by, share):
    law = vw.Curve(scale=40.0, power=0.3)
    uniform, others = runs_on(law, by, share)
    reading = vw.match_losses(uniform, others, by=by, n_bootstrap=20)
    assert reading == pytest.approx([100 * (share - 1)] * 3)
    drawn = vw.draw_match(uniform, others, by=by)
    assert drawn["matched"] == pytest.approx(drawn["other"][0][0] / share)
    assert [len(drawn[key]) for key in ("uniform", "other")] == [16, 4]
    for cost, loss in drawn["curve"]:
        assert loss == pytest.approx(law.loss(cost * drawn_unit(uniform, by)))
    with pytest.raises(ValueError, match="only uniform models, got an arm 'paper'"):
        vw.match_losses([*uniform, others[0]], others, by=by)


def drawn_unit(uniform, by):
    """One percent of the cost of the uniform model of width 32."""
    return next(vw.price(e)[by] for e in uniform if e["setting"]["width"] == 32) / 100


def test_the_interval_widens_with_the_noise_and_holds_the_truth():
    law, spans = vw.Curve(scale=40.0, power=0.3), []
    for noise in (0.005, 0.02):
        value, low, high = vw.match_losses(*runs_on(law, "flops", 1.2, noise), by="flops")
        assert low < 20 < high
        assert low < value < high
        spans.append(high - low)
    assert spans[1] > 2 * spans[0]


def test_the_price_is_that_of_the_model():
    run = entry("paper", 32, 0, 0.0)
    widths = run["result"]["widths"]
    weights = 16 * sum(w * w for w in widths) + VOCAB * widths[-1]
    assert vw.price(run)["flops"] == 2 * weights + 4 * SEQ_LEN * sum(widths)
    assert vw.price(run)["cache"] == 2 * sum(widths)


def test_times_are_told_as_ratios_and_rates():
    def model(widths, prefill, layer_s):
        flops = [1e9 * w for w in widths]
        return {
            "widths": widths, "prefill_s": prefill, "decode_s": [1.0, 1.0, 4.0],
            "layer_s": layer_s, "layer_flops": flops,
        }  # fmt: skip

    runs = [
        {"result": {"uniform": model([2, 2], [2.0, 2.0, 9.0], [1.0, 1.0]),
                    "paper": model([3, 1], [3.0, 1.0, 3.0], [1.0, s])}}
        for s in (1.0, 3.0)
    ]  # fmt: skip
    told = vw.summarize_speed(runs)
    assert told["prefill"] == [1.5, 1.5]
    assert told["decode"] == [1.0, 1.0]
    assert told["layers"]["paper"] == [(3, 3.0), (1, 0.5)]
    assert told["flops"] == 1.0


def test_both_models_of_the_speed_study_are_timed_in_all_their_parts(monkeypatch):
    monkeypatch.setitem(vw.SCALES, "tiny", (4, 64))
    run = vw.measure_speed(model="tiny", n_tokens=5, repeats=2)
    for name, model in run.items():
        assert len(model["prefill_s"]) == len(model["decode_s"]) == 2, name
        assert len(model["layer_s"]) == len(model["widths"]) == 4
        assert all(s > 0 for s in (*model["layer_s"], *model["prefill_s"], *model["decode_s"]))
        assert sum(model["layer_s"]) <= max(model["prefill_s"])
    assert run["uniform"]["widths"] == [64] * 4
    assert isinstance(vw.VariableWidthTransformer((8, 8), n_heads=2, vocab_size=3), Transformer)
