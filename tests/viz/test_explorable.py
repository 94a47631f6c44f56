"""Figures: the same bytes in every run, safe in a saved notebook, honest about what they need."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

import nbformat
import pytest
from bokeh.embed import json_item
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, DataTable, TablerIcon, TeX
from bokeh.models.widgets import Button

from aiexplained import viz
from aiexplained.viz.assets import BOKEH_CDN
from aiexplained.viz.document import canonical_item, reserved_height
from aiexplained.viz.html import FIGURE_MIME, Drawing, figure_html

SCRIPT = """
from bokeh.layouts import column
from aiexplained import viz
for _ in range({before}):
    viz.figure()
slider = viz.index_slider("s", [1, 2, 3])
plot = viz.figure("t")
plot.line([1, 2], [3, 4], legend_label="l")
print(viz.show(column(slider, plot), alt="a").drawing.item)
"""


def run(before: int, hash_seed: int) -> str:
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def plot() -> viz.figure:
    made = viz.figure("A finding")
    made.line([1, 2], [3, 4])
    return made


def test_two_processes_give_the_same_document() -> None:
    assert run(before=0, hash_seed=1) == run(before=3, hash_seed=2)


def test_the_determinism_check_would_catch_bokehs_own_numbering() -> None:
    assert json.dumps(json_item(plot())) != json.dumps(json_item(plot()))
    assert canonical_item(plot()) == canonical_item(plot())


def test_showing_a_model_twice_changes_nothing() -> None:
    model = column(viz.index_slider("s", [1, 2]), plot())
    assert viz.show(model, alt="a").drawing == viz.show(model, alt="a").drawing


def test_every_reference_in_the_document_is_defined_before_it_is_used(
    make_grid_figure: Callable[[], viz.Explorable],
) -> None:
    item = make_grid_figure().drawing.item
    seen = re.findall(r'"id":"(m\d+)"', item)
    first = list(dict.fromkeys(seen))
    assert first == [f"m{i + 1}" for i in range(len(first))]
    assert json.loads(item)["root_id"] in first
    assert not re.search(r'"p\d+"', item)


def test_payload_survives_a_notebook_saved_with_sorted_keys(
    make_grid_figure: Callable[[], viz.Explorable],
) -> None:
    drawing = make_grid_figure().drawing
    bundle = viz.Explorable(drawing)._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data=bundle)
    cell = nbformat.v4.new_code_cell("1", id="a", outputs=[output])
    text = nbformat.writes(nbformat.v4.new_notebook(cells=[cell]))
    read = nbformat.reads(json.dumps(json.loads(text), sort_keys=True), as_version=4)
    back = Drawing.from_payload(read.cells[0].outputs[0].data[FIGURE_MIME])
    assert back == drawing
    # The negative control: as JSON objects, the document's parts would change places.
    assert json.dumps(json.loads(drawing.item), sort_keys=True) != json.dumps(
        json.loads(drawing.item)
    )


def test_no_text_of_a_figure_can_end_its_script_element() -> None:
    made = viz.figure("</script><b>")
    made.line([1], [1], legend_label="<!-- <script>")
    text = figure_html(viz.show(made, alt="</figcaption>&").drawing)
    island = re.search(r'class="aix-document">(.*?)</script>', text, re.DOTALL)
    assert island is not None
    assert "<" not in island[1]
    assert "</script><b>" in json.dumps(json.loads(island[1]))
    assert "</figcaption>&<" not in text


def test_caption_and_name_of_a_figure_are_its_alt_text() -> None:
    text = figure_html(viz.show(plot(), alt='Says "so"').drawing)
    written = html.escape('Says "so"')
    assert f'aria-label="{written}"' in text
    assert f'aria-live="polite">{written}</figcaption>' in text


def test_a_notebook_output_names_no_host_but_bokehs(
    make_rule_figure: Callable[[], viz.Explorable],
) -> None:
    bundle = make_rule_figure()._repr_mimebundle_()
    addresses = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"'&<]*", bundle["text/html"])
    assert addresses == [BOKEH_CDN]
    assert "integrity=" in bundle["text/html"]
    assert "rules.cacheweaver" in bundle["text/html"]
    assert "http" not in figure_html(make_rule_figure().drawing)


def test_plain_text_of_an_output_is_the_alt_text() -> None:
    assert viz.show(plot(), alt=" Falls. ")._repr_mimebundle_()["text/plain"] == "Falls."


def test_reserved_height_adds_columns_and_wraps_rows_on_a_phone() -> None:
    model = row(viz.figure(height=101), column(viz.figure(height=103), viz.figure(height=107)))
    model.spacing, model.children[1].spacing = 5, 11
    assert reserved_height(model, 650) == 103 + 11 + 107
    assert reserved_height(model, 330) == 101 + 5 + 103 + 11 + 107


def test_reserved_height_wraps_buttons_and_long_titles() -> None:
    few, many = viz.choice("c", ["a", "b"]), viz.choice("c", ["a long label"] * 7)
    assert reserved_height(many, 330) > reserved_height(many, 650) > reserved_height(few, 330)
    short, long = viz.index_slider("s", "ab"), viz.index_slider("s" * 60, "ab")
    assert reserved_height(long, 330) == reserved_height(short, 330) + 20


def test_hidden_models_reserve_nothing() -> None:
    hidden = viz.figure(height=100)
    hidden.visible = False
    assert reserved_height(hidden, 650) == 0


@pytest.mark.parametrize(
    ("label", "rule"),
    [("Loss $$x^2$$", "TeX"), (TeX(text="x^2"), "TeX")],
)
def test_tex_labels_are_refused(label: object, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        viz.show(viz.figure(x_axis_label=label), alt="a")


def test_tables_and_outside_icons_are_refused() -> None:
    with pytest.raises(ValueError, match="no DataTable"):
        viz.show(DataTable(source=ColumnDataSource()), alt="a")
    with pytest.raises(ValueError, match="another host"):
        viz.show(Button(icon=TablerIcon(icon_name="x")), alt="a")


def test_widgets_script_is_asked_for_only_where_there_are_widgets() -> None:
    assert viz.show(plot(), alt="a").drawing.parts == ("bokeh",)
    both = column(viz.index_slider("s", [1, 2]), plot())
    assert viz.show(both, alt="a").drawing.parts == ("bokeh", "bokeh-widgets")


def test_show_refuses_what_it_cannot_show() -> None:
    with pytest.raises(TypeError, match="Bokeh model, got int"):
        viz.show(3, alt="a")
    with pytest.raises(TypeError, match="alt is text or an alt_source"):
        viz.show(plot(), alt=ColumnDataSource({"text": ["a"]}))
    with pytest.raises(ValueError, match="alt text must say"):
        viz.show(plot(), alt="  ")
    with pytest.raises(ValueError, match="no page rule 'nothing'"):
        viz.show(plot(), alt="a", rules=["nothing"])
    with pytest.raises(ValueError, match="height must be positive, got 0"):
        viz.show(plot(), alt="a", height=0)


def test_data_table_names_the_source_and_checks_its_columns() -> None:
    source = viz.data_table(ColumnDataSource({"x": [1]}), "Rate by load", {"x": "Load (1/s)"})
    assert source.name == "rate-by-load"
    assert source.tags == [{"label": "Rate by load", "columns": {"x": "Load (1/s)"}}]
    with pytest.raises(ValueError, match=r"no columns \['y'\]"):
        viz.data_table(source, "l", {"y": "Y"})
    with pytest.raises(ValueError, match="private"):
        viz.data_table(source, "l", {"x": "X"}, name="aix-x")
