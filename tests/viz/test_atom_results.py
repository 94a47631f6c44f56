"""ATOM's figures of plain numbers: they hold what they are given, or refuse it."""

import base64
import gzip

import numpy as np
import pytest
from figuredata import attributes_of, drawn_figures, numbers, sources_with, title_of, write_figures

from aiexplained.viz.atom.results import STYLE, feasible, staircase, table_check

TIMES = {
    "colocated": [0.5, 0.51, 0.51, 1.7, 1.71],
    "chunked prefill": [0.6, 0.62, 0.64, 0.66, 0.68],
    "two pools": [0.7, 0.7, 0.71, 0.72, 0.73],
}
RATES, LENGTHS = [2, 5, 7.5], [128, 1024, 8192, 16384, 32768]
PACES, SYSTEMS = ("mean", "worst"), ("colocated", "two pools")
TABLE = {"TTFT, median (ms)": (1501.0, 1653.0), "TPOT, mean (ms)": (33.5, 33.5),
         "output tok/s": (3451.0, 2711.0)}  # fmt: skip


def make_regions():
    shape = (len(PACES), len(SYSTEMS), len(LENGTHS), len(RATES))
    shares = np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)
    return {
        pace: {system: shares[i, j] for j, system in enumerate(SYSTEMS)}
        for i, pace in enumerate(PACES)
    }


def make_feasible(**changes):
    options = {
        "regions": make_regions(), "rates": RATES, "lengths": LENGTHS,
        "titles": ["Mean gaps hold", "Every gap does not"], "alts": ["First.", "Second."],
    }  # fmt: skip
    options |= changes
    return feasible(options.pop("regions"), **options)


def plain(column):
    """Numbers of a column that the document holds in base 64."""
    raw = base64.b64decode(column["array"]["data"])
    raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    return np.frombuffer(raw, dtype=column["dtype"]).astype(float).tolist()


def make_figures():
    return [
        staircase(TIMES, title="One answer", alt="Stalls.", arrivals=[0.5, 0.9]),
        make_feasible(),
        table_check(TABLE, title="Ratios", alt="Close.", fitted=["TPOT, mean (ms)"]),
    ]


def test_a_staircase_counts_each_token_once():
    figure = staircase(TIMES, title="One answer", alt="Stalls.")
    steps = [s for s in sources_with(figure, "y") if len(s["y"]) == 5]
    assert sorted(numbers(s, "x", "y") for s in steps) == sorted(
        list(zip(times, range(1, 6), strict=True)) for times in TIMES.values()
    )
    assert {a["mode"] for a in attributes_of(figure, "Step")} == {"after"}


def test_systems_differ_in_more_than_color():
    figure = staircase(TIMES, title="One answer", alt="Stalls.")
    looks = {(a["line_color"], str(a.get("line_dash"))) for a in attributes_of(figure, "Step")}
    assert len(looks) == len(STYLE)
    assert len({dash for _, dash in looks}) == len({color for color, _ in looks}) == len(STYLE)


def test_a_map_has_the_share_of_each_rate_and_length():
    figure, regions = make_feasible(), make_regions()
    found = sources_with(figure, "share")
    assert len(found) == len(SYSTEMS)
    for source, system in zip(found, SYSTEMS, strict=True):
        known = {
            (f"{rate:g}", f"{length:,}"): regions["mean"][system][i, j]
            for i, length in enumerate(LENGTHS) for j, rate in enumerate(RATES)
        }  # fmt: skip
        places, shares = numbers(source, "rate", "length"), plain(source["share"])
        shown = {at: value / 100 for at, value in zip(places, shares, strict=True)}
        assert shown == pytest.approx(known, abs=1e-6)
    assert title_of(figure) == "Mean gaps hold"


def test_cells_that_keep_the_limits_are_framed():
    values = np.linspace(0, 1, 15).reshape(5, 3)
    figure = make_feasible(
        regions={"mean": {"colocated": values}}, titles=["t"], alts=["a"], share=0.5
    )
    (cells,) = sources_with(figure, "frame")
    assert list(cells["frame"]) == [float(v >= 0.5) for v in values.ravel()]
    assert 0 < sum(cells["frame"]) < 15
    assert list(cells["text"])[:2] == ["0", "7"]


def test_a_table_shows_ratios_and_marks_what_was_fitted():
    (_, _, figure) = make_figures()
    (rows,) = sources_with(figure, "ratio")
    assert numbers(rows, "name", "ratio", "kind") == [
        ("TTFT, median (ms)", 1653 / 1501, "predicted"),
        ("TPOT, mean (ms)", 1.0, "fitted"),
        ("output tok/s", 2711 / 3451, "predicted"),
    ]
    assert list(rows["text"]) == ["× 1.10", "× 1.00", "× 0.79"]


def test_a_table_says_what_it_is_held_against():
    (plain, other) = (
        table_check(TABLE, title="x", alt="x", **options)
        for options in ({}, {"against": "measured"})
    )
    (label,) = {a["axis_label"] for a in attributes_of(other, "LogAxis") if a.get("axis_label")}
    assert label == "simulated / measured"
    assert label not in {a.get("axis_label") for a in attributes_of(plain, "LogAxis")}


@pytest.mark.browser
def test_buttons_choose_the_pace(site, open_page):
    write_figures(site, "atom-results", make_figures())
    page = open_page("atom-results", width=390)
    _, maps, _ = drawn_figures(page)
    caption = maps.locator("figcaption")
    assert "First." in caption.inner_text()
    maps.get_by_role("button", name="worst").click()
    assert "Second." in caption.inner_text()
    shown = page.evaluate(
        """() => Bokeh.documents.flatMap((d) => [...d._all_models.values()])
          .filter((m) => m.data?.share).map((m) => [...m.data.share])"""
    )
    known = [100 * np.asarray(values).ravel() for values in make_regions()["worst"].values()]
    assert np.allclose(shown, known, atol=1e-4)


@pytest.mark.parametrize("at", range(3))
def test_a_figure_fits_a_phones_patience(at):
    assert len(make_figures()[at].drawing.item) < 50_000


@pytest.mark.parametrize(
    ("rows", "message"),
    [({}, "at least one"), ({"three pools": [1.0]}, "three pools"),
     ({"two pools": []}, "those of 'two pools' are not"),
     ({"two pools": [1.0, 0.5]}, "in order"), ({"two pools": [1.0, float("nan")]}, "finite")],
)  # fmt: skip
def test_stairs_that_cannot_be_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        staircase(rows, title="t", alt="a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"regions": {}}, "at least one pace"), ({"titles": ["one"]}, "2 paces have"),
     ({"regions": {"mean": {"a": np.zeros((3, 5))}}}, r"\(5, 3\), got \(3, 5\)"),
     ({"regions": {"mean": {"a": np.full((5, 3), 1.5)}}}, "from 0 to 1"),
     ({"regions": {"mean": {"a": np.zeros((5, 3))}, "p95": {"b": np.zeros((5, 3))}}}, "not"),
    ],
)  # fmt: skip
def test_maps_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_feasible(**changes)


@pytest.mark.parametrize(
    ("rows", "fitted", "message"),
    [({}, [], "of the rows"), ({"a": (1.0, 2.0)}, ["b"], "got \\['b'\\]"),
     ({"a": (0.0, 2.0)}, [], "positive and finite, 'a'"),
     ({"a": (1.0, float("inf"))}, [], "positive and finite")],
)  # fmt: skip
def test_tables_that_cannot_be_are_refused(rows, fitted, message):
    with pytest.raises(ValueError, match=message):
        table_check(rows, title="t", alt="a", fitted=fitted)
