"""Text to token ids and back, over the ``tokenizers`` library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

_CONTROL = 3  # llama.cpp's token type for markers such as <|im_end|>
_PRE_TOKENIZERS = ("gpt-2", "smollm")
_DEFAULT_SYSTEM = re.compile(r"<\|im_start\|>system\n(?P<prompt>[^{}]+?)<\|im_end\|>")


class Tokenizer:
    """Byte-level tokenizer of a language model, with its chat template.

    Make one with :meth:`from_gguf` or :meth:`from_folder`, or train one with
    :func:`train_tokenizer`.

    Args:
        backend: A ``tokenizers.Tokenizer``.
        eos_token: Name of the token that ends a text, if there is one.
        chat_template: The model's Jinja template. It is not run: the default system prompt is
            taken from it, and :meth:`chat` needs it to be ChatML.
    """

    def __init__(
        self, backend: Any, *, eos_token: str | None = None, chat_template: str | None = None
    ) -> None:
        self._backend = backend
        self._chat_template = chat_template or ""
        self.eos_token = eos_token
        found = _DEFAULT_SYSTEM.search(self._chat_template.replace("\\n", "\n"))
        self.default_system_prompt = found["prompt"] if found else None

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones included."""
        return int(self._backend.get_vocab_size())

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Ids at which a generated answer ends."""
        return () if self.eos_token is None else (self.token_id(self.eos_token),)

    def token_id(self, token: str) -> int:
        """Id of one token by its name, e.g. ``"<|im_end|>"``.

        Raises:
            ValueError: if the vocabulary lacks it.
        """
        found = self._backend.token_to_id(token)
        if found is None:
            raise ValueError(f"the vocabulary has no token {token!r}")
        return int(found)

    def tokens(self, ids: Iterable[int] | Int[Tensor, "T"]) -> list[str]:
        """The text of each token on its own, e.g. to label an axis."""
        return [self.decode([i]) for i in _to_list(ids)]

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text.

        Args:
            text: Any text. Names of special tokens in it are read as those tokens; bytes that
                the vocabulary lacks are dropped.
            add_special_tokens: Whether to frame the text as the model expects, e.g. with a
                beginning token; a model that expects none gets none.
        """
        encoded = self._backend.encode(text, add_special_tokens=add_special_tokens)
        return list(encoded.ids)

    def decode(
        self, ids: Iterable[int] | Int[Tensor, "T"], *, skip_special_tokens: bool = False
    ) -> str:
        """Text of token ids; inverse of :meth:`encode`."""
        text: str = self._backend.decode(_to_list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def tensor(self, text: str) -> Int[Tensor, "1 T"]:
        """Token ids of a text as a batch of one."""
        return torch.tensor([self.encode(text)])

    def chat(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Token ids of a conversation in the ChatML format.

        The model's default system prompt comes first unless the messages start with their own.

        Args:
            messages: ``{"role": ..., "content": ...}`` each.
            add_generation_prompt: Whether to open the assistant's answer.

        Raises:
            ValueError: if there is no message, or the model has no ChatML template.
        """
        if not messages:
            raise ValueError("chat needs at least one message")
        if "<|im_start|>" not in self._chat_template:
            raise ValueError("chat knows ChatML only, and this model has no ChatML template")
        turns = [(message["role"], message["content"]) for message in messages]
        if self.default_system_prompt and turns[0][0] != "system":
            turns.insert(0, ("system", self.default_system_prompt))
        text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
        if add_generation_prompt:
            text += "<|im_start|>assistant\n"
        return self.encode(text, add_special_tokens=False)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """Tokenizer from the ``tokenizer.*`` fields of a GGUF file.

        Args:
            metadata: Field name to value.

        Raises:
            ValueError: if the file describes another kind of tokenizer than byte-level BPE.
        """
        kind = metadata.get("tokenizer.ggml.model")
        pre = metadata.get("tokenizer.ggml.pre", "gpt-2")
        if kind != "gpt2" or pre not in _PRE_TOKENIZERS:
            raise ValueError(
                f"GGUF tokenizers must be 'gpt2' with pre-tokenizer in {_PRE_TOKENIZERS}, "
                f"got {kind!r} with {pre!r}"
            )
        names = metadata["tokenizer.ggml.tokens"]
        types = metadata["tokenizer.ggml.token_type"]
        backend = _byte_level_bpe(names, metadata["tokenizer.ggml.merges"], pre)
        backend.add_special_tokens(
            [name for name, kind in zip(names, types, strict=True) if kind == _CONTROL]
        )
        eos = metadata.get("tokenizer.ggml.eos_token_id")
        return cls(
            backend,
            eos_token=None if eos is None else names[eos],
            chat_template=metadata.get("tokenizer.chat_template"),
        )

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """Tokenizer from ``tokenizer.json`` and, if present, ``tokenizer_config.json``.

        Raises:
            FileNotFoundError: if there is no ``tokenizer.json``.
        """
        from tokenizers import Tokenizer as Backend

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"no tokenizer.json in {folder}")
        config_path, template_path = (
            folder / "tokenizer_config.json",
            folder / "chat_template.jinja",
        )
        config = json.loads(config_path.read_text("utf-8")) if config_path.is_file() else {}
        template = config.get("chat_template")
        if template_path.is_file():
            template = template_path.read_text("utf-8")
        eos = config.get("eos_token")
        return cls(
            Backend.from_file(str(path)),
            eos_token=eos["content"] if isinstance(eos, dict) else eos,
            chat_template=template if isinstance(template, str) else None,
        )


def train_tokenizer(
    texts: Sequence[str], *, vocab_size: int, eos_token: str = "<|endoftext|>"
) -> Tokenizer:
    """Byte-level BPE trained on ``texts``; the same texts give the same tokenizer.

    Args:
        texts: What to learn merges from.
        vocab_size: Most tokens of the vocabulary, more than 257: all bytes and ``eos_token``
            are part of it, so that any text can be encoded.
        eos_token: Name of the token that ends a text.

    Raises:
        ValueError: if ``vocab_size`` leaves no room for a merge.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if vocab_size <= 257:
        raise ValueError(f"vocab_size must be more than 257, got {vocab_size}")
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[eos_token],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend, eos_token=eos_token)


def encode_documents(tokenizer: Tokenizer, texts: Iterable[str]) -> Int[Tensor, "N"]:
    """Token ids of several texts in a row, each ended by the tokenizer's ``eos_token``.

    Raises:
        ValueError: if the tokenizer has no such token.
    """
    if tokenizer.eos_token is None:
        raise ValueError("encode_documents needs a tokenizer with an eos_token")
    end = tokenizer.token_id(tokenizer.eos_token)
    rows = (tokenizer.encode(text, add_special_tokens=False) for text in texts)
    return torch.tensor([i for row in rows for i in (*row, end)])


def _byte_level_bpe(names: Sequence[str], merges: Sequence[str], pre: str) -> Any:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    backend = Backend(models.BPE({name: i for i, name in enumerate(names)}, pairs))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
        if pre == "smollm"
        else byte_level
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _to_list(ids: Iterable[int] | Int[Tensor, "T"]) -> list[int]:
    if isinstance(ids, Tensor):
        if ids.ndim != 1:
            raise ValueError(f"decode takes one row of ids, got shape {tuple(ids.shape)}")
        return [int(i) for i in ids.tolist()]
    return [int(i) for i in ids]


def encode_characters(
    train: Sequence[str], validation: Sequence[str]
) -> tuple[Int[Tensor, "N"], Int[Tensor, "M"], str]:
    """Documents as one id a character, a blank line between two.

    Args:
        train: Documents to train on.
        validation: Documents to judge by.

    Returns:
        Ids of both, and the alphabet: the characters of both, sorted, in the order of their ids.

    Raises:
        ValueError: if a side has no character.

    >>> encode_characters(["ba"], ["abba"])[1:]
    (tensor([0, 1, 1, 0]), 'ab')
    """
    texts = ["\n\n".join(documents) for documents in (train, validation)]
    if not all(texts):
        raise ValueError("both sides need at least one character")
    alphabet = "".join(sorted(set("".join(texts))))
    ids = {character: i for i, character in enumerate(alphabet)}
    one, other = (torch.tensor([ids[c] for c in text]) for text in texts)
    return one, other, alphabet
