"""Training: what it minimizes, what it leaves alone, and that only the seeds decide."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from aiexplained.lm import (
    Transformer,
    TransformerConfig,
    fit,
    mean_loss,
    next_token_loss,
    perplexity,
    sample_windows,
)
from aiexplained.lm.fit import learning_rate

VOCAB, SEQ = 13, 11
CONFIG = TransformerConfig(
    d_model=16, d_ff=29, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8, vocab_size=VOCAB
)


def cycle(n: int = 700) -> torch.Tensor:
    """A text that is fully predictable from its last token: 0 7 1 8 2 9 …"""
    return (7 * torch.arange(n)) % VOCAB


def train(seed: int = 0, steps: int = 60, **options: object) -> tuple[Transformer, list[float]]:
    model = Transformer(CONFIG, seed=0)
    batches = sample_windows(cycle(), batch_size=5, seq_len=SEQ, seed=seed)
    return model, fit(model, batches, steps=steps, **options)


def test_a_model_learns_what_can_be_predicted() -> None:
    model, losses = train(steps=150, lr=1e-2)
    assert losses[0] == pytest.approx(math.log(VOCAB), abs=0.2), "it starts by knowing nothing"
    assert losses[-1] < 0.1
    assert mean_loss(model, cycle(), seq_len=SEQ) < 0.1


def test_it_cannot_learn_what_is_random() -> None:
    noise = torch.randint(VOCAB, (5000,), generator=torch.Generator().manual_seed(1))
    model = Transformer(CONFIG, seed=0)
    fit(model, sample_windows(noise[:4000], batch_size=5, seq_len=SEQ, seed=0), steps=100)
    assert mean_loss(model, noise[4000:], seq_len=SEQ) > math.log(VOCAB) - 0.05


def test_the_seeds_decide_and_nothing_else() -> None:
    torch.manual_seed(1)
    first = train(seed=3)[1]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert train(seed=3)[1] == first
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not touched"
    assert train(seed=4)[1] != first


def test_windows_are_stretches_of_the_text_and_reach_both_ends() -> None:
    text = torch.arange(SEQ + 3)
    batches = sample_windows(text, batch_size=50, seq_len=SEQ, seed=0)
    windows = torch.cat([next(batches) for _ in range(4)])
    assert windows.shape == (200, SEQ + 1)
    assert (windows.diff(dim=1) == 1).all()
    assert set(windows[:, 0].tolist()) == {0, 1, 2}


def test_the_rate_rises_then_falls_to_its_last_share() -> None:
    rates = [learning_rate(s, steps=100, peak=2.0, warmup=10, final=0.1) for s in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (s + 1) for s in range(10)])
    assert max(rates) == rates[9] == rates[10] == pytest.approx(2.0)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert 0.2 < rates[-1] < 0.21


def test_only_matrices_decay() -> None:
    class Still(nn.Module):
        """Parameters without a gradient to speak of: only the decay moves them."""

        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.gain = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(3))
            self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)

    model = Still()
    loss = lambda model, batch: 0 * (model.matrix.sum() + model.gain.sum())  # noqa: E731
    fit(model, [torch.zeros(1)] * 5, steps=5, lr=0.1, weight_decay=0.5, loss=loss)
    assert (model.matrix < 1).all()
    assert (model.gain == 1).all()
    assert (model.frozen == 1).all()


def test_mean_loss_is_the_logarithm_of_perplexity() -> None:
    model, _ = train(steps=20)
    text = cycle(SEQ * 6 + 1)
    expected = math.log(perplexity(model, text, seq_len=SEQ + 1))
    for batch_size in (1, 4, 50):
        got = mean_loss(model, text, seq_len=SEQ, batch_size=batch_size)
        assert got == pytest.approx(expected, rel=1e-5)


def test_looking_does_not_change_the_model() -> None:
    model, _ = train(steps=5)
    before = copy.deepcopy(model.state_dict())
    model.train()
    mean_loss(model, cycle(), seq_len=SEQ)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_every_step_can_be_watched() -> None:
    seen: list[int] = []
    train(steps=7, on_step=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6, 7]


def test_next_token_loss_is_that_of_the_shifted_text() -> None:
    model = Transformer(CONFIG, seed=1)
    batch = cycle(3 * (SEQ + 1)).reshape(3, -1)
    log_probs = model(batch[:, :-1]).log_softmax(-1)
    by_hand = -log_probs.gather(2, batch[:, 1:, None]).mean()
    torch.testing.assert_close(next_token_loss(model, batch), by_hand)
    assert not torch.isclose(by_hand, -log_probs.gather(2, batch[:, :-1, None]).mean())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps >= 1"),
        ({"steps": 2, "warmup": 1.5}, "0 <= warmup <= 1"),
        ({"steps": 4}, "batches ended after 3 of 4 steps"),
    ],
)
def test_fit_names_what_is_wrong(options: dict[str, float], message: str) -> None:
    batches = [cycle(SEQ + 1)[None]] * 3
    with pytest.raises(ValueError, match=message):
        fit(Transformer(CONFIG), batches, **options)


def test_a_loss_that_explodes_stops_the_run_and_names_the_step() -> None:
    def explode(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return next_token_loss(model, batch) * (math.inf if batch[0, 0] else 1)

    batches = [torch.zeros(1, SEQ + 1, dtype=torch.long), torch.ones(1, SEQ + 1, dtype=torch.long)]
    with pytest.raises(FloatingPointError, match="inf at step 1"):
        fit(Transformer(CONFIG), batches, steps=2, loss=explode)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0, "seq_len": 3}, {"batch_size": 1, "seq_len": 0}]
)
def test_sizes_must_be_positive(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        next(sample_windows(cycle(), seed=0, **options))


def test_a_text_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="needs as many, got 11"):
        mean_loss(Transformer(CONFIG), cycle(11), seq_len=11)
