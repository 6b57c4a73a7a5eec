"""Figures as SVG text: pure functions, drawn for a phone first.

Every figure is WIDTH units wide, so that its text is still text when a phone shows one unit as one pixel; a larger
screen scales it up. Colours and dashes come from classes of templates/page.html.j2 (``s0`` .. ``s5`` are series, each
with its own dash for grey print). Names come from files of strangers: everything goes through Markup.format, which
escapes it. All functions return Markup and take a ``title``, which a screen reader reads out.
"""

import base64
import itertools
import math
import struct
import unicodedata
import zlib

import numpy as np
from markupsafe import Markup

WIDTH = 360
LEFT, RIGHT = 46, WIDTH - 10  # of the plotting area
N_SERIES = 6  # styles in the page
TEXT_HEIGHT = 15
LARGEST = 1e30  # a value beyond is left out: ranges must not overflow
MAX_POINTS = 320  # of one line: a longer one is drawn as its minima and maxima
MAX_LEGEND_UNITS = WIDTH - 8
CELL_TEXT_UNITS = 20  # the smallest cell of a matrix that holds a number
MAX_NAMED = 26  # classes of a matrix that is drawn cell by cell
MAX_MAP = 96  # pixels a side of a heat map: larger ones are averaged
HEAT_RGB = (31, 119, 190)  # readable on white and on near black


# ---- text and numbers ----------------------------------------------------------------------------------------------


def number(value, digits=3):
    """A number as a reader wants it: 1,234 or 0.0123; "–" for None and for what is not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def percent(value, digits=1):
    """A fraction as a percentage; "–" for None and nan."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}\u00a0%"


def fraction(value):
    """A score of 0..1 with three decimals; "–" for None and nan."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def text_units(text, size=12):
    """About how wide a text is, in units: fonts differ, so this is on the wide side."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return (len(text) + 0.7 * wide) * size * 0.58


def fit(text, units, size=12):
    """The text, cut with an ellipsis where it is wider than this many units."""
    text = str(text)
    if text_units(text, size) <= units:
        return text
    while text and text_units(text + "…", size) > units:
        text = text[:-1]
    return text + "…"


def ticks(low, high, n=4):
    """Round numbers that lie in low..high: about n, and at least two where high > low."""
    if not high > low:
        return [low]
    found = []
    while len(found) < 2:
        step = _round_step((high - low) / n)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        found = [i * step for i in range(first, last + 1)]
        n += 1
    return found


def tick_texts(values):
    """The texts of ticks: as many decimals as tell them apart, and no more than fit beside an axis."""
    largest = max((abs(v) for v in values), default=0)
    if largest >= 1e6 or (0 < largest < 1e-3):
        return [f"{v:.3g}".replace("e+0", "e").replace("e-0", "e-") for v in values]
    decimals = next((d for d in range(6) if all(abs(round(v, d) - v) < 1e-9 * (largest or 1) for v in values)), 6)
    if largest >= 1e5:
        return [f"{v / 1000:,g}k" for v in values]
    return [f"{v:,.{decimals}f}" for v in values]


def _round_step(least):
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= least * 0.999)


def _n(value):
    """A coordinate: one decimal is a tenth of a pixel on a phone."""
    return f"{value:.1f}".removesuffix(".0")


def _join(parts):
    return Markup("").join(parts)


def _svg(title, height, parts, kind=""):
    return Markup(
        '<svg class="plot {}" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
    ).format(kind, WIDTH, _n(height), title, title, _join(parts))


def _text(x, y, text, kind="", room=None, anchor="start"):
    shown = str(text) if room is None else fit(text, room)
    hint = Markup("<title>{}</title>").format(text) if shown != str(text) else ""
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}{}</text>').format(
        _n(x), _n(y), kind, anchor, hint, shown
    )


def _line(x1, y1, x2, y2, kind):
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(_n(x1), _n(y1), _n(x2), _n(y2), kind)


def _rect(x, y, width, height, kind, opacity=None, hint=""):
    strength = "" if opacity is None else Markup(' fill-opacity="{:.2f}"').format(opacity)
    hint = Markup("<title>{}</title>").format(hint) if hint else ""
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}"{}>{}</rect>').format(
        _n(x), _n(y), _n(max(width, 0)), _n(max(height, 0)), kind, strength, hint
    )


# ---- lines ---------------------------------------------------------------------------------------------------------


def decimate(y, n_points=MAX_POINTS):
    """The points of a long line that show its outline.

    Args:
        y: (S,).    n_points: the most that come back.
    Returns:
        (index int (M,), values (M,)): all of a short line, else the minimum and the maximum of each stretch, in order.
    """
    y = np.asarray(y)
    if len(y) <= n_points:
        return np.arange(len(y)), y
    edges = np.linspace(0, len(y), n_points // 2 + 1).astype(int)
    found = []
    for start, end in itertools.pairwise(edges):
        found += sorted({start + int(y[start:end].argmin()), start + int(y[start:end].argmax())})
    return np.array(found), y[found]


def line_chart(title, series, x_label, y_label, y_range=None, mark=None, height=170):
    """One panel of lines over a common axis.

    Args:
        series: list of (name, x, y); values that are None or nan leave a gap.
        x_label, y_label: with their unit.    y_range: (low, high), or None for that of the data.
        mark: (x, text) of a vertical line, or None.
    """
    return panels(title, [{"y_label": y_label, "series": series, "y_range": y_range}], x_label, mark, height)


def panels(title, plots, x_label, mark=None, height=110, strip=None):
    """Line charts under each other over one x axis.

    Args:
        plots: list of dicts: y_label, series as in line_chart; where wanted y_range, and styles (a number a line).
        x_label: with its unit.    mark: (x, text) of a vertical line, or None.    height: of each panel, in units.
        strip: (label, values (S,) in 0..1) drawn as shades along the whole x axis, or None.
    """
    xs = np.concatenate([_floats(x) for plot in plots for _, x, _ in plot["series"]])
    low, high = (float(xs.min()), float(xs.max())) if len(xs) else (0.0, 1.0)
    high = high if high > low else low + 1

    def place(x):
        return LEFT + (x - low) / (high - low) * (RIGHT - LEFT)

    parts, top = [], 4
    for i, plot in enumerate(plots):
        drawn, top = _panel(plot, place, top, height, mark if i == 0 else mark and (mark[0], ""))
        parts += drawn
    if strip:
        parts += _strip(strip, top)
        top += 30
    marks = ticks(low, high, 5)
    if all(float(x).is_integer() for x in xs):  # no ticks between epochs or samples
        marks = [x for x in marks if float(x).is_integer()]
    for x, text in zip(marks, tick_texts(marks), strict=True):
        parts.append(_text(place(x), top + 11, text, "tick", anchor="middle"))
    parts.append(_text(RIGHT, top + 27, x_label, "label", anchor="end"))
    return _svg(title, top + 34, parts)


def _floats(values):
    """float64 with nan for None and for what is too large to draw."""
    found = np.array([math.nan if v is None else v for v in values], dtype=float)
    return np.where(np.abs(found) < LARGEST, found, math.nan)


def _value_range(plot):
    if plot.get("y_range"):
        return plot["y_range"]
    values = np.concatenate([_floats(y) for _, _, y in plot["series"]])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _panel(plot, place, top, height, mark):
    """Returns (parts, the lower edge) of one chart: legend, y label, grid, lines."""
    styles = plot.get("styles") or range(len(plot["series"]))
    names = [name for name, _, _ in plot["series"]]
    parts, top = _legend(plot["y_label"], names, styles, top) if any(names) else ([], top)
    if not parts:
        parts, top = [_text(4, top + 11, plot["y_label"], "label", WIDTH - 8)], top + TEXT_HEIGHT + 9
    low, high = _value_range(plot)

    def y_place(y):
        return top + height - (y - low) / (high - low) * height

    parts += _levels(ticks(low, high, 3 if height < 120 else 4), y_place)
    if mark:
        parts += _mark(place(mark[0]), mark[1], top, height, _is_low(plot["series"], mark[0], (low + high) / 2))
    for style, (_, x, y) in zip(styles, plot["series"], strict=True):
        parts.append(_curve(_floats(x), _floats(y), place, y_place, style))
    parts.append(_line(LEFT, top + height, RIGHT, top + height, "axis"))
    return parts, top + height + 6


def _levels(values, y_place):
    """Grid lines with their values at the left."""
    parts = []
    for y, text in zip(values, tick_texts(values), strict=True):
        parts.append(_line(LEFT, y_place(y), RIGHT, y_place(y), "grid"))
        parts.append(_text(LEFT - 4, y_place(y) + 4, text, "tick", anchor="end"))
    return parts


def _is_low(series, x, middle):
    """Whether the lines run below the middle at x."""
    at = [_floats(y)[np.abs(_floats(xs) - x).argmin()] for _, xs, y in series if len(xs)]
    return float(np.nan_to_num(np.mean(at or [middle]), nan=middle)) < middle


def _mark(x, text, top, height, above):
    """A vertical line with its text where the lines of the panel are not."""
    side, shift = ("end", -4) if x > WIDTH / 2 else ("start", 4)
    y = top + 9 if above else top + height - 5
    return [_line(x, top, x, top + height, "mark"), _text(x + shift, y, text, "tick", anchor=side)]


def _legend(y_label, names, styles, top):
    """The label of the y axis and a sample of each line, wrapped. Returns (parts, lower edge)."""
    parts, y = [_text(4, top + 11, y_label, "label")], top + 7
    x = 4 + text_units(y_label) + 12
    for style, name in zip(styles, names, strict=True):
        shown = fit(name, MAX_LEGEND_UNITS / 2)
        units = 24 + text_units(shown) + 10
        if x + units > WIDTH:
            x, y = 4, y + TEXT_HEIGHT
        parts.append(_line(x, y, x + 20, y, f"line s{style % N_SERIES}"))
        parts.append(_text(x + 24, y + 4, name, "tick", MAX_LEGEND_UNITS / 2))
        x += units
    return parts, y + 17


def _curve(x, y, place, y_place, style):
    index, shown = decimate(y) if np.isfinite(y).all() else (np.arange(len(y)), y)
    commands, down = [], False
    for i, value in zip(index, shown, strict=True):
        finite = math.isfinite(value)
        if finite:
            commands.append(f"{'L' if down else 'M'}{_n(place(x[i]))} {_n(y_place(value))}")
        down = finite
    path = Markup('<path class="line s{}" d="{}"/>').format(style % N_SERIES, "".join(commands))
    if len(commands) > 1 or not commands:
        return path
    i = int(np.flatnonzero(np.isfinite(y))[0])
    return Markup('<circle class="dot s{}" cx="{}" cy="{}" r="3"/>').format(
        style % N_SERIES, _n(place(x[i])), _n(y_place(y[i]))
    )


def _strip(strip, top):
    label, values = strip
    return [
        _text(4, top + 9, label, "tick"),
        _image(np.asarray(values)[None, :], LEFT, top + 13, RIGHT - LEFT, 11),
        _rect(LEFT, top + 13, RIGHT - LEFT, 11, "frame"),
    ]


def traces(title, values, names, units, rate_hz=0.0, max_channels=12, strip=None):
    """A window as lines, channels of the same unit together in panels of up to three.

    Args:
        values: (T, C), in ``units``.    names, units: C texts each.
        rate_hz: samples a second; 0 puts sample numbers on the axis.
        max_channels: how many are drawn.    strip: as in panels.
    """
    x = np.arange(len(values)) / (rate_hz or 1)
    plots = []
    for i in range(min(len(names), max_channels)):
        last = plots[-1] if plots else None
        if last is None or last["y_label"] != (units[i] or " ") or len(last["series"]) == 3:
            plots.append({"y_label": units[i] or " ", "series": []})
        index, y = decimate(values[:, i])
        plots[-1]["series"].append((names[i], x[index], y))
    return panels(title, plots, "seconds" if rate_hz else "samples", height=74, strip=strip)


# ---- bars ----------------------------------------------------------------------------------------------------------


def bars(title, rows, series=("",), maximum=None):
    """Horizontal bars, each with its name above it and its figure at the right.

    Args:
        rows: list of (name, values, text): one value a series, >= 0 or None; the text says them with their unit.
        series: names of the bars of a row; more than one get a legend.
        maximum: value of a bar of full width; None takes the largest.
    """
    finite = [v for _, values, _ in rows for v in values if v is not None and math.isfinite(v)]
    maximum = maximum or max(finite, default=0) or 1
    parts, top = _key([(f"bar b{i}", name) for i, name in enumerate(series)] if len(series) > 1 else [])
    for name, values, text in rows:
        room = WIDTH - 16 - text_units(text)
        parts += [_text(4, top + 12, name, "name", room), _text(WIDTH - 4, top + 12, text, "value", anchor="end")]
        top += 17
        for i, value in enumerate(values):
            share = value / maximum if value is not None and math.isfinite(value) else 0
            parts += [_rect(4, top, WIDTH - 8, 8, "track"), _rect(4, top, (WIDTH - 8) * share, 8, f"bar b{i}")]
            top += 10
        top += 6
    return _svg(title, top, parts)


def _key(entries):
    """Boxes with names, wrapped. Returns (parts, lower edge)."""
    parts, x, y = [], 4, 4
    for kind, name in entries:
        units = 36 + text_units(name, 11)
        if x + units > WIDTH and x > 4:
            x, y = 4, y + TEXT_HEIGHT
        parts += [_rect(x, y, 16, 9, kind), _text(x + 21, y + 9, name, "tick", WIDTH - 30)]
        x += units
    return parts, y + 20 if entries else 2


# ---- matrices ------------------------------------------------------------------------------------------------------


def confusion(title, matrix, labels):
    """A confusion matrix: rows are true classes, columns what the model said, shades the share of the row.

    Args:
        matrix: int (n, n) counts.    labels: n texts.
    Cells carry counts and row percent where there is room; more than MAX_NAMED classes are a picture with class
    numbers on its edges.
    """
    matrix = np.asarray(matrix)
    n, named = len(labels), len(labels) <= MAX_NAMED
    left = min(90, 10 + max(text_units(label) for label in labels)) if named else 34
    size = (WIDTH - left - 4) / n
    parts, top = [_text(left, 12, "the model said", "label")], 20
    top += _column_names(parts, labels, left, top, size) if named else _class_numbers(parts, n, left, top, size)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    if named:
        for i in range(n):
            parts.append(_text(left - 5, top + (i + 0.5) * size + 4, labels[i], "tick", left - 8, "end"))
            parts += _matrix_row(matrix[i], share[i], labels, i, left, top + i * size, size)
    else:
        parts.append(_image(np.where(matrix > 0, np.maximum(share, 0.15), 0), left, top, n * size, n * size, n))
    parts += [_rect(left, top, n * size, n * size, "frame"), _text(4, top - 6, "true", "label")]
    return _svg(title, top + n * size + 4, parts, "matrix")


def _matrix_row(counts, share, labels, i, left, top, size):
    parts = []
    for j in np.flatnonzero(counts):
        kind = "right" if i == j else "wrong"
        hint = f"{labels[i]} called {labels[j]}: {counts[j]} ({percent(share[j])})"
        parts.append(_rect(left + j * size, top, size, size, kind, max(0.08, share[j]), hint))
        if size >= CELL_TEXT_UNITS and text_units(str(counts[j])) <= size + 2:
            middle, y = left + (j + 0.5) * size, top + size / 2
            tall = size >= 34
            parts.append(_text(middle, y + (0 if tall else 4), counts[j], "cell", anchor="middle"))
            if tall:
                parts.append(_text(middle, y + 12, f"{100 * share[j]:.0f}%", "small", anchor="middle"))
    return parts


def _column_names(parts, labels, left, top, size):
    """Names of columns: flat where they fit, else upright. Returns their height."""
    if all(text_units(label) <= size for label in labels):
        parts += [_text(left + (j + 0.5) * size, top + 11, t, "tick", anchor="middle") for j, t in enumerate(labels)]
        return 18
    height = min(80, 10 + max(text_units(label) for label in labels))
    for j, label in enumerate(labels):
        x = left + (j + 0.5) * size + 4
        turned = Markup('<g transform="translate({} {}) rotate(-90)">{}</g>')
        parts.append(turned.format(_n(x), _n(top + height - 4), _text(0, 0, label, "tick", height - 6)))
    return height


def _class_numbers(parts, n, left, top, size):
    step = 10 if n <= 120 else 50
    for j in range(0, n, step):
        parts.append(_text(left + (j + 0.5) * size, top + 11, j, "tick", anchor="middle"))
        parts.append(_text(left - 5, top + 18 + (j + 0.5) * size + 4, j, "tick", anchor="end"))
    return 18


def heat_maps(title, maps, columns=4):
    """Small square heat maps in rows, each with a name: 0 is the paper, 1 the full colour.

    Args:
        maps: list of (name, values (R, C) in 0..1).
    """
    gap = 6
    columns = max(1, min(columns, len(maps)))
    side = min(120, (WIDTH - 8 - gap * (columns - 1)) / columns)
    parts = []
    for i, (name, values) in enumerate(maps):
        x, y = 4 + (i % columns) * (side + gap), 4 + (i // columns) * (side + 20)
        parts += [_text(x, y + 11, name, "tick", side), _image(values, x, y + 15, side, side)]
        parts.append(_rect(x, y + 15, side, side, "frame"))
    return _svg(title, 4 + -(-len(maps) // columns) * (side + 20), parts)


def _image(values, x, y, width, height, limit=MAX_MAP):
    return Markup(
        '<image x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none" class="pixels" href="{}"/>'
    ).format(_n(x), _n(y), _n(width), _n(height), _png(shrink(values, limit)))


def shrink(values, limit=MAX_MAP):
    """Averages (R, C) in blocks until both sides are at most ``limit``."""
    values = np.asarray(values, dtype=float)
    for axis in (0, 1):
        n = values.shape[axis]
        if n > limit:
            edges = np.linspace(0, n, limit + 1).astype(int)
            counts = np.diff(edges).reshape((-1, 1) if axis == 0 else (1, -1))
            values = np.add.reduceat(values, edges[:-1], axis=axis) / counts
    return values


def _png(values):
    """A data URI: 8-bit palette of one colour from clear to solid, so that it works on white and on black."""
    pixels = np.clip(np.nan_to_num(np.asarray(values)) * 255 + 0.5, 0, 255).astype(np.uint8)
    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(HEAT_RGB) * 256),
        (b"tRNS", bytes(range(256))),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


# ---- memory --------------------------------------------------------------------------------------------------------


def memory_blocks(title, blocks, n_steps, lines, kinds=(), height=260):
    """Blocks of memory over time: steps from left to right, bytes from bottom to top.

    Args:
        blocks: list of dicts: name, short (text inside), kind (0..N_SERIES - 1), first and last step, offset, bytes.
        n_steps: steps in all.    lines: list of (bytes, text) drawn across.    kinds: names of the kinds.
    """
    left, right = LEFT, RIGHT
    used = sorted({block["kind"] for block in blocks})
    parts, top = _key([(f"block k{k}", kinds[k]) for k in used if k < len(kinds)])
    most = max([y for y, _ in lines] + [b["offset"] + b["bytes"] for b in blocks], default=1) or 1

    def place(step):
        return left + step / max(1, n_steps) * (right - left)

    def y_place(n):
        return top + height * (1 - n / most)

    parts.append(_text(4, top + 10, "bytes", "label"))
    top += 26
    parts += _levels(ticks(0, most, 5), y_place)
    for block in blocks:
        parts += _block(block, place, y_place)
    for y, text in lines:
        parts += [_line(left, y_place(y), right, y_place(y), "mark")]
        parts.append(_text(right, y_place(y) - 4, text, "tick", right - left, "end"))
    bottom = top + height
    parts.append(_line(left, bottom, right, bottom, "axis"))
    for step in ticks(0, n_steps - 1, 6):
        if step == int(step):
            parts.append(_text(place(step + 0.5), bottom + 14, int(step), "tick", anchor="middle"))
    parts.append(_text(right, bottom + 30, "step (op) of the run", "label", anchor="end"))
    return _svg(title, bottom + 36, parts)


def _block(block, place, y_place):
    x, width = place(block["first"]), place(block["last"] + 1) - place(block["first"])
    y = y_place(block["offset"] + block["bytes"])
    height = y_place(block["offset"]) - y
    hint = (
        f"{block['name']}: {block['bytes']:,} bytes at offset {block['offset']:,}, "
        f"steps {block['first']} to {block['last']}"
    )
    parts = [_rect(x, y, width, height, f"block k{block['kind'] % N_SERIES}", hint=hint)]
    if height >= 12 and text_units(block["short"], 11) <= width + 3:
        parts.append(_text(x + width / 2, y + height / 2 + 4, block["short"], "small", anchor="middle"))
    return parts
