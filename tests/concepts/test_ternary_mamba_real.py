"""Rounding and retraining a real Mamba: what is measured, on which bytes, and that seeds decide."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path

import pytest
import torch

from aiexplained.concepts.ternary_mamba import real, texts
from aiexplained.errors import CorpusUnavailable
from aiexplained.lm.byte_classifier import PROJECTIONS
from aiexplained.nn import reference_ternary_linear

N, K = 5, 23
SMALL = {"n_windows": 11, "window": 37}
TINY = {"steps": 2, "batch_size": 3, "n_test": 11, "window": 37}
LOCK = Path(__file__).parents[2] / "requirements" / "lock.txt"


def weight() -> torch.Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("bits", "levels"), [("int8", 255), ("int4", 15), ("int3", 7), ("int2", 3)]
)
@pytest.mark.parametrize("group_size", [7, 32, None])
def test_whole_numbers_are_the_nearest_and_the_largest_is_exact(bits, levels, group_size):
    rounded = real.round_weight(weight(), bits, group_size=group_size)
    size = group_size or K
    for group, found in zip(weight().split(size, 1), rounded.split(size, 1), strict=True):
        largest = group.abs().amax(dim=1, keepdim=True)
        step = 2 * largest / (levels - 1)
        assert ((found - group).abs() <= step / 2 * (1 + 1e-12)).all()
        torch.testing.assert_close(found / step, (found / step).round(), atol=1e-9, rtol=0)
        torch.testing.assert_close(found.abs().amax(dim=1, keepdim=True), largest)


def test_ternary_rounding_is_that_of_the_layer_that_is_trained():
    x = torch.randn(3, K, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for group_size in (7, None):
        rounded = real.round_weight(weight(), "ternary", group_size=group_size)
        expected = reference_ternary_linear(x, weight(), group_size=group_size)
        torch.testing.assert_close(x @ rounded.mT, expected)
        int2 = real.round_weight(weight(), "int2", group_size=group_size)
        assert not torch.allclose(x @ int2.mT, expected), "same levels, another scale"


def test_a_group_of_zeros_stays_zero():
    zeros = torch.zeros(2, 5)
    for bits in ("ternary", *real.INTEGERS):
        assert torch.equal(real.round_weight(zeros, bits, group_size=3), zeros)


def test_windows_are_stretches_of_files_and_no_file_is_in_both_splits():
    files = {split: {f[2:] for f in texts._FILES if f[1] == split} for split in ("train", "test")}
    assert not files["train"] & files["test"]
    for split, names in files.items():
        found = texts.byte_texts(split, n_windows=29, window=61, seed=3)
        contents = [texts._read(*name) for name in sorted(names)]
        for row in found.windows:
            assert any(bytes(row.tolist()) in content for content in contents)
        assert found.windows.shape == (29, 61)
        assert found.kinds == (texts.KINDS * 3)[:29]
        flat = bytes(found.windows.flatten().tolist())
        assert found.sha256 == hashlib.sha256(flat).hexdigest()


def test_each_kind_has_files_of_both_splits_in_packages_with_one_locked_version():
    assert {(kind, split) for kind, split, *_ in texts._FILES} == {
        (kind, split) for kind in texts.KINDS for split in ("train", "test")
    }
    lock = LOCK.read_text("utf-8")
    for _, _, package, _ in texts._FILES:
        assert len(re.findall(rf"^{re.escape(package)}==", lock, re.M)) == 1, package
    assert len(re.findall(r"^numpy==", lock, re.M)) > 1, "some packages have several"


def test_only_the_seed_decides_the_windows():
    first, again, other = (texts.byte_texts("train", n_windows=7, seed=s) for s in (1, 1, 2))
    assert first.sha256 == again.sha256 != other.sha256
    assert torch.equal(first.windows, again.windows)


def test_what_has_no_meaning_is_rejected(monkeypatch):
    with pytest.raises(ValueError, match=r"split must be one of .*, got 'validation'"):
        texts.byte_texts("validation", n_windows=1)
    with pytest.raises(ValueError, match="must be positive, got 0 and 192"):
        texts.byte_texts("test", n_windows=0)
    with pytest.raises(ValueError, match=r"at most \d+ bytes, as .*, got 999999"):
        texts.byte_texts("test", n_windows=1, window=999_999)
    with pytest.raises(ValueError, match=r"'ternary' or one of .*, got 'int5'"):
        real.round_weight(weight(), "int5")
    with pytest.raises(ValueError, match="group_size must be at least 1, got 0"):
        real.round_weight(weight(), "int4", group_size=0)
    with pytest.raises(ValueError, match=r"'all' or one of .*, got 'conv'"):
        real.measure_rounding(bits="int8", part="conv")
    with pytest.raises(ValueError, match="'ternary' or 'native', got 'int8'"):
        real.measure_qat(steps=1, weights="int8", seed=0)
    monkeypatch.setattr(texts, "_FILES", (("a", "test", "no-such-package", "a.py"),))
    monkeypatch.setattr(texts, "KINDS", ("a",))
    with pytest.raises(CorpusUnavailable, match=r"a\.py of the package no-such-package"):
        texts.byte_texts("test", n_windows=1)


@pytest.mark.weights
@pytest.mark.usefixtures("byte_classifier")
def test_fewer_bits_agree_less_and_ternary_rounding_least():
    found = {b: real.measure_rounding(bits=b, **SMALL) for b in (*real.INTEGERS, "ternary")}
    assert json.loads(json.dumps(found)) == found
    agreement = [found[bits]["agreement"] for bits in ("int8", "int4", "int3", "ternary")]
    assert agreement == sorted(agreement, reverse=True)
    assert agreement[0] > 0.95 > 0.5 > agreement[-1]
    divergence = [found[bits]["kl"] for bits in ("int8", "int4", "int3", "ternary")]
    assert divergence == sorted(divergence)
    assert divergence[0] > 0
    assert len({entry["sha256"] for entry in found.values()}) == 1


@pytest.mark.weights
@pytest.mark.usefixtures("byte_classifier")
def test_rounding_one_matrix_costs_less_than_rounding_all_and_leaves_the_model_alone():
    before = {name: value.clone() for name, value in real.load_model().state_dict().items()}
    whole = real.measure_rounding(bits="ternary", **SMALL)
    for part in PROJECTIONS:
        one = real.measure_rounding(bits="ternary", part=part, **SMALL)
        assert one["kl"] < whole["kl"]
        assert one["kl"] > 0
    after = real.load_model().state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())


@pytest.mark.weights
@pytest.mark.usefixtures("byte_classifier")
def test_the_training_starts_at_rounding_and_only_the_seed_decides():
    first, again, other = (real.measure_qat(**TINY, seed=seed) for seed in (3, 3, 4))
    alone = real.measure_rounding(bits="ternary", **SMALL)
    assert first["steps"] == [0, 2]
    assert first["agreement"][0] == pytest.approx(alone["agreement"], abs=1 / (11 * 37))
    assert first["kl"][0] == pytest.approx(alone["kl"], rel=1e-3)  # one byte more or less, and eps
    assert first["sha256_test"] == alone["sha256"] == other["sha256_test"]
    assert {**first, "cpu_s": 0} == {**again, "cpu_s": 0}
    assert first["loss"] != other["loss"]
    assert first["sha256_train"] != other["sha256_train"]


@pytest.mark.weights
@pytest.mark.usefixtures("byte_classifier")
@pytest.mark.parametrize(("distill", "seed"), [(True, 0), (True, 1), (False, 0)])
def test_a_few_steps_bring_the_ternary_model_nearer(distill, seed):
    sizes = {"steps": 17, "batch_size": 8, "n_test": 22, "window": 61}
    found = real.measure_qat(**sizes, look=(5,), distill=distill, seed=seed)
    assert found["steps"] == [0, 5, 17]
    assert found["kl"][-1] < found["kl"][0]
    assert found["agreement"][-1] > found["agreement"][0]
    assert len(found["loss"]) == 17
    assert all(math.isfinite(value) for value in found["loss"])
    assert found["cpu_s"] > 0


@pytest.mark.weights
@pytest.mark.usefixtures("byte_classifier")
def test_without_rounding_the_training_starts_at_the_model_and_a_smaller_rate_stays_nearer():
    control = {**TINY, "weights": "native", "distill": False, "seed": 0}
    slow, fast = (real.measure_qat(**control, lr=lr) for lr in (1e-5, 1e-3))
    for found in (slow, fast):
        assert found["agreement"][0] == 1
        assert found["kl"][0] == 0
    assert 0 < slow["kl"][-1] < fast["kl"][-1]
    assert slow["agreement"][-1] >= fast["agreement"][-1]


@pytest.mark.weights
def test_what_is_trained(byte_classifier):
    for train_all in (True, False):
        student = real._student(byte_classifier, "ternary", 32, train_all)
        trained = {name for name, p in student.named_parameters() if p.requires_grad}
        matrices = {
            f"layers.{layer}.projections.{name}.weight"
            for layer in range(byte_classifier.config.n_layers)
            for name in PROJECTIONS
        }
        assert matrices <= trained
        assert (trained == matrices) is not train_all
    assert not any(p.requires_grad for p in byte_classifier.parameters())


def test_versions_in_the_paths_of_texts_are_those_of_the_lock():
    """After an upgrade of the lock, edit the path in ``texts.py`` and record the studies anew."""
    lock = Path(__file__).parents[2].joinpath("requirements", "lock.txt").read_text()
    named = [path.split("/")[0] for *_, path in texts._FILES if ".dist-info/" in path]
    assert named
    for folder in named:
        package, _, version = folder.removesuffix(".dist-info").rpartition("-")
        assert f"\n{package}=={version} " in lock, folder
