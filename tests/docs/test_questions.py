"""Questions: what authors write, what readers get, with JavaScript and without."""

from __future__ import annotations

from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from tiny import Site, notebook

CHOICES = """
:::{KIND}
How much of a *second* prompt can be reused?

- ( ) All of it :: Only a prompt that **starts** with the same
  tokens can be.
- (x) Only $k$ blocks :: The first passage differs.
- ( ) Half: `a :: b` :: No reason for half.

The reveal.
:::
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def questions(site: Site, text: str) -> list[BeautifulSoup]:
    site.page("q", f"# Q\n{text}")
    built = site.build()
    assert built.warnings == ""
    return BeautifulSoup(built.html("pages/q"), "html.parser").find_all("aix-question")


@pytest.mark.parametrize("kind", ["predict", "recall"])
def test_a_question_is_a_fieldset_of_labeled_radio_buttons(site: Site, kind: str) -> None:
    (question,) = questions(site, CHOICES.replace("KIND", kind))
    legend = question.fieldset.legend
    assert "How much of a second prompt" in legend.get_text()
    assert legend.em.get_text() == "second"
    labels = question.fieldset.find_all("label")
    assert [label.input["type"] for label in labels] == ["radio"] * 3
    assert len({label.input["name"] for label in labels}) == 1
    assert [label.input["value"] for label in labels] == ["0", "1", "2"]
    assert labels[0].get_text(strip=True) == "All of it"
    assert labels[1].find(class_="katex")
    assert labels[2].code.get_text() == "a :: b"
    assert question.find(attrs={"aria-live": "polite"}).get_text() == ""


def test_without_javascript_a_details_element_holds_all_answers(site: Site) -> None:
    (question,) = questions(site, CHOICES.replace("KIND", "predict"))
    details = question.find("details")
    feedback = details.find_all(class_="aix-feedback")
    assert [f["data-state"] for f in feedback] == ["wrong", "right", "wrong"]
    assert "Not so: All of it" in feedback[0].get_text()
    assert feedback[0].strong.get_text() == "✗ Not so: All of it"
    assert "starts with the same tokens" in " ".join(feedback[0].get_text().split())
    assert "✓ Right" in feedback[1].get_text()
    assert details.find(class_="aix-reveal").get_text(strip=True) == "The reveal."
    assert not question.find("script")
    assert not question.find(hidden=True)


def test_the_answer_is_not_told_by_the_buttons(site: Site) -> None:
    (question,) = questions(site, CHOICES.replace("KIND", "recall"))
    marks = [{k: v for k, v in i.attrs.items() if k != "value"} for i in question.find_all("input")]
    assert marks[0] == marks[1] == marks[2]


def test_two_questions_of_a_page_have_names_of_their_own(site: Site) -> None:
    found = questions(site, CHOICES.replace("KIND", "predict") + CHOICES.replace("KIND", "recall"))
    names = [question.input["name"] for question in found]
    assert len(set(names)) == 2
    assert [question["key"] for question in found] == names


def test_a_guess_is_a_named_slider(site: Site) -> None:
    text = "\n:::{predict}\n:guess: 0 80 5 ms\n:answer: 20\n\nHow long?\n\nThe reveal.\n:::\n"
    (question,) = questions(site, text)
    bar = question.fieldset.find("input")
    assert (bar["type"], bar["min"], bar["max"], bar["step"]) == ("range", "0", "80", "5")
    assert bar["value"] == "40"
    assert bar["aria-label"]
    assert question.output.get_text() == "40 ms"
    assert "The answer: 20 ms" in question.details.get_text()


def test_answers_may_come_from_a_cell(site: Site) -> None:
    cell = "from aiexplained import viz\nviz.publish(cut=22.68)"
    text = (
        ":::{predict}\n:guess: 0 100 1 %\n:answer: {glue:text}`cut:.1f`\n\nHow much?\n:::\n\n"
        ":::{recall}\nAnd?\n\n- (x) {glue:text}`cut:.0f` % :: Yes.\n- ( ) Less :: No.\n:::\n"
    )
    site.write("docs/pages/q.md", notebook(cell, text=text))
    built = site.build()
    assert built.warnings == ""
    guess, recall = BeautifulSoup(built.html("pages/q"), "html.parser").find_all("aix-question")
    assert guess.find(class_="aix-answer-value").get_text() == "22.7"
    assert recall.label.get_text().split() == ["23", "%"]


def test_the_script_is_only_on_pages_with_a_question(site: Site) -> None:
    site.page("plain", "# Plain\n")
    questions(site, CHOICES.replace("KIND", "recall"))
    built = site.build()
    assert "question.js" in built.html("pages/q")
    assert "question.js" not in built.html("pages/plain")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("Only a question.", "needs a list of choices"),
        ("- (x) a :: b\n- ( ) c :: d", "must start with the question"),
        ("Q?\n\n- (x) a :: b", "needs 2 to 4 choices with one '(x)', got 1 with 1"),
        ("Q?\n\n- (x) a :: b\n- (x) c :: d", "got 2 with 2"),
        ("Q?\n\n- ( ) a :: b\n- ( ) c :: d", "got 2 with 0"),
        ("Q?\n\n- (x) a :: b\n- ( ) no feedback", "a choice is '- ( ) text :: feedback'"),
        ("Q?\n\n- (x) a :: b\n- no mark :: d", "a choice is '- ( ) text :: feedback'"),
        (":guess: 0 10 1\n\nQ?", "a guess needs an :answer:"),
        (":guess: 9 3 1\n:answer: 4\n\nQ?", "needs min < max"),
        (":guess: 0 3\n:answer: 2\n\nQ?", "write 'min max step unit'"),
    ],
)
def test_a_question_that_is_not_one_is_a_located_warning(
    site: Site, body: str, message: str
) -> None:
    site.page("q", f"# Q\n\n:::{{predict}}\n{body}\n:::\n")
    warnings = site.build().warnings
    assert message in warnings
    assert "q.md:3" in warnings
