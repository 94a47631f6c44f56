"""A real pretrained Mamba whose matrices are rounded, and then trained with the rounding in place.

Needs torch, and the packaged weights of :mod:`aiexplained.hub`. The model labels each byte of a
text with its kind of content, and what rounding costs is counted in bytes whose label changes: the
model as it was is the measure, right or wrong. It is a Mamba-1 of six layers that reads in both
directions, not the source's Mamba-2, and no language model. The four matrices of each layer are
rounded; biases, embedding, norms, convolutions, recurrence and head stay as they are.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from aiexplained import hub
from aiexplained.concepts.ternary_mamba.rounding import round_absmax
from aiexplained.concepts.ternary_mamba.ternary import spread
from aiexplained.concepts.ternary_mamba.texts import WINDOW, ByteTexts, byte_texts
from aiexplained.lm import ByteClassifier, fit
from aiexplained.lm.byte_classifier import PROJECTIONS
from aiexplained.nn import reference_ternary_linear, ternarize

Weights = Literal["ternary", "native"]
BATCH_SIZE = 8
TEST_SEED = 0
LOOK = (5, 10, 20, 40, 70)
"""Steps after which the test windows are read, unless others are asked for."""
INTEGERS = {"int8": 8, "int4": 4, "int3": 3, "int2": 2}
"""Bits of the whole numbers that weights can be rounded to."""


@lru_cache(maxsize=1)
def load_model() -> ByteClassifier:
    """The packaged model, loaded once a process; copy it before changing it."""
    return hub.load_byte_classifier()


def round_weight(
    weight: Float[Tensor, "N K"], bits: str, *, group_size: int | None = 32
) -> Float[Tensor, "N K"]:
    """The nearest weight that a format can hold.

    Args:
        weight: ``N`` outputs of ``K`` inputs.
        bits: ``"ternary"``, see :func:`aiexplained.nn.ternarize`; or ``"int8"``, ``"int4"``,
            ``"int3"`` or ``"int2"``: whole numbers from ``-m`` to ``m = 2 ** (bits - 1) - 1`` times
            a scale, such that the largest magnitude of a group is exact.
        group_size: Weights of a row that share a scale; ``None``: all.

    Raises:
        ValueError: for an unknown format, or if ``group_size`` is not positive.

    >>> weight = torch.tensor([[0.5, -1.0, 0.1, 2.4]])
    >>> round_weight(weight, "int2").abs()
    tensor([[0.0000, 0.0000, 0.0000, 2.4000]])
    >>> round_weight(weight, "ternary").tolist()
    [[0.0, -1.0, 0.0, 1.0]]
    """
    if bits == "ternary":
        ternary, scale = ternarize(weight, group_size)
        return spread(scale, weight.shape[1], group_size) * ternary
    if bits not in INTEGERS:
        raise ValueError(f"bits must be 'ternary' or one of {tuple(INTEGERS)}, got {bits!r}")
    return round_absmax(weight, INTEGERS[bits], group_size)


def measure_rounding(
    *,
    bits: str,
    part: str = "all",
    group_size: int | None = 32,
    n_windows: int = 44,
    window: int = WINDOW,
    seed: int = TEST_SEED,
) -> dict[str, Any]:
    """What rounding alone, without any training, does to the labels.

    Args:
        bits: Format, see :func:`round_weight`.
        part: Which matrix of each layer is rounded: ``"in"``, ``"x"``, ``"dt"``, ``"out"``, or
            ``"all"``.
        group_size: Weights that share a scale.
        n_windows: Windows of test files.
        window: Bytes in each.
        seed: Seed of the windows.

    Returns:
        ``agreement``, the share of bytes with the label of the model as it was; ``kl``, mean
        divergence from its probabilities in nats a byte; ``constant``, the agreement of one label
        for all bytes; ``sha256`` of the windows.

    Raises:
        ValueError: for an unknown format or part.
    """
    if part not in ("all", *PROJECTIONS):
        raise ValueError(f"part must be 'all' or one of {PROJECTIONS}, got {part!r}")
    rounded = copy.deepcopy(load_model())
    for name in PROJECTIONS if part == "all" else (part,):
        for projection in rounded.projections(name):
            projection.weight.copy_(round_weight(projection.weight, bits, group_size=group_size))
    texts, expected = _test_texts(n_windows, window, seed)
    return {
        **_compare(_logits(rounded, texts.windows), expected),
        "constant": _constant(expected),
        "sha256": texts.sha256,
    }


def measure_qat(
    *,
    steps: int,
    lr: float = 1e-3,
    warmup: float = 0.2,
    group_size: int | None = 32,
    distill: bool = True,
    weights: Weights = "ternary",
    train_all: bool = True,
    look: Sequence[int] = LOOK,
    batch_size: int = BATCH_SIZE,
    n_test: int = 44,
    window: int = WINDOW,
    seed: int,
) -> dict[str, Any]:
    """Train the model with ternary matrices, by what the model as it was says of each byte.

    The matrices behind the rounding are trained, and so is all else unless ``train_all`` is false:
    biases, norms and recurrence weigh next to nothing, are never rounded, and can take up a part of
    the error.

    Args:
        steps: Optimizer steps.
        lr: Peak learning rate.
        warmup: Share of the steps that the rate rises over. The first steps of Adam are as long for
            a small gradient as for a large one, and would harm a model that needs none.
        group_size: Weights that share a scale.
        distill: Whether to learn the probabilities (divergence), rather than the labels alone
            (cross-entropy).
        weights: ``"ternary"``; or ``"native"``, the control: the same training of the same model
            without any rounding.
        train_all: Whether more than the four matrices of a layer is trained.
        look: Numbers of steps after which the test windows are read; first and last always are.
        batch_size: Windows a step.
        n_test: Windows of test files, the same for all seeds.
        window: Bytes in each.
        seed: Seed of the training windows.

    Returns:
        Lists ``steps``, ``agreement`` and ``kl`` (see :func:`measure_rounding`), of which the first
        entry is rounding alone; ``loss`` before each step; ``constant``; ``cpu_s``, processor time
        of the training alone; ``sha256_train`` and ``sha256_test``.

    Raises:
        ValueError: if ``weights`` has another value or a size is not positive.
    """
    if weights not in ("ternary", "native"):
        raise ValueError(f"weights must be 'ternary' or 'native', got {weights!r}")
    train = byte_texts("train", n_windows=steps * batch_size, window=window, seed=seed)
    test, expected = _test_texts(n_test, window, TEST_SEED)
    teacher = load_model()
    student = _student(teacher, weights, group_size, train_all)
    seen: list[dict[str, float]] = []
    looking_s = 0.0

    def watch(step: int) -> None:
        nonlocal looking_s
        start = time.process_time()
        if step in {0, steps, *look}:
            seen.append({"steps": step, **_compare(_logits(student, test.windows), expected)})
        looking_s += time.process_time() - start

    watch(0)
    start, looking_s = time.process_time(), 0.0
    losses = fit(
        student,
        _shuffled(train.windows, seed).split(batch_size),
        steps=steps,
        lr=lr,
        warmup=warmup,
        weight_decay=0.0,
        loss=partial(_divergence if distill else _label_loss, teacher),
        on_step=watch,
    )
    return {
        **{key: [entry[key] for entry in seen] for key in ("steps", "agreement", "kl")},
        "loss": losses,
        "constant": _constant(expected),
        "cpu_s": time.process_time() - start - looking_s,
        "sha256_train": train.sha256,
        "sha256_test": test.sha256,
    }


@lru_cache(maxsize=2)
def _test_texts(n: int, window: int, seed: int) -> tuple[ByteTexts, Float[Tensor, "bytes labels"]]:
    """Windows of test files, and what the model as it was says of their bytes."""
    texts = byte_texts("test", n_windows=n, window=window, seed=seed)
    return texts, _logits(load_model(), texts.windows)


def _student(
    teacher: ByteClassifier, weights: Weights, group_size: int | None, train_all: bool
) -> ByteClassifier:
    student = copy.deepcopy(teacher).requires_grad_(train_all)
    for projection in (p for name in PROJECTIONS for p in student.projections(name)):
        projection.weight.requires_grad_(True)
        if weights == "ternary":
            projection.multiply = partial(reference_ternary_linear, group_size=group_size)
    return student


def _shuffled(windows: Int[Tensor, "n T"], seed: int) -> Int[Tensor, "n T"]:
    return windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed))]


def _divergence(teacher: nn.Module, student: nn.Module, batch: Tensor) -> Float[Tensor, ""]:
    """Mean ``KL(teacher || student)`` a byte, in nats."""
    with torch.no_grad():
        expected = teacher(batch).flatten(0, 1).log_softmax(dim=-1)
    found = student(batch).flatten(0, 1).log_softmax(dim=-1)
    return kl_div(found, expected, log_target=True, reduction="batchmean")


def _label_loss(teacher: nn.Module, student: nn.Module, batch: Tensor) -> Float[Tensor, ""]:
    with torch.no_grad():
        labels = teacher(batch).argmax(dim=-1)
    return cross_entropy(student(batch).flatten(0, 1), labels.flatten())


@torch.no_grad()
def _logits(model: nn.Module, windows: Int[Tensor, "n T"]) -> Float[Tensor, "bytes labels"]:
    return torch.cat([model(part).flatten(0, 1) for part in windows.split(BATCH_SIZE)])


def _compare(found: Tensor, expected: Tensor) -> dict[str, float]:
    divergence = kl_div(
        found.log_softmax(dim=-1),
        expected.log_softmax(dim=-1),
        log_target=True,
        reduction="batchmean",
    )
    same = found.argmax(dim=-1) == expected.argmax(dim=-1)
    return {"agreement": float(same.double().mean()), "kl": float(divergence)}


def _constant(expected: Tensor) -> float:
    labels = expected.argmax(dim=-1)
    return float(labels.bincount().max()) / len(labels)
