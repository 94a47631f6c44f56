"""The rules of SoftMoE: the browser computes what Python computes."""

import itertools

import numpy as np
import pytest
import torch

from aiexplained.concepts.softmoe.lapsum import soft_threshold, soft_top_k
from aiexplained.concepts.softmoe.routing import CUT, EXPANSION, HardTopK, truncate
from aiexplained.viz.assets import rule_file

E = 7
EPS = 2.0**-52
TEMPERATURES = (1e-6, 1e-3, 0.02, 0.5, 1.0, 5.0)


def make_scores(count=11, ties=False):
    scores = np.random.default_rng(5).normal(scale=1.5, size=(count, E))
    return np.round(2 * scores) / 2 if ties else scores


CASES = [
    (scores.tolist(), k, temperature)
    for ties in (False, True)
    for scores in make_scores(ties=ties)
    for k in (1e-3, 0.25, 1.5, 2, 6.75, E - 1e-3)
    for temperature in TEMPERATURES
]


def open_rule(browser, script):
    """A page that has loaded the rule and nothing else."""
    page = browser.new_page()
    page.add_script_tag(content=script)
    return page


@pytest.fixture(scope="module")
def rule(browser):
    page = open_rule(browser, rule_file("softmoe").read_text("utf-8"))
    yield page
    page.close()


def browser_runs(page, cases):
    return page.evaluate(
        """([cases, expansion, cut]) => {
          const rule = aiexplained.rules.softmoe;
          return cases.map(([scores, k, temperature]) => {
            const weights = rule.softTopK(scores, k, temperature);
            return {
              threshold: rule.threshold(scores, k, temperature), weights,
              shares: rule.shares(scores, k, temperature),
              rows: scores.map((_, i) => rule.gradient(scores, k, temperature, i)),
              kept: rule.truncate(weights, k, expansion, cut),
            };
          });
        }""",
        [cases, EXPANSION, CUT],
    )


def python_runs(scores, k, temperature):
    """Weights, their derivatives and the threshold, the derivatives by autograd."""
    r = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    budget = torch.tensor(float(k), dtype=torch.float64, requires_grad=True)
    weights = soft_top_k(r, budget, temperature=temperature)
    by = [torch.autograd.grad(w, (r, budget), retain_graph=True) for w in weights]
    return {
        "threshold": float(soft_threshold(r.detach(), k, temperature=temperature)),
        "weights": weights.detach().numpy(),
        "shares": np.array([float(by_k) for _, by_k in by]),
        "rows": np.array([by_r.numpy() for by_r, _ in by]),
    }


def allowed(scores, temperature):
    """How far weights may differ, as a share of them.

    A score over the temperature is known to half a unit in its last place, and so are the
    threshold and the sums' logarithms, of about the same size; exp makes of that a relative error.
    """
    largest = max(abs(score) for score in scores) / temperature
    return 8 * EPS * (largest + 8)


def check_same(page, cases):
    for case, found in zip(cases, browser_runs(page, cases), strict=True):
        scores, _, temperature = case
        expected, share = python_runs(*case), allowed(scores, temperature)
        close = {"rtol": share, "atol": 0, "err_msg": str(case)}
        middle = abs(found["threshold"] - expected["threshold"])
        assert middle <= share * temperature, case
        np.testing.assert_allclose(found["weights"], expected["weights"], **close)
        # A share divides by the sum of densities, each of them off by as much.
        close["rtol"] *= 2
        np.testing.assert_allclose(found["shares"], expected["shares"], **close)
        # Where δ - q cancels, what is left is off by what q is.
        np.testing.assert_allclose(
            found["rows"], expected["rows"], rtol=2 * share, atol=2 * share / temperature
        )


@pytest.mark.browser
def test_the_browser_solves_soft_top_k_as_python_does(rule):
    check_same(rule, CASES)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("+ 0.5 * Math.exp(logB[j]", "- 0.5 * Math.exp(logB[j]"),
        ("above >= k ?", "above < k ?"),
        ("(i === j ? 1 : 0) - q)", "(i === j ? 1 : 0) - 1 / share.length)"),
        ("u <= 0 ? tail", "u <= 0 ? 1 - tail"),
    ],
)
def test_the_comparison_would_catch_a_wrong_rule(browser, right, wrong):
    script = rule_file("softmoe").read_text("utf-8")
    assert right in script
    page = open_rule(browser, script.replace(right, wrong))
    with pytest.raises(AssertionError):
        check_same(page, CASES)
    page.close()


@pytest.mark.browser
def test_weights_sum_to_k_and_shares_to_one(rule):
    for case, found in zip(CASES, browser_runs(rule, CASES), strict=True):
        scores, k, temperature = case
        assert sum(found["weights"]) == pytest.approx(k, rel=allowed(scores, temperature) * E)
        assert sum(found["shares"]) == pytest.approx(1, rel=8 * EPS)
        assert all(0 <= weight <= 1 for weight in found["weights"])


@pytest.mark.browser
def test_tiny_temperatures_choose_the_highest_without_overflow(rule):
    scores = [3.0, -3.0, 0.5, 2.0, -1.0, 0.4, 1.0]
    (found,) = browser_runs(rule, [(scores, 3, 1e-6)])
    assert found["weights"] == [1, 0, 0, 1, 0, 0, 1]
    (tied,) = browser_runs(rule, [([1.0] * E, 1.75, 1e-6)])
    assert tied["weights"] == pytest.approx([1.75 / E] * E, rel=1e-9)


@pytest.mark.browser
def test_the_cut_keeps_what_python_keeps(rule):
    cases = [
        (scores.tolist(), k, temperature, expansion, cut)
        for scores in make_scores(ties=True)
        for k, temperature in itertools.product((0.25, 1, 1.5, 6.75), (0.05, 0.5, 5.0))
        for expansion, cut in ((2.0, 1.8), (2.0, 0.0), (1.0, 0.0), (4.0, 3.0))
    ]
    weights = [soft_top_k(torch.tensor(s).double(), k, temperature=t) for s, k, t, *_ in cases]
    found = rule.evaluate(
        """(cases) => cases.map(([weights, k, expansion, cut]) =>
          aiexplained.rules.softmoe.truncate(weights, k, expansion, cut))""",
        [
            [own.tolist(), k, expansion, cut]
            for own, (_, k, _, expansion, cut) in zip(weights, cases, strict=True)
        ],
    )
    counts = set()
    for own, kept, (_, k, _, expansion, cut) in zip(weights, found, cases, strict=True):
        assert kept == truncate(own, k, expansion=expansion, cut=cut).tolist()
        counts.add(sum(weight > 0 for weight in kept))
    assert counts >= {1, 2, 3, E}


def hard_in_browser(rule, scores, k, renormalize):
    return rule.evaluate(
        """([scores, k, renormalize]) => {
          const rule = aiexplained.rules.softmoe;
          return {
            weights: rule.hardTopK(scores, k, renormalize),
            rows: scores.map((_, i) => rule.hardGradient(scores, k, renormalize, i)),
          };
        }""",
        [scores, k, renormalize],
    )


@pytest.mark.browser
@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, E])
def test_hard_top_k_and_its_gradient_are_those_of_python(rule, k, renormalize):
    router = HardTopK(k, renormalize)
    for scores in make_scores():
        found = hard_in_browser(rule, scores.tolist(), k, renormalize)
        r = torch.tensor(scores)
        rows = torch.autograd.functional.jacobian(lambda x: router(x[None])[0], r)
        # Softmax takes E rounded terms, normalizing as many again.
        np.testing.assert_allclose(found["weights"], router(r[None])[0], rtol=8 * E * EPS)
        np.testing.assert_allclose(found["rows"], rows, atol=8 * E * EPS)
        out = np.array(found["weights"]) == 0
        assert out.sum() == E - k
        assert (np.array(found["rows"])[out] == 0).all()


@pytest.mark.browser
def test_of_equal_scores_the_first_is_chosen(rule):
    tied = [0.5, 2.0, 1.0, 1.0, -1.0, 1.0, 0.0]
    found = hard_in_browser(rule, tied, 3, False)["weights"]
    assert np.flatnonzero(found).tolist() == [1, 2, 3]


@pytest.mark.browser
def test_the_chosen_feel_the_near_miss_only_where_softmax_comes_first(rule):
    scores = [1.2, -0.6, 0.4, 0.5, -1.0, -0.1, -2.0]
    near, last = 2, 3
    first = hard_in_browser(rule, scores, 2, False)["rows"]
    second = hard_in_browser(rule, scores, 2, True)["rows"]
    assert first[last][near] < -0.01
    assert second[last][near] == 0
    assert first[near] == second[near] == [0] * E
