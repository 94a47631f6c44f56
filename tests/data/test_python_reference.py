import hashlib
import re
import sys
from itertools import pairwise

import pytest

from aiexplained.data import python_reference
from aiexplained.data.python_reference import corpus_fingerprint, cut_topics, load_passages

WITH = """The "with" statement
********************

The "with" statement wraps a block with the methods of a context
manager that is *reusable* and well-
behaved, as the author’s tests show.

   with_stmt ::= "with" item

It is equivalent to:

   enter()
   SUITE

Note:

  A note is kept with its label, and it belongs to the passage before
  the definitions below.

See also:

  **PEP 343** - a list of links.

     Its description.

object.__enter__(self)

   Enter the context. The value is bound to the target of the
   statement, if there is one, and this sentence makes it long enough.

   >>> with_doctest()
   1

   Text after a doctest of the same depth is prose again.

+-----+-----+
| a   | b   |
+-----+-----+

-[ Footnotes ]-

[1] A footnote is left out.
"""


def text_of(topics, max_words=120):
    return "\n".join(p.text for p in cut_topics(topics, max_words=max_words))


def test_markup_becomes_one_paragraph_a_line():
    (passage,) = cut_topics({"with": WITH}, max_words=120)
    assert passage.id == "with/01"
    assert passage.heading == 'The "with" statement'
    assert passage.text == (
        'The "with" statement\n'
        'The "with" statement wraps a block with the methods of a context manager that is '
        "reusable and well-behaved, as the author's tests show.\n"
        "It is equivalent to:\n"
        "    enter()\n"
        "    SUITE\n"
        "Note: A note is kept with its label, and it belongs to the passage before the "
        "definitions below.\n"
        "object.__enter__(self)\n"
        "Enter the context. The value is bound to the target of the statement, if there is one, "
        "and this sentence makes it long enough.\n"
        "    >>> with_doctest()\n"
        "    1\n"
        "Text after a doctest of the same depth is prose again."
    )


@pytest.mark.parametrize("rule", ['with_stmt ::= "with" item', 'with_stmt: "with" item'])
def test_grammar_is_left_out_as_either_version_writes_it(rule):
    assert "with_stmt" not in text_of({"with": WITH.replace('with_stmt ::= "with" item', rule)})


def test_a_passage_inside_a_definition_names_it():
    one, two = (" ".join([f"Words fill this {n} paragraph."] * 10) for n in ("first", "second"))
    topic = f"Methods\n*******\n\nstr.join(iterable)\n\n   {one}\n\n   {two}\n"
    first, second = cut_topics({"m": topic}, max_words=60)
    assert first.text.startswith("Methods\nstr.join(iterable)\nWords")
    assert second.text.startswith("Methods: str.join(iterable)\nWords")


def test_text_that_two_topics_share_is_kept_in_the_shorter_one():
    longer = "Compound statements\n===================\n\nNew words come first here.\n\n" + WITH
    passages = cut_topics({"compound": longer, "with": WITH}, max_words=120)
    assert [p.topic for p in passages] == ["with"]
    alone = cut_topics({"compound": longer}, max_words=120)
    assert alone, "the repeated text is long enough to be a passage by itself"


def test_passages_that_are_mostly_code_are_dropped():
    listing = "\n".join(f"   call_number_{i}(argument, other, third)" for i in range(10))
    prose = "This sentence has enough words to be a passage of its own, were it not for the code. "
    topic = f"T\n***\n\n{prose}It is long:\n\n{listing}\n"
    assert cut_topics({"t": topic}, max_words=60) == ()
    assert len(cut_topics({"t": f"T\n***\n\n{prose}{prose}\n"}, max_words=60)) == 1


def test_a_long_paragraph_is_cut_between_sentences_only():
    sentences = [f"Sentence number {i} has exactly seven words." for i in range(20)]
    topic = "T\n***\n\n" + "\n".join(sentences) + "\n"
    passages = cut_topics({"t": topic}, max_words=50)
    bodies = [p.text.removeprefix("T\n") for p in passages]
    assert " ".join(bodies).split() == " ".join(sentences).split()
    assert all(body.endswith(".") for body in bodies)
    assert all(len(body.split()) <= 50 for body in bodies)


def test_the_real_text_makes_passages_of_similar_length():
    words = sorted(len(p.text.split()) for p in load_passages())
    assert 300 < len(words) < 800
    assert words[len(words) // 4] > 70
    assert words[-1] < 150


def test_ids_count_from_one_within_each_topic_and_topics_are_sorted():
    passages = load_passages(max_words=40)
    assert len({p.id for p in passages}) == len(passages)
    for previous, passage in pairwise(passages):
        expected = int(previous.id.split("/")[1]) + 1 if previous.topic == passage.topic else 1
        assert passage.id == f"{passage.topic}/{expected:02d}"
        assert previous.topic <= passage.topic


def test_each_passage_starts_with_its_heading_and_has_plain_quotes():
    for passage in load_passages():
        assert passage.text.startswith(passage.heading + "\n")
        assert not re.search("[‘’“”–—…\xa0]", passage.text), passage.id
        assert "::=" not in passage.text, passage.id


def test_no_long_paragraph_occurs_twice():
    seen = {}
    for passage in load_passages():
        for paragraph in passage.text.split("\n")[1:]:
            if len(paragraph.split()) >= 8 and not paragraph.startswith(" "):
                assert paragraph not in seen, (passage.id, seen[paragraph])
                seen[paragraph] = passage.id


def test_the_check_for_repeats_would_catch_topics_cut_one_by_one():
    from pydoc_data.topics import topics

    both = [p.text for name in ("compound", "with") for p in cut_topics(
        {name: topics[name]}, max_words=120)]  # fmt: skip
    paragraphs = [line for text in both for line in text.split("\n") if len(line.split()) >= 8]
    assert len(set(paragraphs)) < len(paragraphs)


def test_the_fingerprint_depends_on_the_passages_alone():
    passages = load_passages()
    assert corpus_fingerprint() == corpus_fingerprint(passages)
    assert corpus_fingerprint(passages[1:]) != corpus_fingerprint(passages)
    assert corpus_fingerprint([]) == hashlib.sha256().hexdigest()


@pytest.mark.parametrize(
    ("value", "error"), [(39, ValueError), (1e3, TypeError), (True, TypeError)]
)
def test_rejects_lengths_that_are_no_whole_number_of_forty_or_more(value, error):
    with pytest.raises(error, match="max_words must be"):
        load_passages(max_words=value)


def test_a_python_without_the_text_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    python_reference._load.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"pydoc_data\.topics"):
        load_passages()
