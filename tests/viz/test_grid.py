"""Precomputed grids: the first state, the shapes, and what the page gets."""

from __future__ import annotations

import numpy as np
import pytest
from bokeh.models import ColumnDataSource, CustomJS, Select, Slider, Toggle

from aiexplained import viz

N, M, ROWS = 3, 2, 5  # distinct, so that a swapped axis cannot pass


def grid(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=float).reshape(shape)


def controls() -> list[object]:
    return [viz.index_slider("s", "abc", 2), viz.choice("c", "xy", 1)]


def callback(control: Slider) -> CustomJS:
    return control.js_property_callbacks["change:value"][0]


def test_binding_shows_the_controls_first_state() -> None:
    source = ColumnDataSource({"x": np.arange(ROWS), "y": np.zeros(ROWS)})
    alt, values = viz.alt_source("none"), grid(N, M, ROWS)
    alts = np.array([[f"{i}{j}" for j in range(M)] for i in range(N)])
    viz.bind_grid(controls(), {source: {"y": values}}, alt=alt, alts=alts)
    np.testing.assert_array_equal(source.data["y"], values[2, 1])
    assert list(alt.data["text"]) == ["21"]
    np.testing.assert_array_equal(source.data["x"], np.arange(ROWS))


def test_numbers_are_kept_as_float32_and_texts_as_lists() -> None:
    bound, source = controls(), ColumnDataSource()
    names = np.array([[["p"] * ROWS] * M] * N)
    viz.bind_grid(bound, {source: {"y": grid(N, M, ROWS), "name": names}})
    (columns,) = callback(bound[0]).args["grids"]
    assert columns["y"].dtype == np.float32
    assert columns["name"] == ["p"] * (N * M * ROWS)
    assert source.data["y"].dtype == np.float32


def test_every_control_runs_the_same_callback() -> None:
    bound = [*controls(), Select(options=["u", "v", "w", "z"], value="w")]
    source = ColumnDataSource()
    viz.bind_grid(bound, {source: {"y": grid(N, M, 4, ROWS)}})
    scripts = {
        bound[0].js_property_callbacks["change:value"][0],
        bound[1].js_property_callbacks["change:active"][0],
        bound[2].js_property_callbacks["change:value"][0],
    }
    assert len(scripts) == 1
    np.testing.assert_array_equal(source.data["y"], grid(N, M, 4, ROWS)[2, 1, 2])


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(3, 2, 'rows'\), got \(2, 3, 5\)"):
        viz.bind_grid(controls(), {ColumnDataSource(): {"y": grid(M, N, ROWS)}})
    with pytest.raises(ValueError, match=r"equally many rows, got \{'y': 5, 'x': 4\}"):
        viz.bind_grid(controls(), {ColumnDataSource({"x": [0] * 4}): {"y": grid(N, M, ROWS)}})
    with pytest.raises(ValueError, match=r"alts must have shape \(3, 2\), got \(2, 3\)"):
        viz.bind_grid(controls(), {}, alt=viz.alt_source("a"), alts=[["a"] * N] * M)
    with pytest.raises(ValueError, match="given together"):
        viz.bind_grid(controls(), {}, alts=[["a"] * M] * N)


def test_wrong_controls_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps of 1 .* step=0.5"):
        viz.bind_grid([Slider(start=0, end=1, step=0.5, value=0)], {})
    with pytest.raises(TypeError, match="got Toggle"):
        viz.bind_grid([Toggle()], {})
    with pytest.raises(ValueError, match="plain strings"):
        viz.bind_grid([Select(options=[("a", "A")], value="a")], {})


@pytest.mark.parametrize("make", [viz.index_slider, viz.choice])
def test_choices_need_labels_and_a_position_among_them(make: object) -> None:
    with pytest.raises(ValueError, match="at least two labels"):
        make("t", ["a"])
    with pytest.raises(ValueError, match="2 is not a position among 2 labels"):
        make("t", ["a", "b"], 2)
