"""Concept title: say which properties are held here."""

import pytest

from aiexplained.concepts import concept_name as concept


def first_values(values, budget):
    """A plausible wrong rule: it meets the budget, but does not look at the values."""
    return [value if place < budget else 0.0 for place, value in enumerate(values)]


def loses_least(rule, values, budget):
    """Whether no value that ``rule`` drops is larger than one that it keeps."""
    pairs = list(zip(rule(values, budget), values, strict=True))
    dropped = [abs(value) for kept, value in pairs if kept == 0]
    return max(dropped, default=0) <= min(abs(kept) for kept, _ in pairs if kept != 0)


@pytest.mark.parametrize("seed", range(5))
def test_no_dropped_value_is_larger_than_a_kept_one(seed):
    values = concept.make_values(13, seed=seed)
    assert all(loses_least(concept.keep_largest, values, budget) for budget in range(1, 14))


def test_the_check_of_dropped_values_would_catch_the_first_ones():
    assert not loses_least(first_values, concept.make_values(13, seed=0), 5)


def test_the_budget_is_met_exactly():
    values = concept.make_values(13, seed=0)
    for budget in range(14):
        assert sum(value != 0 for value in concept.keep_largest(values, budget)) == budget


def test_energy_rises_with_the_budget_from_nothing_to_all():
    for shares in zip(*concept.measure_kept_energy(range(101)), strict=True):
        assert list(shares) == sorted(shares)
        assert (shares[0], shares[-1]) == (0, pytest.approx(1))


def test_values_of_equal_size_leave_nothing_to_choose():
    assert concept.kept_energy([2.0, -2.0, 2.0, 2.0], 3) == 3 / 4
    assert concept.kept_energy([0.0, 0.0], 1) == 1


@pytest.mark.parametrize("budget", [-1, 4])
def test_a_budget_outside_its_range_is_refused(budget):
    with pytest.raises(ValueError, match=f"between 0 and 3, got {budget}"):
        concept.keep_largest([1.0, 2.0, 3.0], budget)
