"""Shared by all tests: runtime checks of shapes and types, the browser, the language models."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jaxtyping
import pytest
from _browser import NOT_FOUND, launch_options

from aiexplained.errors import WeightsUnavailable
from aiexplained_kernels import _native

if TYPE_CHECKING:
    from aiexplained.hub import Pretrained
    from aiexplained.lm import ByteClassifier

# Signatures such as Float[Tensor, "B T D"] are enforced under test only.
jaxtyping.install_import_hook(
    ["aiexplained.nn", "aiexplained.lm", "aiexplained.hub"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


BROWSER_GROUPS = 8
"""Parts that the browser tests are shared out in where several processes run the tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests go last: once one has run, a browser's event loop runs in this thread."""
    browser = [item for item in items if item.get_closest_marker("browser")]
    items[:] = [item for item in items if item not in set(browser)] + browser
    for item in browser:
        group = zlib.crc32(item.nodeid.encode()) % BROWSER_GROUPS
        item.add_marker(pytest.mark.xdist_group(f"browser-{group}"))


@pytest.fixture
def set_build(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Set how C++ is built, as before a process's first use of a kernel; then it is as it was."""

    def set_(name: str, value: str) -> None:
        monkeypatch.setenv(f"AIEXPLAINED_KERNELS_{name}", value)
        _native._load.cache_clear()

    yield set_
    _native._load.cache_clear()


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """An installed Chromium or Chrome; without one, CI fails and others skip."""
    found = launch_options()
    if found is None:
        pytest.fail(NOT_FOUND) if os.environ.get("CI") else pytest.skip(NOT_FOUND)
    return {**browser_type_launch_args, **found}


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """Call the package as an importer does, so that its own errors show."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def smollm2() -> Pretrained:
    """SmolLM2-135M-Instruct in float32; skips where its package is not installed."""
    from aiexplained.hub import load_pretrained

    try:
        return load_pretrained("smollm2-135m")
    except WeightsUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def byte_classifier() -> ByteClassifier:
    """The Mamba of typeseg in float32; skips where its package is not installed."""
    from aiexplained.hub import load_byte_classifier

    try:
        return load_byte_classifier()
    except WeightsUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random Llama with its tokenizer, as transformers saves them."""
    import tokenizers
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-llama")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.train_from_iterator(
        ["the cat sat on the mat and the rat sat on the cat"] * 3,
        tokenizers.trainers.BpeTrainer(
            vocab_size=283,
            special_tokens=special,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", chat_template=CHAT_TEMPLATE
    ).save_pretrained(folder)
    config = LlamaConfig(
        hidden_size=24,
        intermediate_size=31,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=3,
        head_dim=10,
        vocab_size=backend.get_vocab_size(),
        max_position_embeddings=101,
        rope_theta=777.0,
        rms_norm_eps=1e-4,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        for name, weight in model.named_parameters():
            if "norm" in name:
                torch.nn.init.uniform_(weight, 0.5, 1.5)
    model.save_pretrained(folder)
    return folder
