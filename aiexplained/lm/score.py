"""How likely a model finds a text."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aiexplained.lm.kv_cache import KVCache
from aiexplained.lm.transformer import Transformer


@torch.inference_mode()
def log_likelihood(
    model: Transformer,
    prompt_ids: Int[Tensor, "T"],
    answer_ids: Int[Tensor, "A"],
    cache: KVCache | None = None,
) -> Float[Tensor, "A"]:
    """Log-probability of each answer token, given the prompt and the answer so far.

    Args:
        model: The language model.
        prompt_ids: What the answer follows, at least one token; with a ``cache``, the part of it
            that is not cached.
        answer_ids: The answer, at least one token.
        cache: What the model has read before; left as it was.

    Returns:
        Natural logarithms, float32.

    Raises:
        ValueError: if the prompt or the answer is empty.

    Example:
        Several answers to one long prompt, read once::

            model(prompt[None, :-1], cache=cache, last_only=True)
            scores = [log_likelihood(model, prompt[-1:], a, cache).sum() for a in answers]
    """
    if len(prompt_ids) < 1 or len(answer_ids) < 1:
        raise ValueError(
            f"prompt and answer need a token each, got {len(prompt_ids)} and {len(answer_ids)}"
        )
    length = cache.length if cache is not None else 0
    read = torch.cat((prompt_ids, answer_ids[:-1]))
    hidden = model.hidden_states(read[None], cache=cache)[:, -len(answer_ids) :]
    if cache is not None:
        cache.crop(length)
    log_probs = model.logits(hidden)[0].float().log_softmax(dim=-1)
    return log_probs.gather(1, answer_ids[:, None])[:, 0]


def perplexity(
    model: Transformer, token_ids: Int[Tensor, "T"], *, seq_len: int | None = None
) -> float:
    """``exp`` of the mean negative log-likelihood of a text's tokens, the first one given.

    Args:
        model: The language model.
        token_ids: The text, at least two tokens.
        seq_len: A longer text is read in pieces of this many tokens, each starting from the last
            token of the piece before; default: the model's ``max_seq_len``.

    Raises:
        ValueError: if the text or the pieces are shorter than two tokens.
    """
    seq_len = model.config.max_seq_len if seq_len is None else seq_len
    if len(token_ids) < 2 or seq_len < 2:
        raise ValueError(
            f"perplexity needs 2 tokens and seq_len >= 2, got {len(token_ids)} and {seq_len}"
        )
    pieces = [token_ids[i : i + seq_len] for i in range(0, len(token_ids) - 1, seq_len - 1)]
    scores = torch.cat([log_likelihood(model, piece[:1], piece[1:]) for piece in pieces])
    return float((-scores.mean()).exp())
