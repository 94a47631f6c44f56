"""The byte classifier: equal to its package's own code, and what its equations promise."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from aiexplained import hub
from aiexplained.lm import (
    ByteClassifier,
    ByteClassifierConfig,
    load_byte_classifier,
    selective_scan,
)
from aiexplained.lm.byte_classifier import PROJECTIONS

B, T, D, N = 2, 7, 5, 3
CONFIG = ByteClassifierConfig(
    d_model=7, d_inner=D, d_state=N, dt_rank=2, d_conv=4, n_layers=2, labels=("a", "b", "c")
)
TEXTS = (
    "x",
    "def f(x):\n    return x + 1\n\n<p>h\u00e9llo</p>\r\n\tSELECT * FROM t;\x01\x7f",
    '{"a": [1, 2.5e3]}\n' * 11 + "body { color: #fff }\n" * 7,
)


def bytes_of(text: str) -> torch.Tensor:
    return torch.tensor([list(text.encode())])


def scan_inputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((B, T, D), (B, T, D), (D, N), (B, T, N), (B, T, N))
    u, dt, rates, write, read = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes
    )
    return [u, dt.exp(), -rates.exp(), write, read]


@pytest.mark.weights
def test_logits_are_those_of_the_package(byte_classifier):
    """Held to float64: the package's float32 may err as much as ours, four times at most."""
    from typeseg import _numpy_backend, _runtime, _tokenize

    weights = _runtime._weights("mamba_al.npz")
    exact = copy.deepcopy(byte_classifier).double()
    shifted = copy.deepcopy(byte_classifier)
    for layer in shifted.layers:
        layer.conv_weight.copy_(layer.conv_weight.roll(1, dims=-1))
    for text in TEXTS:
        theirs = _numpy_backend.mamba_forward(weights, _tokenize.text_to_bytes(text))
        expected = exact(bytes_of(text))[0]
        rounding = (byte_classifier(bytes_of(text))[0] - expected).abs().max()
        error = (torch.from_numpy(theirs) - expected).abs().max()
        assert error <= 4 * max(rounding, 4 * torch.finfo(torch.float32).eps * expected.abs().max())
        # A convolution off by one byte would be seen.
        assert (shifted(bytes_of(text))[0] - expected).abs().max() > 100 * error
    assert byte_classifier.config.labels == tuple(_runtime._manifest()["labels"])


@pytest.mark.weights
def test_real_labels_make_sense(byte_classifier):
    for text, label in (
        ("def f(x):\n    return x + 1\n\nclass A:\n    pass\n", "python"),
        ("<html><body><p>Hello</p></body></html>\n", "html"),
        ("SELECT name FROM users WHERE id = 3 ORDER BY name;\n", "sql"),
    ):
        best = byte_classifier(bytes_of(text))[0].argmax(dim=-1).mode().values
        assert byte_classifier.config.labels[int(best)] == label


def test_a_batch_is_its_texts_one_by_one():
    model = ByteClassifier(CONFIG).double()
    byte_ids = torch.randint(256, (5, 11), generator=torch.Generator().manual_seed(0))
    together = model(byte_ids)
    assert together.shape == (5, 11, 3)
    for row, logits in zip(byte_ids, together, strict=True):
        torch.testing.assert_close(model(row[None])[0], logits)


@torch.no_grad()
def test_a_late_byte_changes_early_labels_and_the_other_way_round():
    model = ByteClassifier(CONFIG).double()
    byte_ids = torch.full((1, 13), 65)
    before = model(byte_ids)
    for place, far in ((-1, 0), (0, -1)):  # farther than two convolutions reach
        changed = byte_ids.clone()
        changed[0, place] = 90
        assert not torch.equal(model(changed)[0, far], before[0, far])
    for layer in model.layers:  # without what is read from memory, a byte is seen nearby only
        layer.projections["x"].weight[-N:] = 0
        layer.projections["x"].bias[-N:] = 0
    changed = byte_ids.clone()
    changed[0, -1] = 90
    assert torch.equal(model(changed)[0, 0], model(byte_ids)[0, 0])
    assert not torch.equal(model(changed)[0, -1], model(byte_ids)[0, -1])


def test_a_scan_is_its_recurrence_in_both_directions():
    u, dt, rates, write, read = scan_inputs()
    expected = torch.zeros_like(u)
    for b in range(B):
        for order in (range(T), reversed(range(T))):
            state = torch.zeros(D, N, dtype=torch.float64)
            for t in order:
                state = state * torch.exp(dt[b, t, :, None] * rates)
                state = state + torch.outer(dt[b, t] * u[b, t], write[b, t])
                expected[b, t] += state @ read[b, t]
    torch.testing.assert_close(selective_scan(u, dt, rates, write, read), expected)


def test_a_scan_has_the_gradient_of_finite_differences():
    inputs = [tensor.requires_grad_() for tensor in scan_inputs()]
    assert torch.autograd.gradcheck(selective_scan, inputs)


def test_the_gradient_passes_every_parameter():
    model = ByteClassifier(CONFIG).double()
    byte_ids = torch.randint(256, (1, 5), generator=torch.Generator().manual_seed(0))
    inputs = [p.detach().clone().requires_grad_() for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    def logits(*parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(model, state, (byte_ids,))

    assert torch.autograd.gradcheck(logits, inputs, fast_mode=True)
    model(byte_ids).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", PROJECTIONS)
def test_each_projection_can_be_exchanged(name):
    model, other = ByteClassifier(CONFIG), ByteClassifier(CONFIG)
    chosen = other.projections(name)
    assert len(chosen) == CONFIG.n_layers
    for projection in chosen:
        projection.multiply = lambda x, weight: 2 * x @ weight.mT
    byte_ids = bytes_of("some bytes")
    assert not torch.allclose(other(byte_ids), model(byte_ids))
    with torch.no_grad():
        for projection in model.projections(name):
            projection.weight.mul_(2)
    torch.testing.assert_close(other(byte_ids), model(byte_ids))


def test_only_the_seed_decides_the_first_weights():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again, other = (ByteClassifier(CONFIG, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    byte_ids = bytes_of("a")
    assert torch.equal(first(byte_ids), again(byte_ids))
    assert not torch.equal(first(byte_ids), other(byte_ids))


def test_bytes_that_are_not_shown_look_alike():
    model = ByteClassifier(CONFIG)
    one, two, shown = (model(torch.tensor([[65, byte]])) for byte in (1, 200, 66))
    assert torch.equal(one, two)
    assert not torch.equal(one, shown)


def test_what_is_no_byte_is_rejected(without_shape_checks):
    model = ByteClassifier(CONFIG)
    with pytest.raises(ValueError, match=r"\[B, T\] with B, T >= 1, got \(1, 0\)"):
        model(torch.zeros(1, 0, dtype=torch.long))
    for wrong in (-1, 256):
        with pytest.raises(ValueError, match=f"must be 0 to 255, got {wrong} to {wrong}"):
            model(torch.tensor([[wrong]]))
    with pytest.raises(ValueError, match=r"one of .* got 'in_proj'"):
        model.projections("in_proj")
    with pytest.raises(ValueError, match=r"\.labels must be positive, got 0"):
        ByteClassifierConfig(
            d_model=7, d_inner=5, d_state=3, dt_rank=2, d_conv=4, n_layers=2, labels=()
        )


@pytest.mark.weights
def test_other_arrays_are_refused_and_nothing_is_unpickled(byte_classifier, tmp_path):
    folder = Path(str(hub._BYTE_CLASSIFIER.find()))
    shutil.copy(folder / "manifest.json", tmp_path)
    name = json.loads((folder / "manifest.json").read_text("utf-8"))["mamba"]["file"]
    with np.load(folder / name, allow_pickle=False) as stored:
        arrays = dict(stored)
    np.savez(tmp_path / name, **arrays)
    assert load_byte_classifier(tmp_path).config == byte_classifier.config
    np.savez(tmp_path / name, **arrays | {"D": np.zeros(3)})
    with pytest.raises(ValueError, match="are not those of a byte classifier"):
        load_byte_classifier(tmp_path)
    del arrays["Dense_0__bias"]
    np.savez(tmp_path / name, **arrays)
    with pytest.raises(ValueError, match="are not those of a byte classifier"):
        load_byte_classifier(tmp_path)
    np.savez(tmp_path / name, Dense_0__bias=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_byte_classifier(tmp_path)
