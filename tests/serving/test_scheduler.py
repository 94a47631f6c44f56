"""One engine: whatever the load and the limits, each sequence gets what it gets alone."""

from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.serving import EngineConfig, Scheduler, SequenceState, made_up_token


def alone(prompt, n):
    """The answer of a model that sees the sequence and nothing else."""
    outputs = []
    for _ in range(n):
        outputs.append(
            made_up_token(
                SimpleNamespace(prompt=prompt, outputs=outputs, length=len(prompt) + len(outputs))
            )
        )
    return outputs


class Engine:
    """Drives a scheduler and holds every step to the rules."""

    def __init__(self, **config):
        self.config = EngineConfig(**config)
        self.scheduler = Scheduler(self.config)
        self.plans = []

    def step(self, now=0.0):
        s, config = self.scheduler, self.config
        plan = s.schedule(now)
        self.plans.append(plan)
        assert len(s.running) + len(s.parked) <= config.max_num_seqs
        assert plan.n_tokens <= config.max_num_batched_tokens
        if config.policy == "prefill first":
            assert not (plan.prefill and plan.decode)
        self.check_cuts(plan)
        for sequence in plan.decode:
            assert len(sequence.blocks) * config.block_size >= sequence.length
        for sequence in plan.preempted:
            assert not sequence.blocks or sequence in s.running
        held = Counter(block for sequence in s.running for block in sequence.blocks)
        assert all(s.pool.owners(block) == n for block, n in held.items())
        writers = [p.sequence for p in plan.prefill if p.is_last] + list(plan.decode)
        return s.finish_step(plan, {w.id: made_up_token(w) for w in writers})

    def check_cuts(self, plan):
        multiple, most = max(self.config.block_size, 64), self.config.max_num_batched_tokens
        for i, piece in enumerate(plan.prefill):
            assert piece.count > 0
            assert piece.start == piece.sequence.computed
            alone_in_step = i == 0 and not plan.decode
            fills = self.config.policy == "mixed" and plan.n_tokens == most
            assert piece.is_last or piece.count % multiple == 0 or alone_in_step or fills

    def finish(self):
        """Steps until nothing is left; each has work, or the rest would wait for ever."""
        ended = []
        while self.scheduler.n_sequences:
            ended += self.step()
            assert not self.plans[-1].is_empty, f"{self.scheduler.n_sequences} sequences are stuck"
            assert len(self.plans) < 20_000
        return ended


prompts = st.builds(
    lambda opening, n, own: [7] * opening + [own] * n,
    st.integers(0, 37),
    st.sampled_from([1, 2, 11, 61, 151]),
    st.integers(0, 3),
)
loads = st.lists(st.tuples(prompts, st.integers(1, 23), st.integers(0, 5)), min_size=1, max_size=7)
configs = st.fixed_dictionaries(
    {
        "block_size": st.sampled_from([1, 3, 16, 67]),
        "max_num_seqs": st.sampled_from([1, 2, 5, 512]),
        "max_num_batched_tokens": st.sampled_from([1, 3, 61, 131, 997]),
        "policy": st.sampled_from(["prefill first", "mixed"]),
        "prefix_caching": st.booleans(),
    }
)


@settings(deadline=None, max_examples=200)
@given(loads, configs, st.floats(0, 1))
def test_every_sequence_ends_with_what_it_gets_alone(load, config, memory):
    size = config["block_size"]
    needs = [-(-(len(prompt) + n) // size) for prompt, n, _ in load]
    engine = Engine(n_blocks=max(needs) + int(memory * (sum(needs) - max(needs))), **config)
    sequences = [SequenceState(i, prompt, n) for i, (prompt, n, _) in enumerate(load)]
    ended = []
    for sequence, (_, _, steps) in zip(sequences, load, strict=True):
        engine.scheduler.add(sequence)
        for _ in range(steps):
            ended += engine.step()
    ended += engine.finish()
    assert sorted(s.id for s in ended) == [s.id for s in sequences]
    for sequence, (prompt, n, _) in zip(sequences, load, strict=True):
        assert sequence.outputs == alone(prompt, n)
    assert engine.scheduler.pool.n_owned == 0


@settings(deadline=None, max_examples=30)
@given(loads, configs, st.data())
def test_cancelled_sequences_leave_no_block_behind(load, config, data):
    engine = Engine(n_blocks=997, **config)
    for i, (prompt, n, steps) in enumerate(load):
        engine.scheduler.add(SequenceState(i, prompt, n))
        for _ in range(steps):
            engine.step()
        engine.scheduler.cancel(data.draw(st.integers(0, len(load))))
    engine.finish()
    assert engine.scheduler.pool.n_owned == 0


def test_a_token_that_is_lost_or_doubled_changes_all_that_follow():
    right = alone([3, 5, 7], 13)
    for wrong in (right[:4] + right[5:8], [*right[:4], right[3]]):
        state = SequenceState(0, [3, 5, 7], 13, outputs=list(wrong))
        follows = []
        while not state.finished:
            follows.append(made_up_token(state))
            state.outputs.append(follows[-1])
        assert all(a != b for a, b in zip(follows, right[len(wrong) :], strict=True))


def fill(engine, n, length, max_new_tokens=23):
    sequences = [SequenceState(i, [i] * length, max_new_tokens) for i in range(n)]
    for sequence in sequences:
        engine.scheduler.add(sequence)
    return sequences


def test_prefill_first_makes_writers_wait_and_mixed_does_not():
    batches = {}
    for policy in ("prefill first", "mixed"):
        engine = Engine(n_blocks=97, policy=policy)
        fill(engine, 1, 5)
        engine.step()
        engine.scheduler.add(SequenceState(9, [9] * 7, 2))
        engine.step()
        plan = engine.plans[-1]
        batches[policy] = (len(plan.prefill), len(plan.decode))
    assert batches == {"prefill first": (1, 0), "mixed": (1, 1)}


@pytest.mark.parametrize("policy", ["prefill first", "mixed"])
def test_a_step_never_has_more_tokens_than_its_budget_though_more_sequences_write(policy):
    engine = Engine(n_blocks=97, max_num_batched_tokens=3, policy=policy)
    sequences = fill(engine, 7, 1, 5)
    engine.finish()
    assert max(plan.n_tokens for plan in engine.plans) == 3
    assert all(s.outputs == alone(s.prompt, 5) for s in sequences)


def test_what_the_budget_cuts_is_read_in_pieces_of_whole_multiples():
    engine = Engine(n_blocks=97, max_num_batched_tokens=131)
    long = SequenceState(0, [1] * 300, 2)
    engine.scheduler.add(long)
    engine.step()
    engine.step()
    engine.step()
    assert [[p.count for p in plan.prefill] for plan in engine.plans] == [[128], [128], [44]]
    assert len(long.outputs) == 1


def test_a_budget_below_the_multiple_is_used_whole_only_by_an_empty_batch():
    engine = Engine(n_blocks=97, max_num_batched_tokens=61)
    for i, length in enumerate((5, 100)):
        engine.scheduler.add(SequenceState(i, [9 + i] * length, 1))
    engine.finish()
    assert [[p.count for p in plan.prefill] for plan in engine.plans] == [[5], [61], [39]]


def test_a_mixed_step_fills_its_budget():
    engine = Engine(n_blocks=97, max_num_batched_tokens=61, policy="mixed")
    (writer,) = fill(engine, 1, 5, 4)
    engine.step()
    engine.scheduler.add(SequenceState(9, [9] * 100, 1))
    plan = engine.scheduler.schedule()
    assert [p.count for p in plan.prefill] == [60]
    assert plan.decode == (writer,)


def test_the_last_that_runs_yields_where_memory_is_short_and_goes_to_the_front():
    engine = Engine(n_blocks=5, block_size=4, prefix_caching=False)
    first, second = fill(engine, 2, 8, 8)  # two blocks each; each will need two more
    behind = SequenceState(9, [9] * 8, 1)
    engine.scheduler.add(behind)
    engine.step()
    assert (len(first.blocks), len(second.blocks)) == (2, 2)
    engine.step()  # the ninth token of the first takes the fifth block
    assert engine.plans[-1].decode == (first,)
    assert engine.plans[-1].preempted == (second,)
    assert list(engine.scheduler.waiting) == [second, behind]
    assert (second.blocks, second.computed, second.preemptions) == ([], 0, 1)
    written = list(second.outputs)
    engine.finish()
    assert second.outputs[: len(written)] == written  # read again, not written again
    assert [first.outputs, second.outputs] == [alone(s.prompt, 8) for s in (first, second)]


def test_a_sequence_that_was_preempted_finds_its_own_blocks_again():
    engine = Engine(n_blocks=97, block_size=4)
    (sequence,) = fill(engine, 1, 8, 8)
    engine.step()
    engine.scheduler._preempt()
    engine.step()
    (piece,) = engine.plans[-1].prefill
    assert (piece.start, piece.count) == (8, 1)
    engine.finish()
    assert sequence.outputs == alone(sequence.prompt, 8)


def test_the_delay_gate_opens_when_the_prompt_has_waited_long_enough():
    scheduler = Scheduler(EngineConfig(n_blocks=97, delay_factor=0.5))
    scheduler.add(SequenceState(0, [1], 23))
    scheduler.finish_step(scheduler.schedule(0.0), {0: 1}, duration_s=4.0)
    scheduler.add(SequenceState(1, [2], 2, arrival_s=4.0))
    for now in (4.0, 5.0, 6.0):
        plan = scheduler.schedule(now)
        assert (len(plan.prefill), len(plan.decode)) == (0, 1)
        scheduler.finish_step(plan, {0: 1}, duration_s=1.0)
    assert len(scheduler.schedule(6.25).prefill) == 1  # more than 0.5 * 4 s


def test_the_delay_gate_is_open_where_nothing_runs_or_it_is_off():
    for factor, n_running in ((0.5, 0), (0.0, 1)):
        scheduler = Scheduler(EngineConfig(n_blocks=97, delay_factor=factor))
        scheduler.add(SequenceState(0, [1], 1 + n_running))
        scheduler.finish_step(scheduler.schedule(0.0), {0: 1}, duration_s=4.0)
        scheduler.add(SequenceState(1, [2], 2, arrival_s=4.0))
        assert len(scheduler.schedule(4.0).prefill) == 1


@pytest.mark.parametrize(
    ("length", "shared"), [(47, 2), (48, 2), (49, 3), (64, 3), (16, 0), (17, 1)]
)
def test_the_last_token_is_never_taken_from_the_cache(length, shared):
    engine = Engine(n_blocks=97)
    engine.scheduler.add(SequenceState(0, list(range(67)), 1))
    engine.finish()
    engine.scheduler.add(SequenceState(1, list(range(length)), 1))
    engine.finish()
    (piece,) = engine.plans[-1].prefill
    assert (piece.start, piece.count) == (16 * shared, length - 16 * shared)


def test_without_prefix_caching_the_same_prompt_is_read_whole():
    engine = Engine(n_blocks=97, prefix_caching=False)
    for i in range(2):
        engine.scheduler.add(SequenceState(i, list(range(67)), 1))
        engine.finish()
    assert [p.count for plan in engine.plans for p in plan.prefill] == [67, 67]


def test_what_was_written_is_found_by_the_next_turn():
    engine = Engine(n_blocks=97, block_size=4)
    first = SequenceState(0, [1, 2, 3], 7)
    engine.scheduler.add(first)
    engine.finish()
    engine.scheduler.add(SequenceState(1, [*first.prompt, *first.outputs, 5], 1))
    engine.finish()
    # Of 10 tokens the last has no keys and values yet: two whole blocks of 4.
    assert engine.plans[-1].prefill[0].start == 8


def test_a_parked_sequence_holds_its_place_and_runs_when_its_blocks_arrive():
    scheduler = Scheduler(EngineConfig(n_blocks=97, max_num_seqs=2))
    for i in range(3):
        scheduler.add(SequenceState(i, [i] * 37, 3, remote=True))
    plan = scheduler.schedule()
    assert [s.id for s in plan.fetch] == [0, 1]  # the third waits: running + parked <= 2
    assert plan.is_empty
    assert [len(s.blocks) for s in plan.fetch] == [3, 3]
    arrived = scheduler.arrive(1, 11)
    assert (arrived.computed, arrived.outputs) == (37, [11])
    plan = scheduler.schedule()
    assert (plan.decode, plan.fetch) == ((arrived,), ())
    scheduler.finish_step(plan, {1: 12})
    scheduler.finish_step(scheduler.schedule(), {1: 13})
    assert [s.id for s in scheduler.schedule().fetch] == [2]
    assert arrived.outputs == [11, 12, 13]


def test_an_answer_of_one_token_ends_as_it_arrives():
    scheduler = Scheduler(EngineConfig(n_blocks=97))
    scheduler.add(SequenceState(0, [1], 1, remote=True))
    scheduler.schedule()
    assert scheduler.arrive(0, 11).finished
    assert (scheduler.n_sequences, scheduler.pool.n_owned) == (0, 0)


def test_pinned_blocks_stay_until_they_are_released():
    scheduler = Scheduler(EngineConfig(n_blocks=97))
    for i in range(2):
        scheduler.add(SequenceState(i, [i] * 37, 1))
    scheduler.finish_step(scheduler.schedule(), {0: 1, 1: 1}, pin=True)
    assert (scheduler.n_sequences, scheduler.pool.n_owned, scheduler.load_tokens) == (0, 6, 0)
    scheduler.release(0)
    scheduler.cancel(1)
    assert scheduler.pool.n_owned == 0


def test_a_sequence_that_fills_memory_to_the_last_slot_is_served():
    # Keys and values of the last token that is written are never needed: 19 + 2 - 1 = 5 * 4.
    engine = Engine(n_blocks=5, block_size=4)
    sequence = SequenceState(0, [1] * 19, 2)
    engine.scheduler.add(sequence)
    engine.finish()
    assert sequence.outputs == alone([1] * 19, 2)
    with pytest.raises(ValueError, match="sequence 1 needs 6 blocks, the engine has 5"):
        engine.scheduler.add(SequenceState(1, [1] * 19, 3))
    assert engine.scheduler.n_sequences == 0


def test_a_step_takes_exactly_the_tokens_that_it_writes():
    scheduler = Scheduler(EngineConfig(n_blocks=97))
    scheduler.add(SequenceState(5, [1], 2))
    plan = scheduler.schedule()
    for wrong in ({}, {5: 1, 6: 1}, {6: 1}):
        with pytest.raises(ValueError, match=r"writes tokens of sequences \[5\], got"):
            scheduler.finish_step(plan, wrong)
    scheduler.finish_step(plan, {5: 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_blocks": 0}, "EngineConfig.n_blocks must be at least 1, got 0"),
        ({"block_size": 0}, "EngineConfig.block_size must be at least 1, got 0"),
        ({"max_num_seqs": 0}, "EngineConfig.max_num_seqs must be at least 1, got 0"),
        ({"max_num_batched_tokens": -1}, "max_num_batched_tokens must be at least 1, got -1"),
        ({"policy": "decode first"}, "must be 'prefill first' or 'mixed', got 'decode first'"),
        ({"delay_factor": -0.5}, "delay_factor must not be negative, got -0.5"),
    ],
)
def test_rejects_limits_that_cannot_be_kept(options, message):
    with pytest.raises(ValueError, match=message):
        EngineConfig(**options)


@pytest.mark.parametrize(("prompt", "n"), [([], 1), ([1], 0)])
def test_rejects_sequences_without_work(prompt, n):
    with pytest.raises(ValueError, match=f"at least 1, got {len(prompt)} tokens and {n}"):
        SequenceState(0, prompt, n)
