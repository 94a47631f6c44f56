"""SoftMoE's task of unequal needs, and the models that every router is compared in."""

import itertools
import math

import pytest
import torch

from aiexplained.concepts.softmoe.model import Mixtures, MoETransformer, Rule, TokenModel
from aiexplained.concepts.softmoe.routing import SoftTopK, anneal
from aiexplained.concepts.softmoe.tokens import (
    MOST,
    N_MAPS,
    WIDTH,
    make_tokens,
    sample_tokens,
    split_tokens,
)
from aiexplained.lm import TransformerConfig

B, T, V, E = 3, 17, 29, 7
RULES = {
    "hard": Rule(kind="hard", k=2),
    "soft": Rule(kind="soft", k=1.5, start=0.5, end=0.5),
    "learned": Rule(kind="soft", k=2, learned=True),
    "relu": Rule(kind="relu", k=2),
    "all": Rule(kind="all"),
}


def draw(n_tokens, seed=0):
    return make_tokens(n_tokens, torch.Generator().manual_seed(seed))


def bits_of(tokens):
    return tokens.inputs[:, :N_MAPS] > 0.5


def make_transformer(rule, seed=0):
    config = TransformerConfig(
        d_model=20, d_ff=11, n_layers=2, n_heads=5, n_kv_heads=5, head_dim=4, vocab_size=V
    )
    return MoETransformer(rule, config, n_experts=E, seed=seed).double().eval()


def make_ids(seed=0):
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(seed))


# Tokens


def test_needs_and_maps_are_drawn_equally_often():
    tokens = draw(30_000)
    for counts, n_kinds in ((tokens.needs.bincount()[1:], MOST), (bits_of(tokens).sum(0), N_MAPS)):
        share = counts / counts.sum()
        assert len(share) == n_kinds
        # Four standard deviations of a binomial share; choices of one token only lower it.
        assert (share - 1 / n_kinds).abs().max() < 4 / math.sqrt(n_kinds * counts.sum())


def test_the_bits_say_how_many_maps_a_token_needs():
    tokens = draw(3001)
    assert torch.equal(bits_of(tokens).sum(dim=-1), tokens.needs)
    assert not torch.equal(tokens.inputs[:, :N_MAPS], bits_of(tokens).float())


def test_targets_are_the_sum_of_the_maps_that_are_needed():
    """The maps are solved for from tokens that need one, and predict those that need more."""
    tokens, others = draw(6007), draw(1009, seed=1)
    z, bits, total = tokens.inputs[:, N_MAPS:].double(), bits_of(tokens), torch.zeros(1009, WIDTH)
    for j in range(N_MAPS):
        alone = bits[:, j] & (tokens.needs == 1)
        rows = []
        for i in range(WIDTH):
            told = alone & (tokens.targets[:, i].abs() < 0.99)
            heights = tokens.targets[told, i].double().atanh()
            rows.append(torch.linalg.lstsq(z[told], heights[:, None]).solution[:, 0])
        part = (others.inputs[:, N_MAPS:].double() @ torch.stack(rows).mT).tanh()
        total = total + part * bits_of(others)[:, j, None]
    torch.testing.assert_close(total.float(), others.targets, rtol=0, atol=1e-4)


def test_batches_follow_the_seed_and_split_into_inputs_and_targets():
    first, second = itertools.islice(sample_tokens(batch_size=13, seed=5), 2)
    again, other = (next(sample_tokens(batch_size=13, seed=seed)) for seed in (5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, second)
    inputs, targets = split_tokens(first)
    tokens = draw(13, seed=5)
    assert torch.equal(inputs, tokens.inputs)
    assert torch.equal(targets, tokens.targets)


# Rules


def test_a_rule_names_what_it_does_not_know():
    with pytest.raises(ValueError, match="one of hard, soft, relu, all, told; got 'psychic'"):
        Rule(kind="psychic")
    with pytest.raises(ValueError, match="only soft routers can learn budgets, got kind 'hard'"):
        Rule(kind="hard", learned=True)


def test_models_of_all_rules_start_from_the_same_weights():
    first, *others = (dict(TokenModel(rule, seed=3).named_parameters()) for rule in RULES.values())
    for other in others:
        assert set(other) - set(first) <= {"mixtures.budgets.eta"}
        assert all(torch.equal(other[name], weight) for name, weight in first.items())
    seeded = dict(TokenModel(RULES["hard"], seed=4).named_parameters())
    assert not any(torch.equal(seeded[name], weight) for name, weight in first.items())


# Models


@pytest.mark.parametrize("name", [*RULES, "told"])
def test_a_token_is_treated_alone_as_among_others(name):
    model = TokenModel(RULES.get(name, Rule(kind="told")), seed=0).double()
    x = draw(19).inputs.double()
    together = model(x)
    alone = torch.cat([model(row[None]) for row in x])
    torch.testing.assert_close(alone, together, rtol=1e-10, atol=1e-12)


def test_the_told_model_runs_the_experts_of_the_maps_that_are_needed():
    model, tokens = TokenModel(Rule(kind="told"), seed=0), draw(101)
    model(tokens.inputs)
    for routing in model.mixtures.routings:
        assert torch.equal(routing.weights, bits_of(tokens).float())
        assert torch.equal(routing.active_experts, tokens.needs.float())


@pytest.mark.parametrize("name", RULES)
def test_a_later_character_changes_no_earlier_logit(name):
    model, ids = make_transformer(RULES[name]), make_ids()
    before, now = model(ids), 2 * T // 3
    ids[:, now:] = (ids[:, now:] + 1) % V
    after = model(ids)
    torch.testing.assert_close(after[:, :now], before[:, :now], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(after[:, now:], before[:, now:])


def test_experts_that_choose_their_tokens_would_be_caught():
    model, ids = make_transformer(RULES["hard"]), make_ids()

    def choose_tokens(scores):
        chosen = scores.topk(len(scores) // 3, dim=0).indices
        return torch.zeros_like(scores).scatter_(0, chosen, 1.0)

    for mixture in model.mixtures:
        mixture.router = choose_tokens
    before, now = model(ids), 2 * T // 3
    ids[:, now:] = (ids[:, now:] + 1) % V
    assert not torch.allclose(model(ids)[:, :now], before[:, :now], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
@torch.inference_mode()
def test_characters_one_at_a_time_give_the_logits_of_all_at_once(name):
    model, ids = make_transformer(RULES[name]), make_ids()
    cache = model.make_cache()
    steps = [model(ids[:, t : t + 1], cache=cache) for t in range(T)]
    torch.testing.assert_close(torch.cat(steps, dim=1), model(ids), rtol=1e-10, atol=1e-12)


def test_a_transformer_runs_the_experts_of_its_mixtures_and_counts_them():
    model = make_transformer(RULES["hard"])
    with pytest.raises(RuntimeError, match="no pass has been made yet"):
        model.mixtures.active_experts()
    model(make_ids()).square().sum().backward()
    assert model.mixtures.active_experts().tolist() == [2, 2]
    assert all(mixture.experts.up.grad.abs().max() > 0 for mixture in model.mixtures)
    assert [len(routing.logits) for routing in model.mixtures.routings] == [B * T] * 2


def test_losses_of_all_layers_reach_the_learned_budgets():
    model = make_transformer(RULES["learned"])
    model(make_ids()).square().sum().backward()
    grad = model.mixtures.budgets.eta.grad
    assert grad.abs().min() > 0
    # A softmax competes: what one layer wins the other loses.
    assert grad.sum().item() == pytest.approx(0, abs=1e-12 * grad.abs().max().item())
    assert [name for name, _ in model.named_parameters() if "eta" in name] == [
        "mixtures.budgets.eta"
    ]


def test_each_layer_spends_its_own_budget():
    model = make_transformer(Rule(kind="soft", k=2, learned=True, expansion=E, cut=0))
    model.mixtures.budgets.eta.data = torch.tensor([1.0, -0.5], dtype=torch.float64)
    model(make_ids())
    budgets = model.mixtures.budgets()
    assert budgets[0] > budgets[1] + 0.5
    for routing, budget in zip(model.mixtures.routings, budgets, strict=True):
        torch.testing.assert_close(routing.weights.sum(dim=-1), budget.expand(B * T))


# What is added to the loss, and schedules


def make_mixtures(rule):
    mixtures = Mixtures(rule, 2, E, 5, 3, seed=0).double()
    x = torch.randn(43, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for mixture in mixtures:
        mixture(x)
    return mixtures


@pytest.mark.parametrize("name", ["hard", "soft", "learned"])
def test_the_balance_of_every_layer_is_added_with_the_rules_weight(name):
    mixtures = make_mixtures(RULES[name])
    expected = 0.01 * sum(routing.load_balance.item() for routing in mixtures.routings)
    assert mixtures.routing_loss().item() == pytest.approx(expected)
    unbalanced = make_mixtures(Rule(kind=RULES[name].kind, balance=0.0))
    assert unbalanced.routing_loss().item() == 0


def test_relu_routers_add_a_penalty_of_weights_by_how_often_each_expert_ran():
    mixtures = make_mixtures(RULES["relu"])
    expected = 0
    for mixture, routing in zip(mixtures, mixtures.routings, strict=True):
        runs = [int(routing.active[:, e].sum()) for e in range(E)]
        sums = [float(routing.weights[:, e].detach().sum()) for e in range(E)]
        share = [E * n / sum(runs) for n in runs]
        total = sum(f * w for f, w in zip(share, sums, strict=True))
        expected += mixture.router.penalty * total / len(routing.weights)
    assert mixtures.routing_loss().item() == pytest.approx(expected, rel=1e-6)
    assert make_mixtures(RULES["all"]).routing_loss().item() == 0


def test_temperatures_follow_the_schedule():
    mixtures = make_mixtures(Rule(kind="soft", k=1.5, start=3.0, end=0.5))
    for step in (0, 1, 7, 13, 14):
        mixtures.steer(step, 13)
        expected = anneal(step, steps=13, start=3.0, end=0.5)
        assert [mixture.router.temperature for mixture in mixtures] == [expected] * 2
    hard = make_mixtures(RULES["hard"])
    hard.steer(3, 13)
    assert not any(isinstance(mixture.router, SoftTopK) for mixture in hard)


def test_the_penalty_of_relu_routers_moves_with_the_experts_that_ran():
    for target, factor in ((0.5, 1.2), (6.5, 1 / 1.2)):
        mixtures = make_mixtures(Rule(kind="relu", k=target))
        start = [mixture.router.penalty for mixture in mixtures]
        mixtures.steer(0, 13)
        assert [mixture.router.penalty for mixture in mixtures] == start
        mixtures.steer(1, 13)
        moved = [mixture.router.penalty for mixture in mixtures]
        assert moved == pytest.approx([factor * penalty for penalty in start], rel=1e-12)


def test_hard_rules_take_whole_numbers():
    with pytest.raises(ValueError, match=r"hard top-k takes a whole k, got 1\.5"):
        Rule(kind="hard", k=1.5)


@pytest.mark.parametrize("seed", range(3))
def test_no_two_parts_of_a_model_start_alike(seed):
    rule = Rule(kind="hard")
    config = TransformerConfig(
        d_model=96, d_ff=32, n_layers=3, n_heads=4, n_kv_heads=4, head_dim=24, vocab_size=63
    )
    models = (MoETransformer(rule, config, n_experts=8, seed=seed), TokenModel(rule, seed=seed))
    for model in models:
        matrices = [p.detach().flatten() for p in model.parameters() if p.ndim > 1]
        for i, one in enumerate(matrices):
            for other in matrices[:i]:
                n = min(len(one), len(other))
                angle = torch.cosine_similarity(one[:n], other[:n], dim=0).abs().item()
                assert angle < 6 / math.sqrt(n)  # six standard deviations of unrelated vectors
