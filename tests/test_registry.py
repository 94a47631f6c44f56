"""The registry: verdicts that numbers must support, and concepts read without being imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aiexplained.errors import UnsupportedVerdict
from aiexplained.registry import (
    Claim,
    Concept,
    Kind,
    Reading,
    Source,
    Verdict,
    concepts,
    read_concept,
)  # fmt: skip

SOURCE = Source("a2026b", "A title", "A et al.", "2026-02-03", "https://example.org/paper")


def make_claim(**changes: Any) -> Claim:
    """A reported fall of 20 to 33 %, reproduced."""
    fields: dict[str, Any] = {
        "id": "ttft", "statement": "It falls", "reported": "−20 to −33 %", "where": "abstract",
        "source": "a2026b", "kind": Kind.MEASURED, "verdict": Verdict.REPRODUCED,
        "reported_low": -33, "reported_high": -20, "unit": "%", "direction_zero": 0,
    }  # fmt: skip
    return Claim(**(fields | changes))


def make_concept(**changes: Any) -> Concept:
    fields: dict[str, Any] = {
        "name": "x", "title": "X", "tag": "Serving", "headline": "News", "summary": "A summary.",
        "date": "2026-02-03", "sources": (SOURCE,),
    }  # fmt: skip
    return Concept(**(fields | changes))


def reading(value: float, low: float, high: float) -> Reading:
    return Reading(value, low, high, how="three seeds", n=3)


# ---- verdicts ----------------------------------------------------------------------------------

SUPPORTED = [
    pytest.param(reading(-25, -27, -23), Verdict.REPRODUCED, id="inside"),
    pytest.param(reading(-18, -21, -15), Verdict.REPRODUCED, id="the spread meets the range"),
    pytest.param(reading(-12, -15, -9), Verdict.DIRECTION, id="same side, smaller"),
    pytest.param(reading(-40, -44, -36), Verdict.DIRECTION, id="same side, larger"),
    pytest.param(reading(-3, -7, 1), Verdict.NOT_REPRODUCED, id="the spread crosses no effect"),
    pytest.param(reading(5, 3, 7), Verdict.NOT_REPRODUCED, id="the other side"),
]


@pytest.mark.parametrize(("ours", "verdict"), SUPPORTED)
def test_a_reading_supports_its_verdict_and_at_most_a_more_modest_one(
    ours: Reading, verdict: Verdict
) -> None:
    claim = make_claim(verdict=verdict, why="it fell less")
    assert claim.judge(ours) is verdict
    modest = {Verdict.DIRECTION} if verdict is Verdict.REPRODUCED and ours.high < 0 else set()
    for other in set(Verdict) - {verdict, Verdict.NOT_TESTABLE} - modest:
        with pytest.raises(UnsupportedVerdict, match=verdict.value):
            make_claim(verdict=other, why="it fell less").judge(ours)


def test_direction_works_for_a_gain_too() -> None:
    gain = make_claim(reported_low=5.6, reported_high=5.6, verdict=Verdict.DIRECTION)
    assert gain.judge(reading(2, 1, 3)) is Verdict.DIRECTION
    with pytest.raises(UnsupportedVerdict):
        gain.judge(reading(-2, -3, -1))


def test_without_a_zero_there_is_no_direction_to_reproduce() -> None:
    claim = make_claim(direction_zero=None, verdict=Verdict.DIRECTION)
    with pytest.raises(UnsupportedVerdict, match="not reproduced here"):
        claim.judge(reading(-12, -15, -9))


def test_arithmetic_checks_out_to_the_digits_shown_and_no_further() -> None:
    claim = make_claim(
        verdict=Verdict.ARITHMETIC, reported_low=1.2, reported_high=1.2, digits=1, unit="%"
    )
    assert claim.judge(Reading(1.2049, 1.2049, 1.2049, how="by hand")) is Verdict.ARITHMETIC
    with pytest.raises(UnsupportedVerdict):
        claim.judge(Reading(1.26, 1.26, 1.26, how="by hand"))


def test_a_number_with_a_spread_is_not_arithmetic() -> None:
    with pytest.raises(UnsupportedVerdict):
        make_claim(verdict=Verdict.ARITHMETIC).judge(reading(-25, -27, -23))


def test_the_refusal_names_claim_number_and_what_is_supported() -> None:
    with pytest.raises(UnsupportedVerdict, match=r"'ttft'.*-12 %.*−20 to −33 %.*direction"):
        make_claim().judge(reading(-12, -15, -9))


@given(
    value=st.floats(-90, 90), below=st.floats(0, 40), above=st.floats(0, 40),
    end=st.floats(-90, 90), width=st.floats(0, 40), zero=st.none() | st.floats(-90, 90),
)  # fmt: skip
def test_every_reading_supports_a_verdict_and_never_opposite_ones(
    value: float, below: float, above: float, end: float, width: float, zero: float | None
) -> None:
    assume(zero is None or not end <= zero <= end + width)
    claim = make_claim(reported_low=end, reported_high=end + width, direction_zero=zero)
    found = claim.supported(reading(value, value - below, value + above))
    assert found
    assert (Verdict.NOT_REPRODUCED in found) == (found == {Verdict.NOT_REPRODUCED})
    assert Verdict.ARITHMETIC not in found or Verdict.REPRODUCED in found
    if zero is None:
        assert Verdict.DIRECTION not in found


# ---- what may be written -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_claim(id="Time To"), "Claim.id"),
        (lambda: make_claim(kind=Kind.NONE), "not testable here"),
        (lambda: make_claim(verdict=Verdict.NOT_TESTABLE, why="no GPU"), "not testable here"),
        (lambda: make_claim(verdict=Verdict.NOT_REPRODUCED), "must say why"),
        (lambda: make_claim(reported_low=-20, reported_high=-33), "reported_low <="),
        (lambda: make_claim(reported_low=float("nan")), "reported_low <="),
        (lambda: reading(3, 4, 5), "low <= value <= high"),
        (lambda: Reading(1, 1, 1, how="", n=0), "at least 1"),
        (lambda: Source("k", "t", "a", "2026-02-03", "http://example.org"), "https://"),
        (lambda: Source("k", "t", "a", "in June", "https://example.org"), "isoformat"),
        (lambda: make_concept(sources=()), "at least one source"),
        (lambda: make_concept(claims=(make_claim(), make_claim())), "must differ"),
        (lambda: make_concept(claims=(make_claim(source="other"),)), "'other'"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_the_rule(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_an_unknown_claim_names_those_that_exist() -> None:
    concept = make_concept(name="soft_moe", claims=(make_claim(),))
    assert concept.claim("ttft").unit == "%"
    assert concept.page == "concepts/soft-moe"
    with pytest.raises(KeyError, match="ttft"):
        concept.claim("speed")


# ---- reading modules ---------------------------------------------------------------------------

MODULE = """
raise RuntimeError("a mechanism was run")
CONCEPT = Concept(
    name="{name}", title="X", tag="Serving", headline="News", summary="Summary.", date="{date}",
    sources=(Source("k", "T", "A", "2026-01-01", "https://example.org"),),
)
"""


def write(folder: Path, name: str, *, date: str = "2026-01-01", file: str = "") -> Path:
    path = folder / (file or f"{name}.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(MODULE.format(name=name, date=date), encoding="utf-8")
    return path


def test_a_concept_is_read_without_running_its_module(tmp_path: Path) -> None:
    assert read_concept(write(tmp_path, "x")).title == "X"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CONCEPT = Concept(name=__import__('os').name)", "literals and registry names only"),
        ("CONCEPT = make_concept()", "literals and registry names only"),
        ("CONCEPT = Concept(name=open('x').read())", "literals and registry names only"),
        ("CONCEPT = 'x'", "must be a Concept, got str"),
        ("def f():\n    CONCEPT = 1", "no top-level"),
        ("", "no top-level"),
    ],
)
def test_a_module_with_anything_but_literals_is_refused(
    tmp_path: Path, statement: str, message: str
) -> None:
    path = tmp_path / "x.py"
    path.write_text(statement, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_concept(path)


def test_a_concept_must_bear_the_name_of_its_module(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'y', the module is 'x'"):
        read_concept(write(tmp_path, "y", file="x.py"))


def test_concepts_are_modules_and_packages_newest_first(tmp_path: Path) -> None:
    write(tmp_path, "older", date="2026-01-01")
    write(tmp_path, "newer", date="2026-03-01", file="newer/__init__.py")
    write(tmp_path, "_private")
    write(tmp_path, "_hidden", file="_hidden/__init__.py")
    assert [concept.name for concept in concepts(tmp_path)] == ["newer", "older"]


def test_the_shipped_concepts_can_be_read_and_their_claims_rerun() -> None:
    for concept in concepts():
        for claim in concept.claims:
            assert claim.rerun or claim.study or claim.kind is Kind.NONE, (
                f"{concept.name}:{claim.id}"
            )


def loaded_by(statement: str, names: set[str]) -> set[str]:
    """Which of ``names`` a fresh interpreter has loaded after ``statement``."""
    code = f"import sys; {statement}; print(*({names!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_and_listing_concepts_loads_no_mechanism() -> None:
    heavy = {"torch", "numpy", "bokeh", "sphinx", "aiexplained.viz"} | {
        f"aiexplained.concepts.{concept.name}" for concept in concepts()
    }
    assert not loaded_by("from aiexplained.registry import concepts; concepts()", heavy)


def test_the_check_of_loaded_modules_would_notice_numpy() -> None:
    assert loaded_by("import numpy", {"numpy", "torch"}) == {"numpy"}


@pytest.mark.parametrize(("kind", "study"), [(Kind.RECORDED, ""), (Kind.MEASURED, "ttft")])
def test_a_recorded_claim_names_its_study_and_no_other_does(kind: Kind, study: str) -> None:
    with pytest.raises(ValueError, match="kind 'recorded' and a study go together"):
        Claim(
            "x", "It falls", "1", "Table 1", "doe2026", kind, Verdict.REPRODUCED, 1.0, 1.0,
            study=study,
        )  # fmt: skip


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 0.0)])
def test_no_effect_cannot_lie_inside_what_is_reported(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="direction_zero 0 must lie outside of the reported range"):
        Claim(
            "x", "It matches", "the same", "Table 1", "doe2026", Kind.MEASURED, Verdict.DIRECTION,
            low, high, direction_zero=0.0,
        )  # fmt: skip


def test_an_effect_may_be_reported_from_nothing_upwards() -> None:
    claim = Claim(
        "x", "It rises", "up to 5 %", "Table 1", "doe2026", Kind.MEASURED, Verdict.DIRECTION,
        0.0, 5.0, direction_zero=0.0,
    )  # fmt: skip
    assert Verdict.DIRECTION in claim.supported(Reading(1.0, 0.5, 2.0, "", 3))
