"""A small language model that processes started by tests can load by name."""

from aiexplained.lm import Transformer, TransformerConfig

CONFIG = TransformerConfig(
    d_model=20, d_ff=31, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=10, vocab_size=97
)


def load_tiny() -> Transformer:
    return Transformer(CONFIG, seed=3)


def fail_to_load() -> Transformer:
    raise OSError("no weights here")
