"""Figures: well-formed, escaped, as large as what they show, and small enough for a page."""

import base64
import re
import struct
import xml.etree.ElementTree as ElementTree
import zlib

import numpy as np
import pytest

from attn8 import svg

HOSTILE = "<script>alert(1)</script>\"'&"
SERIES = [(HOSTILE, [1, 2, 3], [0.5, None, 0.7]), ("b", [1, 2, 3], [1.0, 2.0, float("nan")])]
BLOCK = {"name": HOSTILE, "short": "0", "kind": 0, "first": 0, "last": 2, "offset": 0, "bytes": 64}
FIGURES = {
    "line_chart": lambda: svg.line_chart(HOSTILE, SERIES, HOSTILE, HOSTILE, mark=(2, HOSTILE)),
    "panels": lambda: svg.panels(
        HOSTILE, [{"y_label": HOSTILE, "series": SERIES}] * 2, "s", strip=(HOSTILE, [0.0, 1.0])
    ),
    "traces": lambda: svg.traces(HOSTILE, np.ones((9, 2)), [HOSTILE] * 2, [HOSTILE, ""], 50.0),
    "bars": lambda: svg.bars(HOSTILE, [(HOSTILE, [1.0, None], HOSTILE)], (HOSTILE, "INT8")),
    "confusion": lambda: svg.confusion(HOSTILE, [[3, 1], [0, 2]], [HOSTILE, "b"]),
    "heat_maps": lambda: svg.heat_maps(HOSTILE, [(HOSTILE, np.eye(3))]),
    "memory_blocks": lambda: svg.memory_blocks(HOSTILE, [BLOCK], 3, [(64, HOSTILE)], (HOSTILE,)),
}


def parsed(figure):
    return ElementTree.fromstring(str(figure))


def elements(figure, tag, kind=None):
    found = parsed(figure).iter(tag)
    return [e for e in found if kind is None or kind in e.get("class", "").split()]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_well_formed_scales_and_says_its_title(name):
    figure = parsed(FIGURES[name]())
    assert figure.tag == "svg" and figure.get("role") == "img"
    x, y, width, height = (float(v) for v in figure.get("viewBox").split())
    assert (x, y, width) == (0, 0, svg.WIDTH) and height > 0 and figure.get("width") is None
    assert figure.get("aria-label") == HOSTILE and figure.find("title").text == HOSTILE


@pytest.mark.parametrize("name", FIGURES)
def test_texts_of_strangers_stay_texts(name):
    figure = FIGURES[name]()
    assert "<script" not in figure and not elements(figure, "script")


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_drawn_outside_the_figure(name):
    figure = parsed(FIGURES[name]())
    height = float(figure.get("viewBox").split()[3])
    for element in (*figure.iter("rect"), *figure.iter("image")):
        x, y, w, h = (float(element.get(key)) for key in ("x", "y", "width", "height"))
        assert x >= 0 and x + w <= svg.WIDTH + 0.1 and y >= 0 and y + h <= height + 0.1


def test_a_long_line_keeps_its_extremes_and_few_points():
    y = np.sin(np.arange(16000) / 50)
    y[[777, 15000]] = 9, -9
    index, values = svg.decimate(y)
    assert len(index) <= svg.MAX_POINTS and (np.diff(index) > 0).all()
    assert values.max() == 9 and values.min() == -9 and (y[index] == values).all()
    short = svg.decimate(np.arange(5.0))
    assert short[0].tolist() == [0, 1, 2, 3, 4]


def test_a_page_of_long_windows_stays_small():
    figure = svg.traces("x", np.random.default_rng(0).normal(size=(16000, 12)), ["c"] * 12, ["g"] * 12, 8000.0)
    assert len(figure) < 60_000


def test_a_missing_value_is_a_gap_and_a_lonely_one_a_dot():
    path = elements(svg.line_chart("x", SERIES[1:], "epoch", "loss"), "path")[0].get("d")
    assert re.findall("[ML]", path) == ["M", "L"]
    broken = svg.line_chart("x", [("a", [1, 2, 3, 4], [1, None, 3, 4])], "epoch", "loss")
    assert re.findall("[ML]", elements(broken, "path")[0].get("d")) == ["M", "M", "L"]
    assert len(elements(svg.line_chart("x", [("a", [1], [0.5])], "epoch", "loss"), "circle")) == 1


def test_a_line_goes_where_its_values_are():
    chart = svg.line_chart("x", [("a", [0, 10], [0.0, 1.0])], "epoch", "accuracy", (0, 1))
    points = re.findall(r"[ML]([\d.]+) ([\d.]+)", elements(chart, "path")[0].get("d"))
    (x0, y0), (x1, y1) = ((float(x), float(y)) for x, y in points)
    assert (x0, x1) == (svg.LEFT, svg.RIGHT) and y0 - y1 == 170


@pytest.mark.parametrize("values, above", [([1.0, 0.1], True), ([0.1, 1.0], False)])
def test_the_text_of_a_mark_keeps_clear_of_the_lines(values, above):
    chart = svg.line_chart("x", [("a", [1, 2], values)], "epoch", "loss", (0, 1), mark=(2, "best"))
    text = next(e for e in elements(chart, "text") if e.text == "best")
    line = elements(chart, "line", "mark")[0]
    middle = (float(line.get("y1")) + float(line.get("y2"))) / 2
    assert (float(text.get("y")) < middle) == above


@pytest.mark.parametrize("values", [[1e308, -1e308], [float("inf"), 1.0], [float("nan")] * 2, [5.0, 5.0], []])
def test_values_that_cannot_be_scaled_still_make_a_figure(values):
    parsed(svg.line_chart("x", [("a", list(range(len(values))), values)], "epoch", "loss"))


def test_each_series_has_its_own_style_for_grey_print():
    series = [(str(i), [0, 1], [i, i]) for i in range(svg.N_SERIES)]
    kinds = {e.get("class") for e in elements(svg.line_chart("x", series, "epoch", "loss"), "path")}
    assert len(kinds) == svg.N_SERIES


def test_bars_are_as_long_as_their_values():
    figure = svg.bars("x", [("a", [100.0], "100 B"), ("b", [25.0], "25 B"), ("c", [None], "–")])
    widths = [float(e.get("width")) for e in elements(figure, "rect", "bar")]
    assert widths == [svg.WIDTH - 8, (svg.WIDTH - 8) / 4, 0]


def test_a_confusion_matrix_says_counts_and_row_percent_where_they_are():
    figure = svg.confusion("x", [[6, 2], [0, 5]], ["up", "down"])
    shown = [e.text for e in elements(figure, "text", "cell")], [e.text for e in elements(figure, "text", "small")]
    assert shown == (["6", "2", "5"], ["75%", "25%", "100%"])
    right, wrong = elements(figure, "rect", "right"), elements(figure, "rect", "wrong")
    assert [e.get("fill-opacity") for e in right] == ["0.75", "1.00"]
    assert [e.get("fill-opacity") for e in wrong] == ["0.25"]
    assert float(wrong[0].get("x")) > float(right[0].get("x")) and wrong[0].get("y") == right[0].get("y")
    assert wrong[0].find("title").text == "up called down: 2 (25.0\u00a0%)"


def test_a_hundred_classes_are_a_picture_of_all_of_them():
    figure = svg.confusion("x", np.eye(100, dtype=int), [f"class {i}" for i in range(100)])
    assert len(figure) < 10_000 and not elements(figure, "rect", "right")
    assert (pixels(elements(figure, "image")[0].get("href")) == 255 * np.eye(100)).all()


def pixels(href):
    """The palette indices of a PNG with filter 0 in all rows."""
    data = base64.b64decode(href.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        n, kind = struct.unpack_from(">I4s", data, at)
        chunks[kind] = data[at + 8 : at + 8 + n]
        assert struct.unpack_from(">I", data, at + 8 + n)[0] == zlib.crc32(kind + chunks[kind])
        at += 12 + n
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any() and chunks[b"tRNS"] == bytes(range(256))
    return rows[:, 1:]


def test_heat_maps_hold_their_values_and_large_ones_are_averaged():
    values = np.linspace(0, 1, 12).reshape(3, 4)
    image = elements(svg.heat_maps("x", [("L1 H1", values)]), "image")[0]
    assert (pixels(image.get("href")) == np.floor(values * 255 + 0.5)).all()
    large = np.arange(200.0 * 300).reshape(200, 300)
    small = svg.shrink(large, 100)
    assert (
        small.shape == (100, 100) and small[0, 0] == large[:2, :3].mean() and small[99, 99] == large[198:, 297:].mean()
    )


def test_memory_blocks_lie_where_the_plan_puts_them():
    low, high = BLOCK | {"bytes": 100, "last": 1}, BLOCK | {"offset": 100, "bytes": 300, "first": 1}
    figure = svg.memory_blocks("x", [low, high], 4, [(400, "arena")], ("input",))
    low, high = (
        [float(e.get(k)) for k in ("x", "y", "width", "height")] for e in elements(figure, "rect", "block")[1:]
    )
    unit = (svg.RIGHT - svg.LEFT) / 4
    assert low[0] == svg.LEFT and low[2] == 2 * unit and high[0] == svg.LEFT + unit and high[2] == 2 * unit
    assert low[3] * 3 == pytest.approx(high[3], abs=0.2) and high[1] + high[3] == pytest.approx(low[1], abs=0.2)


@pytest.mark.parametrize("low, high", [(0, 1), (-0.9, 0.95), (0, 5248), (1000.1, 1000.9), (-1e6, 3e6), (0, 1e-4)])
@pytest.mark.parametrize("n", [3, 5])
def test_ticks_are_several_inside_and_told_apart(low, high, n):
    found = svg.ticks(low, high, n)
    assert 2 <= len(found) <= 9 and low - 1e-9 <= found[0] and found[-1] <= high + 1e-9 * abs(high)
    assert len(set(svg.tick_texts(found))) == len(found)


def test_texts_that_do_not_fit_are_cut_and_keep_their_whole_name():
    figure = svg.bars("x", [("n" * 200, [1.0], "1 B")])
    name = elements(figure, "text", "name")[0]
    assert name.find("title").text == "n" * 200 and name.find("title").tail.endswith("n…")
    assert svg.text_units(svg.fit("猫" * 50, 100)) <= 100


def test_numbers_read_as_numbers():
    shown = [svg.number(v) for v in (None, float("nan"), 8955981, 0.01234, 1234.5, -3)]
    assert shown == ["–", "–", "8,955,981", "0.0123", "1,234", "-3"]
    assert svg.percent(0.9238) == "92.4\u00a0%" and svg.percent(None) == "–" and svg.fraction(0.93251) == "0.933"
