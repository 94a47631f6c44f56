"""Many sequences in one pass over scattered blocks: the logits are those of each alone."""

import pytest
import torch

from aiexplained.lm import PagedCache, Segment, Transformer, TransformerConfig, paged_logits
from aiexplained.nn import reference_attention

CONFIG = TransformerConfig(
    d_model=20, d_ff=31, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=10, vocab_size=97
)
BLOCK, N_BLOCKS = 5, 23
# float32 sums of about a hundred terms in another order
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def model():
    return Transformer(CONFIG, seed=3)


def tokens(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, CONFIG.vocab_size, (n,), generator=generator).tolist()


def alone(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids]), last_only=True)[0, -1]


def test_sequences_in_one_pass_do_not_see_each_other(model):
    texts = [tokens(13, 0), tokens(1, 1), tokens(22, 2)]
    blocks = [[7, 0, 19], [22], [3, 11, 2, 8, 1]]
    cache = PagedCache(CONFIG, N_BLOCKS, block_size=BLOCK)
    logits = paged_logits(
        model, cache, [Segment(t, 0, b) for t, b in zip(texts, blocks, strict=True)]
    )
    for row, text in zip(logits, texts, strict=True):
        torch.testing.assert_close(row, alone(model, text), **CLOSE)


@pytest.mark.parametrize("cuts", [(1, 13, 31), (5, 10, 31), (30, 31)])
def test_pieces_beside_answers_give_the_logits_of_the_whole(model, cuts):
    long, answer = tokens(31, 4), tokens(17, 5)
    table, other = [20, 1, 13, 0, 6, 9, 4], [2, 5, 3, 22]
    cache = PagedCache(CONFIG, N_BLOCKS, block_size=BLOCK)
    paged_logits(model, cache, [Segment(answer[:11], 0, other)])
    start, written = 0, 11
    for stop in cuts:
        logits = paged_logits(
            model,
            cache,
            [Segment(long[start:stop], start, table), Segment([answer[written]], written, other)],
        )
        torch.testing.assert_close(logits[0], alone(model, long[:stop]), **CLOSE)
        written += 1
        torch.testing.assert_close(logits[1], alone(model, answer[:written]), **CLOSE)
        start = stop


def test_blocks_that_were_moved_serve_like_their_originals(model):
    text = tokens(14, 6)
    ours, theirs = (PagedCache(CONFIG, N_BLOCKS, block_size=BLOCK) for _ in range(2))
    paged_logits(model, ours, [Segment(text[:-1], 0, [9, 4, 17])])
    theirs.write([1, 20, 0], ours.read([9, 4, 17]))
    logits = paged_logits(model, theirs, [Segment(text[-1:], 13, [1, 20, 0])])
    torch.testing.assert_close(logits[0], alone(model, text), **CLOSE)
    theirs.write([1], ours.read([4]))  # the first block's contents are lost
    wrong = paged_logits(model, theirs, [Segment(text[-1:], 13, [1, 20, 0])])
    assert not torch.allclose(wrong[0], logits[0], atol=1e-3)


def test_the_operator_is_the_callers_and_the_models_own_comes_back(model):
    text = tokens(12, 7)
    before = [layer.operator for layer in model.attention_layers]
    calls = []

    def counted(query, key, value, **options):
        calls.append((query.shape[2], key.shape[2]))
        return reference_attention(query, key, value, **options)

    cache = PagedCache(CONFIG, N_BLOCKS, block_size=BLOCK)
    segments = [Segment(text, 0, [3, 1, 2]), Segment([5], 0, [0])]
    logits = paged_logits(model, cache, segments, attention=counted)
    assert calls == [(12, 12), (1, 1)] * CONFIG.n_layers
    torch.testing.assert_close(logits[0], alone(model, text), **CLOSE)
    assert [layer.operator for layer in model.attention_layers] == before


def test_a_block_has_the_bytes_of_its_keys_and_values():
    cache = PagedCache(CONFIG, 7, block_size=BLOCK, dtype=torch.float16)
    assert cache.block_bytes == 3 * 2 * 2 * BLOCK * 10 * 2


def test_rejects(model):
    cache = PagedCache(CONFIG, 7, block_size=BLOCK)
    with pytest.raises(ValueError, match="at least one segment"):
        paged_logits(model, cache, [])
    with pytest.raises(ValueError, match="11 tokens do not fit 2 blocks of 5"):
        paged_logits(model, cache, [Segment([1, 2], 9, [0, 1])])
    with pytest.raises(ValueError, match=r"needs tokens and start >= 0, got 0 and 3"):
        paged_logits(model, cache, [Segment([], 3, [0, 1])])
    with pytest.raises(ValueError, match="2 blocks cannot hold 3"):
        cache.write([0, 1], cache.read([2, 3, 4]))
    with pytest.raises(ValueError, match="at least 1, got 0 and 5"):
        PagedCache(CONFIG, 0, block_size=BLOCK)
