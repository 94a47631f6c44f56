"""CacheWeaver on the real model: reuse is exact, and the summaries are what the runs say."""

import numpy as np
import pytest
import torch

from aiexplained.concepts import cacheweaver as cw
from aiexplained.concepts.cacheweaver import real
from aiexplained.data.python_questions import load_questions
from aiexplained.errors import WeightsUnavailable
from aiexplained.lm import Transformer, TransformerConfig

TINY = TransformerConfig(
    d_model=20, d_ff=31, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=10, vocab_size=97
)


def prompts(n, seed):
    """Prompts that share passages of awkward lengths in changing orders."""
    rng = np.random.default_rng(seed)
    passages = [rng.integers(0, 97, size=length).tolist() for length in (17, 23, 5, 31)]
    for _ in range(n):
        yield [
            7,
            7,
            7,
            *(t for i in rng.permutation(4) for t in passages[i]),
            int(rng.integers(97)),
        ]


@pytest.mark.parametrize("capacity_blocks", [5, 60])
def test_reused_blocks_give_the_logits_of_an_uncached_run(capacity_blocks):
    model = Transformer(TINY, seed=3)
    engine = real.PrefixEngine(model, capacity_blocks=capacity_blocks, block_size=4)
    cold = real.PrefixEngine(model, capacity_blocks=0)
    reused = 0
    for prompt in prompts(40, seed=5):
        first, alone = engine.first_token(prompt), cold.first_token(prompt)
        # float32 sums of about a hundred terms in another order
        torch.testing.assert_close(first.logits, alone.logits, atol=1e-6, rtol=1e-5)
        assert alone.cached == 0
        reused += first.cached
    assert reused > 0


def test_the_exactness_check_would_catch_a_block_in_the_wrong_slot():
    model = Transformer(TINY, seed=3)
    engine = real.PrefixEngine(model, capacity_blocks=60, block_size=4)
    prompt = next(prompts(1, seed=5))
    right = engine.first_token(prompt).logits
    engine.pool[:, :, [0, 1]] = engine.pool[:, :, [1, 0]]
    engine.pool = engine.pool.flip(2)
    assert not torch.allclose(engine.first_token(prompt).logits, right, atol=1e-3)


@pytest.fixture(scope="module")
def corpus():
    try:
        return real.load_corpus()
    except WeightsUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.weights
@pytest.mark.parametrize("kind", real.TRACES)
def test_traces_of_real_retrieval_repeat_with_their_seed(corpus, kind):
    first, again, other = (
        real.make_trace(corpus, kind, n_requests=23, k=5, seed=s) for s in (1, 1, 2)
    )
    assert first == again != other
    assert len(first) == 23
    assert all(len(set(passages)) == 5 for _, passages in first)


@pytest.mark.weights
def test_no_query_of_the_browsing_trace_comes_twice(corpus):
    texts = [text for text, _ in real.make_trace(corpus, "browsing", n_requests=60, k=5, seed=0)]
    assert len(set(texts)) == 60


@pytest.mark.weights
def test_the_right_passage_is_mostly_among_the_first_five(corpus):
    passages = real.load_passages()
    found = [
        bool(set(corpus.hits[q.text][:5]) & set(real.find_evidence(q, passages)))
        for q in load_questions(passages)
    ]
    assert np.mean(found) > 0.9


@pytest.mark.weights
def test_weaving_reuses_more_on_the_real_model_and_stays_exact(corpus):
    result = real.measure_ttft(kind="conversation", seed=0, n_requests=6, k=2)
    assert result["max_logit_error"] < 1e-3  # float32, 30 layers, logits of about 20
    assert result["n_checked"] == 2
    assert sum(result["greedy"]["cached"]) >= sum(result["retrieval"]["cached"])
    assert result["greedy"]["total"] == result["retrieval"]["total"]
    assert sum(result["oracle"]["cached"]) > 0


@pytest.mark.weights
def test_an_answer_is_likelier_with_the_passage_that_holds_it(corpus):
    rows = real.measure_quality(part=3, n_parts=24, k=2)["rows"]
    assert len(rows) >= 2
    gain = [row["retrieval"] - row["without"] for row in rows]
    assert np.mean(gain) > 0
    assert all(len(row["by_place"]) == 2 for row in rows)


# ---- summaries -------------------------------------------------------------------------------


def ttft_entry(seed, seconds, kind="questions"):
    rows = {
        name: {"cpu_s": s, "cached": [0, 16], "total": [100, 100]} for name, s in seconds.items()
    }
    result = {**rows, "max_logit_error": 0.0, "n_checked": 1}
    return {"setting": {"kind": kind, "seed": seed}, "result": result}


def test_changes_and_shares_follow_from_the_medians():
    entry = ttft_entry(
        0, {"retrieval": [2.0, 4.0, 9.0], "greedy": [1.0, 3.0, 9.0], "oracle": [2.0] * 3}
    )
    summary = cw.summarize_ttft([entry])["questions"]
    assert summary["greedy"]["change"] == [-25.0]
    assert summary["greedy"]["oracle_share"] == [50.0]
    assert summary["retrieval"]["change"] == [0.0]
    assert summary["greedy"]["cached"] == [8.0]


def test_a_seed_in_which_the_oracle_gains_nothing_has_no_share():
    entry = ttft_entry(0, {"retrieval": [2.0], "greedy": [2.0], "oracle": [2.0]})
    assert "oracle_share" not in cw.summarize_ttft([entry])["questions"]["greedy"]


def test_the_fitted_line_recovers_its_own_constants():
    read = np.array([10, 100, 250, 700])
    rows = {"cpu_s": (0.02 + 0.003 * read).tolist(), "cached": [0] * 4, "total": read.tolist()}
    overhead_s, per_token_s = cw.fit_ttft([{"result": {"greedy": rows, "max_logit_error": 0.0}}])
    assert (overhead_s, per_token_s) == (pytest.approx(0.02), pytest.approx(0.003))


def test_the_bootstrap_interval_holds_the_mean_and_narrows_with_more_questions():
    rng = np.random.default_rng(1)
    rows = [
        {
            "retrieval": -1.0,
            "woven": -1 + d,
            "without": -2.0,
            "changed": i % 2 == 0,
            "by_place": [-1.0, -1.5],
        }
        for i, d in enumerate(rng.normal(0.1, 0.3, size=200))
    ]
    few, many = (cw.summarize_quality([{"result": {"rows": rows[:n]}}]) for n in (20, 200))
    mean, low, high = many["woven"]
    assert low < mean < high
    assert high - low < few["woven"][2] - few["woven"][1]
    assert many["without"] == (-1.0, -1.0, -1.0)
    assert many["place 2"][0] == -0.5


def test_sweeps_report_the_gain_over_retrieval_order():
    def entry(k, session, blocks, gain):
        shares = {p: {"cached_share": 0.2} for p in ("retrieval", "sorted", "oracle", "look-ahead")}
        shares["greedy"] = {"cached_share": 0.2 + gain}
        setting = {"k": k, "session": session, "capacity_blocks": blocks}
        return {"setting": setting, "result": shares}

    entries = [entry(5, 4.0, 3000, 0.1), entry(5, 4.0, 3000, 0.3), entry(8, 4.0, 3000, 0.5)]
    points = cw.summarize_sweep(entries)["passages a request"]["greedy"]["points"]
    assert points == [pytest.approx((20, 10, 30)), pytest.approx((50, 50, 50))]
    assert cw.swept_values(entries)["passages a request"] == [5, 8]
