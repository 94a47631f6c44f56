"""Two pools with the real model: whole blocks move, and the answers stay those of `generate`."""

import pytest
import torch

from aiexplained.concepts.atom import Pools, real
from aiexplained.lm import generate


def test_requests_are_passages_of_the_text_and_change_with_the_seed(smollm2):
    draw = {"arrival_rate_rps": 2.0, "prompt_tokens": (17, 41), "output_tokens": (3, 7)}
    requests = real.text_requests(5, seed=3, **draw)
    assert requests == real.text_requests(5, seed=3, **draw)
    assert requests != real.text_requests(5, seed=4, **draw)
    assert all(17 <= len(r.prompt) <= 41 and 3 <= r.max_new_tokens <= 7 for r in requests)
    words = smollm2.tokenizer.decode(requests[0].prompt)
    assert len(words.split()) > 5


def test_two_pools_answer_as_the_model_alone_does(smollm2):
    requests = real.text_requests(
        3, arrival_rate_rps=20.0, seed=0, prompt_tokens=(40, 90), output_tokens=(5, 9)
    )
    sizes, engine = real.SYSTEMS["two pools"]
    with Pools(real.load_model, engine=engine, **sizes) as pools:
        run = pools.serve(requests)
    for served in run.served:
        prompt = torch.tensor([served.request.prompt])
        n = served.request.max_new_tokens
        alone = generate(smollm2.model, prompt, max_new_tokens=n)
        assert served.outputs == alone[0].tolist()
    assert [t.n_blocks for t in sorted(run.transfers)] == [
        -(-len(r.prompt) // engine.block_size) for r in requests
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "got 0 and 1.0"),
        ({"arrival_rate_rps": 0.0}, "got 3 and 0.0"),
        ({"prompt_tokens": (9, 5)}, "prompt_tokens needs 1 <= shortest <= longest, got 9, 5"),
        ({"output_tokens": (0, 5)}, "output_tokens needs 1 <= shortest <= longest, got 0, 5"),
    ],
)
def test_rejects_requests(options, message):
    arguments = {"n": 3, "arrival_rate_rps": 1.0, "seed": 0} | options
    with pytest.raises(ValueError, match=message):
        real.text_requests(arguments.pop("n"), **arguments)


def test_rejects_an_unknown_system():
    with pytest.raises(ValueError, match=r"'two pools'.*got 'three pools'"):
        real.measure_pools(system="three pools", seed=0)
