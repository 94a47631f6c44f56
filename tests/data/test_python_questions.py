from collections import Counter
from dataclasses import replace

import pytest

from aiexplained.data.python_questions import find_evidence, load_questions
from aiexplained.data.python_reference import load_passages


@pytest.fixture(scope="module")
def questions():
    return load_questions()


def test_each_of_24_subjects_has_three_questions(questions):
    counts = Counter(q.subject for q in questions)
    assert len(counts) == 24
    assert set(counts.values()) == {3}


def test_ids_and_texts_are_unique(questions):
    assert len({q.id for q in questions}) == len({q.text for q in questions}) == 72


def test_the_evidence_is_found_in_one_passage(questions):
    found = {q.id: [load_passages()[i].id for i in find_evidence(q, load_passages())]
             for q in questions}  # fmt: skip
    assert {name: ids for name, ids in found.items() if len(ids) != 1} == {}


def test_answers_are_short_and_evidence_is_long_enough_to_be_distinctive(questions):
    for question in questions:
        assert 1 <= len(question.answer.split()) <= 8, question.id
        assert len(question.evidence) >= 20, question.id
        assert question.text.endswith("?"), question.id


def test_no_question_repeats_another_of_its_subject(questions):
    for question in questions:
        words = set(question.text.lower().split())
        for other in questions:
            if other.subject == question.subject and other.id != question.id:
                shared = words & set(other.text.lower().split())
                assert len(shared) <= 0.6 * len(words), (question.id, other.id)


def test_missing_evidence_names_the_question_and_can_be_skipped(questions):
    target = questions[4]
    changed = [
        replace(p, text=p.text.replace(target.evidence, "other words")) for p in load_passages()
    ]
    with pytest.raises(LookupError, match=rf"Python 3\.\d+.* {target.id};"):
        load_questions(changed)
    left = load_questions(changed, skip_missing=True)
    assert [q.id for q in left] == [q.id for q in questions if q.id != target.id]
