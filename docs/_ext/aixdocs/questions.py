"""``{predict}`` and ``{recall}``: questions with choices and feedback.

A body is the question, a list of choices and, optionally, the reveal::

    How much of the second prompt can be reused?

    - ( ) All of it :: Only a prompt that starts with the same tokens can be.
    - (x) Only the instructions :: Right: the first passage already differs.

    We measured 12 %.

A prediction may ask for a number on a slider instead (``:guess: min max step unit`` and
``:answer:``). The HTML is a fieldset inside ``<aix-question>``, which ``question.js`` brings to
life; without JavaScript a ``<details>`` holds the answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from . import questionhtml

MARK = re.compile(r"^\s*\(([ xX]?)\)\s*")
SEPARATOR = re.compile(r"\s+::\s+|\s+::$")


class question(nodes.container):  # noqa: N801
    """``kind`` is predict or recall; ``name`` is the id of its inputs on the page."""


class prompt(nodes.paragraph):  # noqa: N801
    """The question itself: the legend of the fieldset."""


class choices(nodes.container):  # noqa: N801
    """The radio buttons, one child each."""


class choice(nodes.inline):  # noqa: N801
    """What one radio button says; ``number`` is its place."""


class slider(nodes.container):  # noqa: N801
    """A guess on a number line: ``low``, ``high``, ``step``, ``unit``."""


class answers(nodes.container):  # noqa: N801
    """Feedback on every choice, then the reveal; a ``<details>`` without JavaScript."""


class feedback(nodes.container):  # noqa: N801
    """Feedback on choice ``number``; ``right`` says whether it is the answer."""


class reveal(nodes.container):  # noqa: N801
    """What the reader sees after answering."""


class answer_value(nodes.inline):  # noqa: N801
    """The number that a guess is compared with."""


@dataclass(frozen=True)
class Guess:
    """The slider of a numeric prediction."""

    low: float
    high: float
    step: float
    unit: str


def guess_option(text: str) -> Guess:
    """``min max step unit`` as a :class:`Guess`; the unit may be left out.

    Raises:
        ValueError: if the numbers are not an ascending range with a positive step inside it.
    """
    parts = text.split(maxsplit=3)
    if len(parts) < 3:
        raise ValueError(f"write 'min max step unit', got {text!r}")
    low, high, step = map(float, parts[:3])
    if not (low < high and 0 < step <= high - low):
        raise ValueError(f"needs min < max and 0 < step <= max - min, got {text!r}")
    return Guess(low, high, step, parts[3] if len(parts) == 4 else "")


# What stands before the field, the field, and what the reader is told.
Asked = tuple[list[nodes.Node], nodes.Element, list[nodes.Node]]


class Question(SphinxDirective):
    """Common part of the two directives."""

    has_content = True
    kind: ClassVar[str]

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        body = self.parse_content_to_nodes()
        name = f"aix-q{self.env.new_serialno('aix-question')}"
        node = question("", kind=self.kind, name=name, classes=["aix-question", f"aix-{self.kind}"])
        self.set_source_info(node)
        if not body or not isinstance(body[0], nodes.paragraph):
            raise self.error(f"{self.kind}: must start with the question as a paragraph")
        first = prompt("", "", *body[0].children, kind=self.kind)
        ask = self._slider if "guess" in self.options else self._choices
        before, field, told = ask(body[1:])
        field["name"] = name
        node += [first, *before, field, answers("", *told)]
        return [node]

    def _choices(self, body: list[nodes.Node]) -> Asked:
        place = next((i for i, n in enumerate(body) if isinstance(n, nodes.bullet_list)), None)
        if place is None:
            raise self.error(f"{self.kind}: needs a list of choices, '- (x) text :: feedback'")
        parsed = [self._one_choice(item) for item in body[place].children]
        right = sum(mark for mark, _, _ in parsed)
        if not 2 <= len(parsed) <= 4 or right != 1:
            raise self.error(
                f"{self.kind}: needs 2 to 4 choices with one '(x)', got {len(parsed)} with {right}"
            )
        buttons = choices("")
        told: list[nodes.Node] = []
        for number, (mark, text, why) in enumerate(parsed):
            buttons += choice("", "", *text, number=number)
            again = [child.deepcopy() for child in text]
            said = nodes.Text("✓ Right: " if mark else "✗ Not so: ")
            line = nodes.paragraph("", "", nodes.strong("", "", said, *again), classes=["aix-said"])
            answer = nodes.paragraph("", "", *why, classes=["aix-why"])
            told.append(feedback("", line, answer, number=number, right=mark))
        return body[:place], buttons, told + self._reveal(body[place + 1 :])

    def _one_choice(self, item: nodes.Node) -> tuple[bool, list[nodes.Node], list[nodes.Node]]:
        """Whether a choice is marked right, what it says, and the feedback on it."""
        only = item.children[0] if len(item.children) == 1 else None
        inline = list(only.children) if isinstance(only, nodes.paragraph) else []
        mark = MARK.match(inline[0]) if inline and isinstance(inline[0], nodes.Text) else None
        for place, node in enumerate(inline):
            if mark and isinstance(node, nodes.Text) and SEPARATOR.search(node):
                left, right = SEPARATOR.split(node, maxsplit=1)
                said = [*inline[:place], nodes.Text(left)]
                said[0] = nodes.Text(MARK.sub("", said[0]))
                return bool(mark[1].strip()), said, [nodes.Text(right), *inline[place + 1 :]]
        raise self.error(
            f"{self.kind}: a choice is '- ( ) text :: feedback', got {item.astext()!r}"
        )

    def _slider(self, body: list[nodes.Node]) -> Asked:
        if "answer" not in self.options:
            raise self.error(f"{self.kind}: a guess needs an :answer:")
        guess: Guess = self.options["guess"]
        value, messages = self.parse_inline(self.options["answer"])
        line = nodes.paragraph("", "The answer: ", classes=["aix-said"])
        line += [answer_value("", "", *value), nodes.Text(f" {guess.unit}".rstrip())]
        bar = slider("", low=guess.low, high=guess.high, step=guess.step, unit=guess.unit)
        told = [feedback("", line, *messages, number=0, right=True)]
        return [], bar, told + self._reveal(body)

    @staticmethod
    def _reveal(body: list[nodes.Node]) -> list[nodes.Node]:
        return [reveal("", *body)] if body else []


class Predict(Question):
    """A question before the result: the answer and the reveal follow any choice."""

    kind = "predict"
    option_spec: ClassVar = {"guess": guess_option, "answer": directives.unchanged_required}


class Recall(Question):
    """A question after the reading: a wrong choice gets feedback and another try."""

    kind = "recall"


PARTS = (question, prompt, choices, choice, slider, answers, feedback, reveal, answer_value)


def add_files(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is not None and next(iter(doctree.findall(question)), None) is not None:
        app.add_js_file("question.js", loading_method="defer")
        app.add_css_file("questions.css")


def setup(app: Sphinx) -> None:
    app.add_directive("predict", Predict)
    app.add_directive("recall", Recall)
    for part in PARTS:
        app.add_node(part, html=questionhtml.visitors(part.__name__))
    app.connect("html-page-context", add_files)
