"""What a data set holds and what training makes of it: classes, groups, lengths, channels, faults, augmentation."""

from collections import defaultdict
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path

import numpy as np

from . import page, svg
from .config import AugmentationConfig
from .data import axes_triples, load_recordings, load_windows, split_windows, windows_of
from .data.recordings import shown
from .errors import DataError

MOST_NAMED = 1000  # groups and faults in the JSON form
MOST_ROWS = 20  # of a table in the terminal
MOST_CHANNELS = 12  # that are drawn
MOST_SHOWN = 400  # characters of a cell
SPARK = "▁▂▃▄▅▆▇█"
SPARK_COLUMNS = 60
N_COPIES = 3
RARE = 0.5  # a class is rare below this share of the windows of an average class
STUCK = 3  # samples in a row at the extreme value that count as clipped
FEW_VALUES = 8  # a channel with so few different values is a switch: standing at its extreme is no clipping
BLOCK_VALUES = 1 << 21  # of windows looked at together: 16 MB of float64
CANDIDATES = 64  # windows among which the liveliest is shown
MEANING = {
    "rotation_rad": "as if the sensor sat turned on the body",
    "time_warp": "as if the movement were faster or slower",
    "crop": "as if the window began earlier or later",
    "scale": "as if channels were stronger or weaker",
    "noise": "as if the sensor were noisier",
    "channel_dropout": "as if a channel were missing",
}


class Facts(dict):
    """What ``preview`` found, for JSON; ``plots`` holds the samples that are drawn, which JSON leaves out."""

    plots = None


@dataclass
class Plots:
    """Samples in units, (T, C) each: a window of each class as (label, samples), one window, varied copies of it."""

    channels: list
    units: list
    rate_hz: float
    examples: list = field(default_factory=list)
    window: np.ndarray | None = None
    copies: list = field(default_factory=list)


@dataclass(eq=False)
class Source:
    """What is looked at: recordings where there are some, else windows that came cut."""

    kind: str
    recordings: object
    windows: object

    @cache  # noqa: B019  (a Source lives as long as one preview)
    def recorded(self, key):
        """{label or group: list of the lengths of its recordings}; everything under None for no key."""
        found = defaultdict(list)
        for recording in self.recordings.recordings:
            found[key and getattr(recording, key)].append(len(recording.samples))
        return found

    def blocks(self):
        """Samples as arrays (n, S, C), a recording each or some windows; ``counts_per_unit`` is their scale."""
        if self.recordings:
            for recording in self.recordings.recordings:
                yield recording.samples[None]
        else:
            x = self.windows.x
            n = max(1, BLOCK_VALUES // (x.shape[1] * x.shape[2]))
            for start in range(0, len(x), n):
                yield x[start : start + n]

    @property
    def counts_per_unit(self):
        """Scale of ``blocks``, or None where they are in units."""
        return (self.recordings or self.windows).counts_per_unit


def _in_units(samples, counts_per_unit):
    samples = np.asarray(samples, np.float64)
    return samples if counts_per_unit is None else samples / counts_per_unit


def preview(settings, seed=None, trust_code=False):
    """Looks at the configured data.

    Args:
        settings: config.Config; ``data.file`` may be a folder of CSV or WAV, an .npz, or empty = the bundled set.
        seed: varies the shown window in another way; None = training.seed.
        trust_code: allow ``data.function`` of the configuration to run.

    Returns:
        Facts.

    Raises:
        DataError: if nothing can be read.    ConfigError: if the settings do not go with the data.
    """
    source = _load(settings.data, trust_code)
    windows = source.windows
    stats = channel_statistics(source.blocks, len(windows.channels), source.counts_per_unit)
    triples = axes_triples(settings.data, windows)
    facts = Facts(_overview(source))
    facts["split"] = _split(windows, settings.data)
    facts["classes"] = _classes(source)
    facts["groups"] = _groups(source, facts["split"])
    facts["lengths"] = _lengths(source)
    facts["channels"] = _channels(windows, stats, triples)
    facts["augmentation"] = _settings_of(settings.training.augmentation, triples)
    facts.plots = _plots(windows)
    seed = settings.training.seed if seed is None else seed
    _vary(facts, windows, settings.training.augmentation, triples, stats, seed)
    return facts


def _load(data_config, trust_code):
    if data_config.function or (data_config.file and not Path(data_config.file).is_dir()):
        windows = load_windows(data_config, trust_code=trust_code)
        return Source("function" if data_config.function else "npz", None, windows)
    recordings = load_recordings(data_config, one_class=True)  # one's first recording is worth a look
    return Source(recordings.kind, recordings, windows_of(recordings, data_config))


# ---- what there is -------------------------------------------------------------------------------------------------


def _overview(source):
    windows, recordings = source.windows, source.recordings
    faults = recordings.faults if recordings else []
    return {
        "data": windows.name,
        "kind": source.kind,
        "n_files": recordings.n_read if recordings and recordings.n_files else 0,
        "n_recordings": len(recordings.recordings) if recordings else None,
        "n_windows": len(windows),
        "n_groups": len(windows.group_names),
        "window": windows.x.shape[1],
        "hop": windows.hop,
        "sample_rate_hz": windows.sample_rate_hz,
        "seconds": _recorded(source)["seconds"],
        "gaps": sum(fault.kind == "gap" for fault in faults),
        "filled_samples": sum(r.filled for r in recordings.recordings) if recordings else 0,
        "n_faults": len(faults),
        "faults": [vars(fault) for fault in faults[:MOST_NAMED]],
        "notes": list(dict.fromkeys(windows.notes)),
    }


def _seconds(n_samples, rate_hz):
    return round(n_samples / rate_hz, 3) if rate_hz and n_samples is not None else None


def _classes(source):
    windows = source.windows
    counts = np.bincount(windows.y, minlength=len(windows.labels))
    return [
        {
            "label": label,
            **_recorded(source, "label", label),
            "windows": int(counts[i]),
            "groups": len(np.unique(windows.group[windows.y == i])),
            "rare": bool(counts[i] < RARE * counts.mean()),
        }
        for i, label in enumerate(windows.labels)
    ]


def _groups(source, split):
    windows = source.windows
    parts = {name: part for part, found in split.items() if part != "error" for name in found["groups"]}
    counts = np.bincount(windows.group, minlength=len(windows.group_names))
    return [
        {
            "group": name,
            **_recorded(source, "group", name),
            "windows": int(counts[i]),
            "classes": len(np.unique(windows.y[windows.group == i])),
            "part": parts.get(name, ""),
        }
        for i, name in enumerate(windows.group_names[:MOST_NAMED])
    ]


def _recorded(source, key=None, name=None):
    """Recordings and seconds of all, or of a label or group; None where windows came cut and may overlap."""
    if not source.recordings:
        return {"recordings": None, "seconds": None}
    found = source.recorded(key)[name]
    return {"recordings": len(found), "seconds": _seconds(sum(found), source.windows.sample_rate_hz)}


def _lengths(source):
    """Lengths of the recordings in samples and their distribution; None where windows came cut."""
    if not source.recordings:
        return None
    lengths = np.array([len(recording.samples) for recording in source.recordings.recordings])
    low, high = int(lengths.min()), int(lengths.max())
    counts, edges = np.histogram(lengths, bins=min(8, high - low) or 1, range=(low, max(high, low + 1)))
    return {
        "min": low,
        "median": float(np.median(lengths)),
        "max": high,
        "edges": [round(float(edge), 1) for edge in edges],
        "counts": counts.tolist(),
    }


def _split(windows, data_config):
    """Groups and windows of each part, or why training could not make them."""
    try:
        split = split_windows(windows, data_config)
    except DataError as error:
        return {"error": str(error)}
    return {part: _part(windows, split, part) for part in ("train", "validation", "test")}


def _part(windows, split, part):
    numbers = getattr(split, part)
    absent = np.setdiff1d(np.arange(len(windows.labels)), windows.y[numbers])
    return {
        "windows": len(numbers),
        "groups": getattr(split, f"{part}_groups"),
        "without": [windows.labels[i] for i in absent] if len(numbers) else [],
    }


# ---- channels ------------------------------------------------------------------------------------------------------


def channel_statistics(blocks, n_channels, counts_per_unit=None):
    """Figures of each channel over all samples.

    Args:
        blocks: function that gives the samples anew: arrays (n, S, C), n stretches of S samples.
        counts_per_unit: float (C,), scale of the samples, or None where they are in units.

    Returns:
        dict of arrays (C,), in units: min, max, mean, std; clipped, the share of samples that stand at the extreme
        value for STUCK samples or more; constant_in, the number of stretches in which the channel never changes; and
        n_stretches, int.
    """
    low, high = np.full(n_channels, np.inf), np.full(n_channels, -np.inf)
    constant_in, n, n_stretches = np.zeros(n_channels, int), 0, 0
    seen = [set() for _ in range(n_channels)]
    total = squares = clipped = np.zeros(n_channels)
    for block in blocks():
        lows, highs = block.min(1), block.max(1)
        constant_in += (lows == highs).sum(0)
        low, high = np.minimum(low, lows.min(0)), np.maximum(high, highs.max(0))
        n, n_stretches = n + block.shape[0] * block.shape[1], n_stretches + len(block)
        for x, _ in _pieces(block):
            total = total + x.sum((0, 1), np.float64)
            _add_values(seen, x)
    mean = total / n
    for block in blocks():
        for x, inner in _pieces(block, STUCK - 1):
            squares = squares + ((x[:, inner] - mean) ** 2).sum((0, 1))
            clipped = clipped + (stuck(x, low) | stuck(x, high))[:, inner].sum((0, 1))
    clipped[[len(values) <= FEW_VALUES for values in seen]] = 0
    figures = {"min": low, "max": high, "mean": mean, "std": np.sqrt(squares / n)}
    figures = {key: _in_units(values, counts_per_unit) for key, values in figures.items()}
    return figures | {"clipped": clipped / n, "constant_in": constant_in, "n_stretches": n_stretches}


def _pieces(block, around=0):
    """Parts of a block (n, S, C) along S, so that little is taken at a time.

    Args:
        around: samples on each side that belong to the next parts.

    Returns:
        (part, slice of the samples in it that are its own), one after the other.
    """
    n_own = max(1, BLOCK_VALUES // max(1, block.shape[0] * block.shape[2]))
    for start in range(0, block.shape[1], n_own):
        first = max(0, start - around)
        own = min(n_own, block.shape[1] - start)
        yield block[:, first : start + n_own + around], slice(start - first, start - first + own)


def _add_values(seen, x):
    for channel, values in enumerate(seen):
        others = x[:, :, channel].ravel()
        while len(values) <= FEW_VALUES and others.size:
            values.update(others[:1].tolist())
            others = others[~np.isin(others, list(values))]


def stuck(x, extreme):
    """Samples of x (n, S, C) that equal ``extreme`` (C,) in a row of STUCK or more, as bool of the same shape."""
    at = x == extreme
    found = np.zeros_like(at)
    if x.shape[1] >= STUCK:
        last = x.shape[1] - STUCK + 1
        row = np.logical_and.reduce([at[:, i : last + i] for i in range(STUCK)])
        for i in range(STUCK):
            found[:, i : last + i] |= row
    return found


def _channels(windows, stats, triples):
    together = {c: [windows.channels[other] for other in triple] for triple in triples for c in triple}
    return [
        {
            "channel": name,
            "unit": windows.units[c],
            **{key: float(stats[key][c]) for key in ("min", "max", "mean", "std", "clipped")},
            "constant": bool(stats["min"][c] == stats["max"][c]),
            "constant_in": int(stats["constant_in"][c]),
            "n_stretches": stats["n_stretches"],
            "stretches": "windows" if windows.recording is None else "recordings",
            "rotates_with": together.get(c),
        }
        for c, name in enumerate(windows.channels)
    ]


# ---- augmentation --------------------------------------------------------------------------------------------------


def _settings_of(augmentation, triples):
    """What each variation is set to and means."""
    found = []
    for item in fields(AugmentationConfig):
        value = getattr(augmentation, item.name)
        meaning = MEANING[item.name]
        if not value:
            meaning = "off"
        elif item.name == "rotation_rad" and not triples:
            meaning = "does nothing here: no channels whose names end in x, y, z, and data.axes names none"
        found.append({"setting": item.name, "value": value, "is": item.metadata["doc"], "meaning": meaning})
    return {"settings": found, "missing": ""}


def _plots(windows):
    """A window of each class, the middle one of each."""
    plots = Plots(windows.channels[:MOST_CHANNELS], windows.units[:MOST_CHANNELS], windows.sample_rate_hz)
    for i, label in enumerate(windows.labels):
        numbers = np.flatnonzero(windows.y == i)
        if len(numbers) and len(plots.examples) < MOST_CHANNELS:
            plots.examples.append((label, _drawn(windows.x[numbers[len(numbers) // 2]], windows)))
    return plots


def _drawn(window, windows):
    return _in_units(window, windows.counts_per_unit)[:, :MOST_CHANNELS]


def _vary(facts, windows, augmentation, triples, stats, seed):
    """Picks a window and varies it as training would; without torch that is said instead."""
    number = _lively(windows, stats, seed)
    facts.plots.window = _drawn(windows.x[number], windows)
    facts["augmentation"]["window"] = _origin(windows, number)
    try:
        import torch

        from .data.augment import Augment
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        facts["augmentation"]["missing"] = "what augmentation does needs PyTorch: pip install 'attn8[train]'"
        return
    scale = windows.counts_per_unit
    mean, std = (np.float32(stats[key] * scale) for key in ("mean", "std"))
    augment = Augment(augmentation, triples, len(scale), mean, std, seed)
    x = torch.from_numpy(np.repeat(windows.x[number : number + 1], N_COPIES, 0)).float()
    facts.plots.copies = [_drawn(copy, windows) for copy in augment(x).numpy()]


def _lively(windows, stats, seed):
    """Number of the window that moves most among some drawn at random: at rest there is little to see."""
    numbers = np.random.default_rng(seed).permutation(len(windows))[:CANDIDATES]
    std = np.where(stats["std"] > 0, stats["std"] * windows.counts_per_unit, 1)
    return int(max(numbers, key=lambda number: (windows.x[number].std(0) / std).mean()))


def _origin(windows, number):
    origin = {"label": windows.labels[windows.y[number]], "group": windows.group_names[windows.group[number]]}
    if windows.recording is None:
        return origin | {"number": number}
    return origin | {
        "recording": windows.recording_names[windows.recording[number]],
        "start": int(windows.start[number]),
    }


# ---- as text -------------------------------------------------------------------------------------------------------


def render(facts):
    """Returns a rich renderable of what ``preview`` returned."""
    from rich.console import Group
    from rich.text import Text

    parts = [Text(shown(facts["data"], MOST_SHOWN), style="bold"), _summary(facts), *map(Text, facts["notes"]), ""]
    parts += [_class_table(facts), "", _group_table(facts), "", _channel_table(facts), "", _split_table(facts), ""]
    return Group(*parts, *_augmentation_text(facts))


def _table(title, columns):
    """An empty table; a column whose name begins with "<" is text, the others are numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name.removeprefix("<"), justify="left" if name.startswith("<") else "right")
    return table


def _add_rows(table, rows, most=MOST_ROWS, n_rows=None):
    """Adds ``most`` rows, and how many more there are of n_rows (None = len(rows))."""
    from rich.text import Text

    for row in rows[:most]:
        table.add_row(*(Text(shown(str(cell), MOST_SHOWN)) for cell in row))
    n_more = (n_rows or len(rows)) - most
    if n_more > 0:
        table.add_row(f"and {n_more:,} more")
    return table


def _summary(facts):
    from rich.table import Table

    lines = summary_lines(facts)
    if facts["lengths"] and len(facts["lengths"]["counts"]) > 1:
        at = [what for what, _ in lines].index("lengths") + 1
        lines.insert(at, ("", f"{sparkline(facts['lengths']['counts'])}  how many of each length, short to long"))
    return _add_rows(Table(box=None, show_header=False, pad_edge=False), lines)


def summary_lines(facts):
    """(what, text) of the overview."""
    rate = facts["sample_rate_hz"]
    window = f"{facts['window']:,} samples" + (f" = {facts['window'] / rate:.3g} s" if rate else "")
    window += ", cut already" if facts["n_recordings"] is None else f", one every {facts['hop']:,} samples"
    lines = [("kind", KINDS.get(facts["kind"], facts["kind"]))]
    if facts["n_recordings"] is not None:
        lines.append(("recordings", f"{facts['n_recordings']:,}{_of_files(facts)}, {_duration(facts['seconds'])}"))
        lines.append(("lengths", _length_text(facts)))
        lines.append(("gaps", _gap_text(facts)))
    lines += [("sample rate", f"{rate:g} Hz" if rate else "not known"), ("window", window)]
    return [*lines, ("windows", f"{facts['n_windows']:,} of {facts['n_groups']:,} groups")]


KINDS = {
    "csv": "folder of CSV recordings",
    "wav": "folder of WAV recordings",
    "npz": "windows in an .npz",
    "bundled": "bundled recordings",
    "function": "windows from a Python function",
}


def _of_files(facts):
    return f" from {facts['n_files']:,} files" if facts["n_files"] else ""


def _duration(seconds):
    if seconds is None:
        return "length not known"
    return f"{seconds:.3g} s in all" if seconds < 100 else f"{int(seconds // 60)} min {seconds % 60:.0f} s in all"


def _length_text(facts):
    lengths, rate = facts["lengths"], facts["sample_rate_hz"]
    low, middle, high = (f"{lengths[key] / (rate or 1):.4g}" for key in ("min", "median", "max"))
    return f"shortest {low}, median {middle}, longest {high} {'s' if rate else 'samples'}"


def _gap_text(facts):
    return f"{facts['gaps']} that cut a recording, {facts['filled_samples']:,} samples filled in"


def sparkline(values, low=None, high=None):
    """A line of blocks from ``low`` to ``high``, one a value; None takes the range of the values."""
    values = np.asarray(values, float)
    low, high = (values.min() if low is None else low), (values.max() if high is None else high)
    if not high > low:
        return SPARK[len(SPARK) // 2] * len(values)
    steps = np.clip((values - low) / (high - low) * len(SPARK), 0, len(SPARK) - 1)
    return "".join(SPARK[int(step)] for step in steps)


def sparklines(before, after, columns=SPARK_COLUMNS):
    """Two lines of at most ``columns`` values on one scale.

    Args:
        before, after: (T,); more than ``columns`` are averaged. Where that would wipe out what there is, as in sound,
            each column shows its swing instead, the highest less the lowest value.

    Returns:
        (line, line, True for swings).
    """
    parts = [np.array_split(np.asarray(values, float), min(columns, len(values))) for values in (before, after)]
    means, swings = ([np.array([of(part) for part in line]) for line in parts] for of in (np.mean, np.ptp))
    is_swing = bool(means[0].std() < 0.5 * np.std(before))
    lines = swings if is_swing else means
    low, high = min(line.min() for line in lines), max(line.max() for line in lines)
    return *(sparkline(line, low, high) for line in lines), is_swing


def _class_table(facts):
    rows = [[c["label"], *_recorded_cells(c), c["windows"], c["groups"], class_remark(c)] for c in facts["classes"]]
    return _add_rows(_table("classes", ("<label", *_recorded_columns(facts), "windows", "groups", "<")), rows, most=64)


def _recorded_columns(facts):
    return [] if facts["n_recordings"] is None else ["recordings", "seconds"]


def _recorded_cells(entry):
    seconds = "" if entry["seconds"] is None else f"{entry['seconds']:.1f}"
    return [] if entry["recordings"] is None else [entry["recordings"], seconds]


def class_remark(entry):
    """What a user should know about a class, or nothing."""
    if not entry["windows"]:
        return "no window"
    if entry["groups"] == 1:
        return "one group only: it cannot be learned and tested"
    return 'rare: record more, or set training.class_weights = "balanced"' if entry["rare"] else ""


def _group_table(facts):
    n = len(facts["classes"])
    rows = [
        [g["group"], *_recorded_cells(g), g["windows"], f"{g['classes']} of {n}", g["part"]] for g in facts["groups"]
    ]
    table = _table("groups", ("<group", *_recorded_columns(facts), "windows", "classes", "<part"))
    return _add_rows(table, rows, n_rows=facts["n_groups"])


def _channel_table(facts):
    rows = [
        [c["channel"], c["unit"], *(f"{c[key]:.4g}" for key in ("min", "max", "mean", "std")), _channel_remark(c)]
        for c in facts["channels"]
    ]
    columns = ("<channel", "<unit", "min", "max", "mean", "std", "<")
    return _add_rows(_table("channels", columns), rows, most=64)


def channel_faults(entry):
    """What is wrong with a channel, as texts that follow its name."""
    if entry["constant"]:
        return ["never changes: leave it out with data.channels"]
    found = []
    if entry["clipped"]:
        found.append(f"clips: {entry['clipped']:.2%} of its samples are stuck at the limit")
    if entry["constant_in"]:
        found.append(f"never changes in {entry['constant_in']:,} of {entry['n_stretches']:,} {entry['stretches']}")
    return found


def _channel_remark(entry):
    others = [name for name in entry["rotates_with"] or () if name != entry["channel"]]
    return "; ".join(channel_faults(entry) + [f"rotates with {', '.join(others)}"] * bool(others))


def _split_table(facts):
    from rich.text import Text

    if "error" in facts["split"]:
        return Text(f"training cannot split this: {facts['split']['error']}", style="bold")
    rows = [[part, f"{p['windows']:,}", _names(p["groups"]), part_remark(p)] for part, p in facts["split"].items()]
    return _add_rows(_table("split that training makes", ("<part", "windows", "<groups", "<")), rows)


def part_remark(part):
    """What a user should know about a part of the split, or nothing."""
    if not part["without"]:
        return ""
    absent = _names(part["without"], 5)
    return f"no window of {absent}: how well it is recognised is not measured; record every class in every group"


def _names(names, most=MOST_ROWS):
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _augmentation_text(facts):
    """Settings, and one window before and after, as a list of renderables."""
    from rich.text import Text

    found, plots = facts["augmentation"], facts.plots
    rows = [[s["setting"], f"{s['value']:g}", s["is"], s["meaning"]] for s in found["settings"]]
    parts = [_add_rows(_table("augmentation", ("<setting", "value", "<is", "<does")), rows)]
    if found["missing"]:
        return [*parts, Text(found["missing"])]
    title = f"one window, before and after: {origin_text(found['window'], facts)}"
    table = _table(None, ("<channel", "<", "<"))
    for c, name in enumerate(plots.channels):
        before, after, is_swing = sparklines(plots.window[:, c], plots.copies[0][:, c])
        kind = ", swing" * is_swing
        _add_rows(table, [[name, f"before{kind}", before], ["", f"after{kind}", after]])
    return [*parts, "", Text(shown(title, MOST_SHOWN), style="italic"), table]


def origin_text(origin, facts):
    """Where a window comes from, for a caption."""
    text = f"{origin['label']}, group {origin['group']}"
    if "recording" not in origin:
        return f"{text}, window {origin['number']}"
    rate = facts["sample_rate_hz"]
    start = f"{origin['start'] / rate:.2f} s" if rate else f"sample {origin['start']}"
    return f"{text}, {origin['recording']} from {start}"


# ---- as a page -----------------------------------------------------------------------------------------------------


def write_page(facts, path):
    """Writes a page with plots that needs nothing else. Returns its size in bytes."""
    return page.write(path, page.render("preview.html.j2", facts=facts, figures=_figures(facts), **_WORDS))


def _figures(facts):
    plots = facts.plots
    draw = {"names": plots.channels, "units": plots.units, "rate_hz": plots.rate_hz}
    figures = {"classes": _class_bars(facts), "groups": _group_bars(facts), "lengths": _length_bars(facts)}
    figures["examples"] = [(label, svg.traces(f"a window of {label}", x, **draw)) for label, x in plots.examples]
    figures["window"] = svg.traces("the window as it was recorded", plots.window, **draw)
    figures["copies"] = [svg.traces(f"varied copy {i}", x, **draw) for i, x in enumerate(plots.copies, 1)]
    return figures


def _class_bars(facts):
    rows = [(c["label"], [c["windows"]], f"{c['windows']:,} windows") for c in facts["classes"][: 2 * MOST_ROWS]]
    return svg.bars("windows of each class", rows)


def _group_bars(facts):
    rows = [(g["group"], [g["windows"]], f"{g['windows']:,} windows") for g in facts["groups"][: 2 * MOST_ROWS]]
    return svg.bars("windows of each group", rows)


def _length_bars(facts):
    lengths, rate = facts["lengths"], facts["sample_rate_hz"]
    if not lengths or len(lengths["counts"]) < 2:
        return None
    edges = [f"{edge / (rate or 1):.3g}" for edge in lengths["edges"]]
    unit = "s" if rate else "samples"
    rows = [(f"{edges[i]} to {edges[i + 1]} {unit}", [n], f"{n:,} recordings") for i, n in enumerate(lengths["counts"])]
    return svg.bars("lengths of the recordings", rows)


_WORDS = {
    "summary_lines": summary_lines,
    "class_remark": class_remark,
    "channel_faults": channel_faults,
    "origin_text": origin_text,
    "part_remark": part_remark,
    "names": _names,
    "most": 2 * MOST_ROWS,
}
