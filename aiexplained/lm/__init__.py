"""The one language model that tiny training runs and real weights share."""

from aiexplained.lm.generate import generate, next_token, nucleus_probabilities
from aiexplained.lm.kv_cache import KVCache
from aiexplained.lm.score import log_likelihood, perplexity
from aiexplained.lm.tokenizer import Tokenizer
from aiexplained.lm.transformer import Transformer, TransformerConfig
from aiexplained.lm.weights import load_gguf, load_safetensors

__all__ = [
    "KVCache",
    "Tokenizer",
    "Transformer",
    "TransformerConfig",
    "generate",
    "load_gguf",
    "load_safetensors",
    "log_likelihood",
    "next_token",
    "nucleus_probabilities",
    "perplexity",
]
