"""Published values reach the page's text and nothing else (the site itself: test_render)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aiexplained import viz


def test_without_a_notebook_values_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    viz.publish(cut=np.float64(22.5), model="tiny", n=np.int64(7))
    assert capsys.readouterr().out == "cut   = 22.5\nmodel = tiny\nn     = 7\n"


@pytest.mark.parametrize("value", [True, None, [1.0], np.arange(2)])
def test_only_numbers_and_texts_are_published(value: object) -> None:
    with pytest.raises(TypeError, match="x must be a number or text, got"):
        viz.publish(x=value)


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("-inf")])
def test_a_sentence_never_says_nan(value: float) -> None:
    with pytest.raises(ValueError, match="x must be finite"):
        viz.publish(x=value)
