"""HTML of the questions. Without JavaScript nothing is hidden for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docutils import nodes
from sphinx.writers.html5 import HTML5Translator

Visitor = Callable[[HTML5Translator, Any], None]
KICKERS = {"predict": "Predict", "recall": "Check yourself"}


def visit_question(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append(self.starttag(node, "aix-question", kind=node["kind"], key=node["name"]))
    self.body.append("<fieldset>")


def depart_question(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</aix-question>\n")


def visit_prompt(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append(f'<legend><span class="aix-kicker">{KICKERS[node["kind"]]}</span> ')


def depart_prompt(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</legend>\n")


def visit_choices(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append('<div class="aix-choices">\n')


def depart_choices(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</div>\n")


def visit_choice(self: HTML5Translator, node: nodes.Element) -> None:
    name, number = node.parent["name"], node["number"]
    button = self.emptytag(node, "input", "", type="radio", name=name, value=str(number))
    self.body.append(f'<label class="aix-choice">{button} <span>')


def depart_choice(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</span></label>\n")


def visit_slider(self: HTML5Translator, node: nodes.Element) -> None:
    low, high, step = (f"{node[key]:g}" for key in ("low", "high", "step"))
    middle = f"{node['low'] + (node['high'] - node['low']) // (2 * node['step']) * node['step']:g}"
    unit = self.attval(node["unit"])
    self.body.append(
        f'<div class="aix-guess"><input type="range" name="{node["name"]}" min="{low}" '
        f'max="{high}" step="{step}" value="{middle}" aria-label="Your guess" data-unit="{unit}">'
        f" <output>{middle} {unit}</output>"
    )


def depart_slider(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</div>\n")


def visit_answers(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append(
        '</fieldset>\n<div class="aix-live" aria-live="polite"></div>\n'
        '<details class="aix-answers"><summary>Show the answer</summary>\n'
    )


def depart_answers(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</details>\n")


def visit_feedback(self: HTML5Translator, node: nodes.Element) -> None:
    state = "right" if node["right"] else "wrong"
    marks = f'data-choice="{node["number"]}" data-state="{state}"'
    self.body.append(f'<div class="aix-feedback aix-{state}" {marks}>')


def visit_reveal(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append('<div class="aix-reveal">')


def depart_block(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</div>\n")


def visit_answer_value(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append('<strong class="aix-answer-value">')


def depart_answer_value(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</strong>")


def visitors(name: str) -> tuple[Visitor, Visitor]:
    """The pair of functions that writes the node class called ``name``."""
    found: dict[str, Visitor] = globals()
    return found[f"visit_{name}"], found.get(f"depart_{name}", depart_block)
