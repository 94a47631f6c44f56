"""Small fleets and requests, and what holds for every simulated run."""

from itertools import pairwise
from types import SimpleNamespace

from hypothesis import strategies as st

from aiexplained.serving import EngineConfig, Fleet, Link, Request, StepCost, made_up_token

# Powers of two, so that sums are exact: a prompt of 32 tokens is read in 8 s, one of 40 in 10 s;
# a step that writes takes 1 s and 1/64 s a token that it attends to; a block travels in 1/4 s.
COST = StepCost(overhead_s=0.0, token_s=1 / 4, pair_s=0.0, weights_s=1.0, kv_token_s=1 / 64)
LINK = Link(bandwidth=64.0, latency_s=0.5, kv_bytes_per_token=1.0)


class CountedCost(StepCost):
    """Ends a simulation that would not end by itself."""

    def __post_init__(self):
        object.__setattr__(self, "steps", iter(range(20_000)))

    def seconds(self, **work):
        assert next(self.steps, None) is not None, "the simulation does not end"
        return super().seconds(**work)


def alone(prompt, n):
    """The answer of a model that sees the request and nothing else."""
    outputs = []
    for _ in range(n):
        length = len(prompt) + len(outputs)
        outputs.append(
            made_up_token(SimpleNamespace(prompt=prompt, outputs=outputs, length=length))
        )
    return outputs


def assert_disjoint(intervals):
    for (_, end), (start, _) in pairwise(sorted(intervals)):
        assert start >= end, "two at once"


def check(run, fleet, requests):
    """What holds for every run, with failures or without."""
    size = fleet.engine.block_size
    assert [s.request for s in run.served] == list(requests)
    for served in run.served:
        request = served.request
        right = alone(request.prompt, request.max_new_tokens)
        assert served.outputs == (right[: len(served.outputs)] if served.failed else right)
        assert len(served.token_times_s) == len(served.outputs)
        times = [served.start_s, *served.token_times_s]
        assert times == sorted(times)
        assert not served.token_times_s or served.ttft_s > 0
    for engine in range(fleet.n_engines):
        assert_disjoint((s.start_s, s.end_s) for s in run.spans if s.engine == engine)
        assert_disjoint(
            (t.start_s, t.end_s) for t in run.transfers if engine in (t.source, t.target)
        )
        assert run.most_in_engine[engine] <= fleet.engine.max_num_seqs
    for records in (run.spans, run.transfers):
        assert [r.start_s for r in records] == sorted(r.start_s for r in records)
    for transfer in run.transfers:
        served = run.served[[r.id for r in requests].index(transfer.request)]
        if served.attempts == 1 and not served.failed:
            whole = -(-len(served.request.prompt) // size)
            assert transfer.n_blocks == whole - transfer.skipped_blocks > 0
            assert transfer.end_s == transfer.start_s + fleet.link.seconds(transfer.n_blocks * size)


def make_fleet(kind, n=1, *, link=None, cost=None, **engine):
    """A fleet of ``2 * n`` engines."""
    policy = "mixed" if kind == "mixed" else "prefill first"
    engine = EngineConfig(**{"n_blocks": 997, "policy": policy, **engine})
    shape = {"n_prefill": n, "n_decode": n} if kind == "two pools" else {"n_colocated": 2 * n}
    return Fleet(**shape, engine=engine, cost=cost or CountedCost(), link=link or Link())


KINDS = ["prefill first", "mixed", "two pools"]
arrivals = st.lists(
    st.tuples(
        st.integers(0, 37),  # of an opening that all share
        st.sampled_from([1, 2, 11, 48, 151]),
        st.integers(1, 13),
        st.floats(0, 0.25),
    ),
    min_size=1,
    max_size=11,
)
engines = st.fixed_dictionaries(
    {
        "block_size": st.sampled_from([3, 16]),
        "max_num_seqs": st.sampled_from([1, 2, 5, 512]),
        "max_num_batched_tokens": st.sampled_from([3, 61, 131, 997]),
        "prefix_caching": st.booleans(),
        "delay_factor": st.sampled_from([0.0, 0.5, 5.0]),
    }
)


def make_requests(drawn):
    times = sorted(at for *_, at in drawn)
    return [
        Request(101 + i, [7] * opening + [i % 3] * n, answer, at)
        for i, ((opening, n, answer, _), at) in enumerate(zip(drawn, times, strict=True))
    ]


def blocks_of(requests, size):
    return [-(-(len(r.prompt) + r.max_new_tokens) // size) for r in requests]
