"""Associative recall at length: what a reader loses when hashes choose what it reads.

A dense reader is trained on texts of at most 512 tokens. Then each of its queries may read only a
window and the members of its hash buckets, in texts of up to 4,096 tokens. The planes of the hash
are random, or trained on the dense reader's attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import torch

from aiexplained.concepts.subq.planes import HashShape, learn_planes, random_planes, wanted_keys
from aiexplained.concepts.subq.reader import (
    queries_and_keys,
    read_what_followed,
    recall_batches,
    sample_questions,
    train_reader,
)
from aiexplained.concepts.subq.selection import Selector, selection_mask
from aiexplained.concepts.subq.selectors import WINDOW_SIZE, select_window
from aiexplained.data.recall import RecallBatch, RecallVocabulary
from aiexplained.lm import Transformer

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
TRAIN_LENGTHS = (64, 128, 256, 512)
PLANE_TEXTS, TEST_TEXTS = 1000, 2000
"""Added to the seed of texts that planes are trained on, and of those that are tested."""
SHARP = 0.5
"""Share of its attention from which on a query is said to look for one key."""


@torch.inference_mode()
def answer_accuracy(
    model: Transformer, batch: RecallBatch, selectors: Sequence[Selector] | None = None
) -> float:
    """Share of the questions whose value is the model's first choice.

    Args:
        model: A reader.
        batch: Texts, which are read one at a time.
        selectors: What each layer reads instead of what it was trained to read.
    """
    operators = [layer.operator for layer in model.attention_layers]
    if selectors is not None:
        operators = [read_what_followed(select) for select in selectors]
    right: list[bool] = []
    with model.attending_with(operators):
        for row in torch.from_numpy(np.stack((batch.token_ids, batch.targets), axis=1)):
            ids, targets = row
            asked = targets >= 0
            hidden = model.hidden_states(ids[None])[0, asked]
            right += (model.logits(hidden).argmax(dim=-1) == targets[asked]).tolist()
    return fmean(right)


@dataclass
class Finds:
    """What selectors gave the questions of some texts.

    Args:
        sharp: Cases, of a question and a head, in which dense attention has at least
            :data:`SHARP` of its weight on one key beyond the window.
        found: Of these, the cases in which a selector has that key, by the selector's name.
        keys_read: Keys that a question reads, mean over questions, heads and layers, by name.
    """

    sharp: int
    found: dict[str, int]
    keys_read: dict[str, float]


@torch.inference_mode()
def count_finds(
    model: Transformer,
    batch: RecallBatch,
    selectors: Mapping[str, Sequence[Selector]],
    *,
    window_size: int,
) -> Finds:
    """Hold selectors to the attention of the dense model, at the questions.

    Args:
        model: A dense reader.
        batch: Texts; all have their questions at the same places.
        selectors: By name, one for each layer.
        window_size: What lies nearer counts as found by the window and is left out.
    """
    asking = torch.from_numpy(batch.targets[0] >= 0).nonzero()[:, 0]
    sharp, found, read = 0, dict.fromkeys(selectors, 0), dict.fromkeys(selectors, 0)
    n_cases = 0
    for ids in torch.from_numpy(batch.token_ids).split(1):
        for layer, (query, key) in enumerate(queries_and_keys(model, ids)):
            asked = query[:, :, asking]
            weight, wanted = wanted_keys(asked, key, asking, window_size=window_size)
            is_sharp = weight >= SHARP
            sharp, n_cases = sharp + int(is_sharp.sum()), n_cases + weight.numel()
            for name, of_layer in selectors.items():
                chosen = of_layer[layer](asked, key, asking)
                mask = selection_mask(chosen, asking, key.shape[2])
                read[name] += int(mask.sum())
                found[name] += int((mask.gather(-1, wanted[..., None])[..., 0] & is_sharp).sum())
    return Finds(sharp, found, {name: n / n_cases for name, n in read.items()})


def measure_recall(
    *,
    seed: int,
    steps: int = 800,
    plane_steps: int = 200,
    bits: int = 8,
    tables: int = 4,
    members: int = 4,
    window_size: int = WINDOW_SIZE,
    n_keys: int = 256,
    d_model: int = 64,
    lengths: Sequence[int] = LENGTHS,
    train_lengths: Sequence[int] = TRAIN_LENGTHS,
    n_questions: int = 512,
    plane_span: int | None = None,
) -> dict[str, Any]:
    """Accuracy on longer and longer texts: dense, window, and window with three kinds of hash.

    Two models are trained alike, one dense, one with a window as wide as the budget of the hashes.
    The hashes take the dense model's place of looking at all keys, in every layer and head. Their
    planes are ``random`` (through the origin), ``centered`` (random, through the means of queries
    and keys), or ``learned`` from centered ones, at the longest training length. Budget and planes
    are the same at every length.

    Args:
        seed: Of weights, texts and planes.
        steps: Training steps of both models.
        plane_steps: Training steps of the planes.
        bits: Planes of a table.
        tables: Tables.
        members: Keys taken from a bucket.
        window_size: Newest keys, which the hashes add to.
        n_keys: Keys in the vocabulary.
        d_model: Width of the models.
        lengths: Tokens of the texts that are tested.
        train_lengths: Tokens of the texts trained on.
        n_questions: Questions asked at each length, at least.
        plane_span: Positions of the texts that planes are trained on are below this; default: the
            longest length. With the longest training length, planes never see a greater distance.

    Returns:
        ``lengths`` and ``budget`` as used; lists over lengths by name:
        ``accuracy`` and ``keys_read`` (``dense``, ``window``, ``random``, ``centered``,
        ``learned``), ``found`` (the last three; share of ``sharp`` cases, ``None`` without any),
        ``questions`` and ``sharp`` (see :class:`Finds`); ``final_loss`` of ``dense``, ``window``
        and ``learned``, a mean over the last tenth of the steps.
    """
    shape = HashShape(bits=bits, tables=tables, members=members, window_size=window_size)
    vocabulary, span = RecallVocabulary(n_keys=n_keys), max(*lengths, *train_lengths)
    train = partial(
        train_reader, vocabulary, train_lengths, span=span, steps=steps, d_model=d_model, seed=seed
    )
    near = partial(select_window, budget=shape.budget)
    (dense, dense_losses), (window, window_losses) = train(), train(select=near)
    texts = recall_batches(
        vocabulary, [max(train_lengths)], span=plane_span or span, first=0, seed=PLANE_TEXTS + seed
    )
    states = (queries_and_keys(dense, ids, positions[0]) for ids, _, positions in texts)
    some = next(states)
    learned, plane_losses = learn_planes(states, shape, steps=plane_steps, seed=seed)
    hashes = {
        "random": random_planes(some, shape, centered=False, seed=seed).selectors(),
        "centered": random_planes(some, shape, centered=True, seed=seed).selectors(),
        "learned": learned.selectors(),
    }
    whole: list[Selector] = [partial(select_window, budget=span)] * len(dense.attention_layers)
    narrow: list[Selector] = [near] * len(whole)
    checked: dict[str, Sequence[Selector]] = {"dense": whole, "window": narrow, **hashes}
    rows = []
    for seq_len in lengths:
        batch = sample_test(n_questions, seq_len, vocabulary, TEST_TEXTS + seed)
        right = {name: answer_accuracy(dense, batch, of) for name, of in hashes.items()}
        right |= {"dense": answer_accuracy(dense, batch), "window": answer_accuracy(window, batch)}
        rows.append((batch, right, count_finds(dense, batch, checked, window_size=window_size)))
    losses = {"dense": dense_losses, "window": window_losses, "learned": plane_losses}
    return {
        "lengths": list(lengths),
        "budget": shape.budget,
        "accuracy": {name: [right[name] for _, right, _ in rows] for name in checked},
        "keys_read": {name: [finds.keys_read[name] for *_, finds in rows] for name in checked},
        "found": {
            name: [x.found[name] / x.sharp if x.sharp else None for *_, x in rows]
            for name in hashes
        },
        "sharp": [finds.sharp for *_, finds in rows],
        "questions": [int((batch.targets >= 0).sum()) for batch, *_ in rows],
        "final_loss": {name: fmean(x[-(len(x) // 10 or 1) :]) for name, x in losses.items()},
    }


def sample_test(
    n_questions: int, seq_len: int, vocabulary: RecallVocabulary, seed: int
) -> RecallBatch:
    """So many texts that they ask ``n_questions`` or a few more."""
    each = sample_questions(1, seq_len, vocabulary, seed).targets
    return sample_questions(-(-n_questions // int((each >= 0).sum())), seq_len, vocabulary, seed)
