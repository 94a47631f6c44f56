"""72 questions on the Python language reference, with answers and the words that support them.

Written for this project: 24 subjects of three related questions each, so that the questions of one
subject tend to retrieve overlapping passages, in different orders, as follow-up questions do. The
subjects are those of 35 drafted ones whose questions did so most. Each question is answered in a
few words by one passage of :func:`aiexplained.data.python_reference.load_passages`, which
``evidence``, a verbatim fragment, finds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from aiexplained.data.python_reference import Passage, load_passages


@dataclass(frozen=True)
class Question:
    """A question with its answer.

    Args:
        id: Subject and number, e.g. ``"sorting/2"``.
        subject: What the question is about; three questions share a subject.
        text: The question, in plain English.
        answer: Its answer in at most eight words.
        evidence: Verbatim fragment of the passage that gives the answer.
    """

    id: str
    subject: str
    text: str
    answer: str
    evidence: str


def load_questions(
    passages: Sequence[Passage] | None = None, *, skip_missing: bool = False
) -> tuple[Question, ...]:
    """The questions, grouped by subject, checked against the passages.

    Args:
        passages: Passages that must hold the evidence; those of
            :func:`~aiexplained.data.python_reference.load_passages` by default.
        skip_missing: Leave out questions whose evidence no passage holds, instead of raising:
            another version of Python may word a sentence differently.

    Raises:
        LookupError: if evidence is missing and ``skip_missing`` is false; the message names the
            questions and the version of Python whose text was searched.
    """
    held = load_passages() if passages is None else passages
    questions = _read_questions()
    missing = [question for question in questions if not find_evidence(question, held)]
    if missing and not skip_missing:
        names = ", ".join(question.id for question in missing)
        raise LookupError(
            f"no passage of Python {sys.version.split()[0]} holds the evidence of {names}; "
            "pass skip_missing=True to go on without"
        )
    return tuple(question for question in questions if question not in missing)


def find_evidence(question: Question, passages: Sequence[Passage]) -> tuple[int, ...]:
    """Indices into ``passages`` of those that hold the question's evidence; normally one."""
    return tuple(i for i, passage in enumerate(passages) if question.evidence in passage.text)


def _read_questions() -> tuple[Question, ...]:
    text = resources.files("aiexplained.data").joinpath("python_questions.json").read_text("utf-8")
    return tuple(
        Question(id=f"{group['subject']}/{number}", subject=group["subject"], **entry)
        for group in json.loads(text)
        for number, entry in enumerate(group["questions"], start=1)
    )
