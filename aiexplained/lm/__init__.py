"""The one language model that tiny training runs and real weights share, and a byte classifier."""

from aiexplained.lm.byte_classifier import (
    ByteClassifier,
    ByteClassifierConfig,
    load_byte_classifier,
    selective_scan,
)
from aiexplained.lm.fit import fit, mean_loss, next_token_loss, sample_windows
from aiexplained.lm.generate import generate, next_token, nucleus_probabilities
from aiexplained.lm.kv_cache import KVCache
from aiexplained.lm.paged import PagedCache, Segment, paged_logits
from aiexplained.lm.score import log_likelihood, perplexity
from aiexplained.lm.tokenizer import (
    Tokenizer,
    encode_characters,
    encode_documents,
    train_tokenizer,
)
from aiexplained.lm.transformer import Transformer, TransformerConfig
from aiexplained.lm.weights import load_gguf, load_safetensors

__all__ = [
    "ByteClassifier",
    "ByteClassifierConfig",
    "KVCache",
    "PagedCache",
    "Segment",
    "Tokenizer",
    "Transformer",
    "TransformerConfig",
    "encode_characters",
    "encode_documents",
    "fit",
    "generate",
    "load_byte_classifier",
    "load_gguf",
    "load_safetensors",
    "log_likelihood",
    "mean_loss",
    "next_token",
    "next_token_loss",
    "nucleus_probabilities",
    "paged_logits",
    "perplexity",
    "sample_windows",
    "selective_scan",
    "train_tokenizer",
]
