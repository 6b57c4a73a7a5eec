"""``attn8 report``: one page that shows how a run went, what the model gets wrong and what it costs.

``facts`` gathers everything that is shown as plain numbers and texts, ``render`` draws it, ``write_report`` does both.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import arithmetic, backends, boards, page, profile, reference, svg
from .atomic import read_bytes
from .config import Config, to_toml
from .errors import RunError, ToolMissingError
from .evaluate import confusion_matrix, per_group, predict_float, scores

SECTIONS = ("summary", "curves", "confusion", "classes", "bytes", "arena", "cycles", "boards", "attention", "worst")
MAX_BENCH_MACS = 10_000_000  # emulating more takes longer than anyone waits for a page
MAX_BOARDS_MACS = 2_000_000  # on every board: some seconds
MAX_LISTED = 24  # rows of a chart of classes or groups: more of them show the weakest
MAX_HEADS = 8
MAX_EPOCH = 1_000_000
MAX_HISTORY_BYTES = 64 << 20
N_ATTENTION, N_WORST, N_MISTAKES = 3, 6, 8
MAX_CHANNELS = 12  # drawn of a window
KINDS = ("input", "convolution, linear", "attention", "sum", "other", "scratch")
_RECORDS = {
    "header": "header with checksum",
    "META record": "name and version",
    "INPUT record": "channels and their scales",
    "TASK record": "class names, thresholds",
    "golden vectors": "self-test vectors",
}
_KIND = {"input": 0, "conv1d_s8": 1, "linear_s8": 1, "windowed_attention_s8": 2, "add_s8": 3}


def write_report(
    run_dir, path=None, data=None, board="pico", trust_code=False, say=lambda text: None, windows=None, bench=None
):
    """Writes the page of a run.

    Args:
        run_dir: run folder.    path: page to write; None = report.html in the run folder.
        data: .npz or folder in place of the configured data.    board: a name of boards.BOARDS.
        trust_code: allow ``data.function`` of the configuration to run.
        say: called with a line of text before each long step.
        windows: data.Windows, loaded already.    bench: what ``boards.bench`` found for the model of this run.

    Returns:
        dict: file, bytes, sections (list of their names).

    Raises:
        RunError: if the folder is incomplete or damaged.    DataError: if the data do not go with it.
        BoardError: for an unknown board.
    """
    path = Path(run_dir) / "report.html" if path is None else Path(path)
    html = render(facts(run_dir, data, board, trust_code, say, windows, bench))
    try:
        n_bytes = page.write(path, html)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
    return {"file": str(path), "bytes": n_bytes, "sections": list(SECTIONS)}


# ---- facts ---------------------------------------------------------------------------------------------------------


@dataclass
class _Tested:
    """A run and what both models say of its test windows.

    Fields:
        run: workflow.OpenRun.    packed: bytes of the file.    parsed: reference.ParsedModel.    backend: its name.
        test: int (N,), window numbers.    y, float_predicted, predicted: int (N,).
        scores: int (N, n_outputs), 0..100, as the board would give them.
    """

    run: object
    packed: bytes
    parsed: object
    backend: str
    test: np.ndarray
    y: np.ndarray
    float_predicted: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray

    @property
    def labels(self):
        return self.run.windows.labels

    @property
    def groups(self):
        return self.run.windows.group[self.test]


def facts(run_dir, data=None, board="pico", trust_code=False, say=lambda text: None, windows=None, bench=None):
    """Gathers everything that the page shows.

    Args and Raises:
        as for write_report.

    Returns:
        dict: run (name of the folder), model (its name), and one dict for each of SECTIONS.
    """
    from .workflow import open_run

    target = boards.board(board)
    history = read_history(run_dir)
    run = open_run(run_dir, data, trust_code, windows=windows)
    notes = _notes(run)
    say(f"report: {len(run.split.test)} test windows through the float and the INT8 model")
    tested = _test(run)
    cycles = _cycle_facts(tested.packed, target, say, bench)
    return {
        "run": Path(run_dir).absolute().name,
        "model": tested.parsed.graph.name,
        "summary": _summary(tested, notes, cycles),
        "curves": _curve_facts(history, run.settings.training),
        "confusion": _confusion_facts(tested),
        "classes": {"per_class": _per_class(tested), "per_group": _per_group(tested)},
        "bytes": {key: profile.info(tested.packed)[key] for key in ("account", "model_bytes", "budget_bytes")},
        "arena": _arena_facts(tested.parsed),
        "cycles": cycles,
        "boards": _board_facts(tested.packed, cycles, say),
        "attention": _attention_facts(tested),
        "worst": _worst(tested),
    }


def read_history(run_dir):
    """Reads RUN/metrics.jsonl.

    Returns:
        list of dicts in order of their epoch, the last line of each; empty without the file.

    Raises:
        RunError: if a line is not one that training writes.
    """
    path = Path(run_dir) / "metrics.jsonl"
    found = {}
    try:
        lines = read_bytes(path, MAX_HISTORY_BYTES).decode().splitlines() if path.exists() else []
    except (OSError, ValueError) as error:
        raise RunError(f"run {run_dir}: metrics.jsonl: got {error}, expected text; train it again") from None
    for number, line in enumerate(lines, 1):
        metrics = _history_line(line)
        if metrics is None:
            raise RunError(
                f"run {run_dir}: metrics.jsonl: got no metrics of an epoch in line {number}, expected one JSON object "
                "a line; remove that line, or train it again"
            )
        found[metrics["epoch"]] = metrics
    return [found[epoch] for epoch in sorted(found)]


def _history_line(line):
    """The numbers of one line, or None where it is not one of training."""
    try:
        metrics = {key: float(v) for key, v in json.loads(line).items() if isinstance(v, int | float)}
    except (ValueError, OverflowError, RecursionError, AttributeError):
        return None
    return metrics if "loss" in metrics and 1 <= metrics.get("epoch", 0) <= MAX_EPOCH else None


def _notes(run):
    notes = run.meta.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise RunError(f"run {run.folder}: meta.json: got no list of texts as 'notes', expected it; train it again")
    return list(dict.fromkeys([*notes, *run.windows.notes]))


def _test(run):
    from .workflow import pack_net

    packed = pack_net(run.net, run.settings, run.meta)
    parsed = reference.parse(packed)
    x = run.windows.x[run.split.test]
    engine = backends.open_backend("auto", packed)
    outputs = engine.run(x)
    return _Tested(
        run=run,
        packed=packed,
        parsed=parsed,
        backend=engine.name,
        test=run.split.test,
        y=run.windows.y[run.split.test],
        float_predicted=predict_float(run.model, x).argmax(1),
        predicted=outputs.argmax(1),
        scores=class_scores(outputs, parsed.graph.score),
    )


def class_scores(outputs, softmax):
    """Returns scores (N, n_outputs) in 0..100 of int8 outputs; the largest of a row is that of ``arithmetic.score``."""
    y = np.asarray(outputs, dtype=np.int64)
    e = arithmetic.softmax_index(y.max(-1, keepdims=True) - y, softmax)
    z = e.sum(-1, keepdims=True)
    return (100 * e + (z >> 1)) // z


def _summary(tested, notes, cycles):
    run, info = tested.run, profile.info(tested.packed)
    windows, n_classes = run.windows, len(tested.labels)
    found = {}
    for kind, predicted in (("float", tested.float_predicted), ("int8", tested.predicted)):
        found |= {f"{kind}_{key}": value for key, value in scores(tested.y, predicted, n_classes).items()}
    return {
        "dataset": windows.name,
        "notes": notes,
        "n_windows": len(windows),
        "n_groups": len(windows.group_names),
        "parts": {part: _part(run.split, part) for part in ("train", "validation", "test")},
        "labels": tested.labels,
        "channels": [[name, unit] for name, unit in zip(windows.channels, windows.units, strict=True)],
        "window": windows.x.shape[1],
        "hop": windows.hop,
        "sample_rate_hz": windows.sample_rate_hz,
        **found,
        "backend": tested.backend,
        **{key: info[key] for key in ("parameters", "macs", "model_bytes", "arena_bytes", "id", "version")},
        "board": cycles["board"],
        **{key: cycles.get(key) for key in ("cycles", "instructions", "ms")},
        "init": run.settings.training.init,
        "settings": changed_settings(run.settings),
        "toml": to_toml(run.settings),
    }


def _part(split, part):
    return {"n": len(getattr(split, part)), "groups": getattr(split, f"{part}_groups")}


def changed_settings(settings):
    """Lists the settings that differ from their defaults: (name, value, default), all texts."""
    used, defaults = (dict(_flat(dataclasses.asdict(config))) for config in (settings, Config()))
    changed = {key: value for key, value in used.items() if value != defaults[key]}
    return [[key, _say_value(value), _say_value(defaults[key])] for key, value in changed.items()]


def _flat(table, where=""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield where + key, value


def _say_value(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_say_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(_say_value(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def _curve_facts(history, training):
    validated = [m for m in history if math.isfinite(m.get("validation_macro_f1", math.nan))]
    best = max(validated, key=_validation_rank) if validated else None
    return {
        "history": history,
        "best": best,
        "keeps_best": bool(best) and training.patience > 0,
        "epochs": training.epochs,
        "last": history[-1] if history else None,
    }


def _validation_rank(metrics):
    """As training ranks its epochs: by macro-F1, equal ones by loss."""
    return metrics["validation_macro_f1"], -metrics.get("validation_loss", 0.0)


def _confusion_facts(tested):
    n = len(tested.labels)
    matrices = {
        kind: confusion_matrix(tested.y, predicted, n)
        for kind, predicted in (("int8", tested.predicted), ("float", tested.float_predicted))
    }
    wrong = matrices["int8"] * (1 - np.eye(n, dtype=int))
    order = np.argsort(-wrong.ravel(), kind="stable")[:N_MISTAKES]
    mistakes = [(int(i // n), int(i % n)) for i in order if wrong.ravel()[i]]
    of_class = matrices["int8"].sum(1)
    return {
        "labels": tested.labels,
        **{kind: matrix.tolist() for kind, matrix in matrices.items()},
        "differ": int(np.sum(tested.predicted != tested.float_predicted)),
        "mistakes": [
            {"true": tested.labels[i], "said": tested.labels[j], "n": int(wrong[i, j]), "of": int(of_class[i])}
            for i, j in mistakes
        ],
    }


def _per_class(tested):
    n = len(tested.labels)
    trained = np.bincount(tested.run.windows.y[tested.run.split.train], minlength=n)
    kinds = {"float": tested.float_predicted, "int8": tested.predicted}
    rows = [{"name": name, "n": 0, "n_train": int(trained[i])} for i, name in enumerate(tested.labels)]
    for kind, predicted in kinds.items():
        matrix = confusion_matrix(tested.y, predicted, n)
        found, true, said = np.diag(matrix), matrix.sum(1), matrix.sum(0)
        for i, row in enumerate(rows):
            row |= {
                "n": int(true[i]),
                f"{kind}_recall": _ratio(found[i], true[i]),
                f"{kind}_precision": _ratio(found[i], said[i]),
                f"{kind}_f1": _ratio(2 * found[i], true[i] + said[i]),
            }
    return rows


def _ratio(a, b):
    return float(a / b) if b else None


def _per_group(tested):
    names, n = tested.run.windows.group_names, len(tested.labels)
    kinds = {"float": tested.float_predicted, "int8": tested.predicted}
    found = {kind: per_group(tested.y, p, tested.groups, names, n) for kind, p in kinds.items()}
    return [
        {"name": name, "n": row["n"]}
        | {f"{kind}_{key}": found[kind][name][key] for kind in kinds for key in ("accuracy", "macro_f1")}
        for name, row in found["int8"].items()
    ]


# ---- facts: what it costs ------------------------------------------------------------------------------------------


def _arena_facts(parsed):
    table, planned = profile.op_table(parsed), reference.memory_blocks(parsed)
    blocks = []
    for i, ((size, first, last), offset) in enumerate(zip(planned, parsed.offsets, strict=True)):
        scratch, row = i >= len(table), table[first]
        if size:
            blocks.append(
                {
                    "step": first,
                    "name": f"scratch of {_short(row['name'])}" if scratch else _short(row["name"]),
                    "kind": 5 if scratch else _KIND.get(row["name"], 4),
                    "first": first,
                    "last": last,
                    "offset": int(offset),
                    "bytes": int(size),
                    "shape": None if scratch else row["shape"],
                }
            )
    return {
        "blocks": blocks,
        "n_steps": len(table),
        "arena_bytes": parsed.arena_bytes,
        "live_bytes": parsed.live_bytes,
        "int8_input": parsed.graph.input_requantize is None,
    }


def _short(name):
    return name.removesuffix("_s8").replace("windowed_attention", "attention").replace("_", " ")


def _cycle_facts(packed, target, say, bench=None):
    """Cycles op by op, or the reason why there are none."""
    info = profile.info(packed)
    found = {"board": target.name, "processor": target.processor, "clock_mhz": target.clock_hz / 1e6}
    found["ops"] = info["ops"]
    if bench is None and info["macs"] > MAX_BENCH_MACS:
        reason = (
            f"{info['macs']:,} multiply-accumulates a window take minutes to emulate; "
            f"count them with: attn8 pack RUN -o model.a8 && attn8 bench model.a8 --board {target.name}"
        )
        return found | {"missing": reason}
    if bench is None:
        say(f"report: {target.unit} of one window on an emulated {target.processor}")
        try:
            bench = boards.bench(packed, target.name, vectors=1)
        except (ToolMissingError, boards.BoardError) as error:
            return found | {"missing": str(error)}
    return found | bench


def _board_facts(packed, cycles, say):
    """What a window costs on each kind of processor: a bench that is there already, and those of the other boards."""
    cores = {}
    for board in boards.EMULATED.values():
        cores.setdefault(board.core.name, []).append(board)
    few = sum(op["macs"] for op in cycles["ops"]) <= min(MAX_BOARDS_MACS, MAX_BENCH_MACS)
    rows = []
    for same in cores.values():
        target = next((board for board in same if board.name == cycles["board"]), same[0])
        found = cycles if target.name == cycles["board"] else None
        if found is None and few and not target.core.slow:
            say(f"report: {target.unit} of one window on an emulated {target.core.title}")
            found = _bench_or_reason(packed, target)
        rows.append(_board_row(same, target, found))
    return {"rows": rows}


def _bench_or_reason(packed, target):
    try:
        return boards.bench(packed, target.name, vectors=1)
    except (ToolMissingError, boards.BoardError) as error:
        return {"missing": str(error)}


def _board_row(same, target, found):
    row = {"boards": [board.name for board in same], "core": target.core.title, "unit": target.unit}
    if found is None:
        command = f"attn8 bench model.a8 --board {target.name}"
        return row | {"missing": f"it takes long to emulate; attn8 pack RUN -o model.a8 && {command}"}
    if "missing" in found:
        return row | {"missing": found["missing"]}
    unit, keys = target.unit, ("percent_of_bound", "flash_bytes", "ram_bytes", "stack_bytes", "source")
    return row | {"count": found[unit], "per_mac": found[f"{unit}_per_mac"], **{key: found[key] for key in keys}}


# ---- facts: windows ------------------------------------------------------------------------------------------------


def _window_facts(tested, i):
    """The signal and the origin of test window i."""
    windows, number = tested.run.windows, int(tested.test[i])
    shown = min(len(windows.channels), MAX_CHANNELS)
    values = windows.x[number, :, :shown] / windows.counts_per_unit[:shown]
    found = {
        "number": number,
        "group": windows.group_names[int(windows.group[number])],
        "recording": None,
        "start": None,
        "values": values.tolist(),
        "channels": windows.channels[:shown],
        "units": windows.units[:shown],
        "n_channels": len(windows.channels),
        "sample_rate_hz": windows.sample_rate_hz,
        "true": tested.labels[int(tested.y[i])],
        "said": tested.labels[int(tested.predicted[i])],
        "score": int(tested.scores[i, tested.predicted[i]]),
        "true_score": int(tested.scores[i, tested.y[i]]),
    }
    if windows.recording is not None:
        found["recording"] = windows.recording_names[int(windows.recording[number])]
    if windows.start is not None:
        found["start"] = int(windows.start[number])
    return found


def _attention_facts(tested):
    chosen = _surest_of_classes(tested)
    weights = attention_weights(tested.run.model, tested.run.windows.x[tested.test[chosen]])
    shown = [_window_facts(tested, i) for i in chosen]
    for k, window in enumerate(shown):
        layers = [layer[k] for layer in weights]
        window["received"] = np.mean([layer.mean((0, 1)) for layer in layers], axis=0).tolist()
        window["maps"] = [
            {"layer": n + 1, "head": h + 1, "largest": float(head.max()), "weights": svg.shrink(head).tolist()}
            for n, layer in enumerate(layers)
            for h, head in enumerate(layer[:MAX_HEADS])
        ]
    heads = weights[0].shape[1] if weights else 0
    return {"windows": shown, "heads": heads, "heads_shown": min(heads, MAX_HEADS), "tokens": tested.run.model.n_tokens}


def _surest_of_classes(tested):
    """Positions of up to N_ATTENTION windows that are right, of different classes, each the surest of its class."""
    right, best = tested.predicted == tested.y, tested.scores.max(1, initial=0)
    classes = np.unique(tested.y[right])
    classes = classes[np.linspace(0, len(classes) - 1, min(len(classes), N_ATTENTION)).astype(int)]
    return [int(np.argmax(np.where(right & (tested.y == c), best, -1))) for c in classes]


def attention_weights(model, x):
    """How the float model weighs its tokens.

    Args:
        model: Attn8Net in evaluation mode.    x: int16 (N, T, C), counts.

    Returns:
        list with one float array (N, H, T', T') a layer; entry [n, h, i, j] is the weight that token i gives to j.
    """
    import torch

    found = []
    hooks = [
        block.attention.register_forward_pre_hook(lambda layer, inputs: found.append(layer.weights(inputs[0])))
        for block in model.blocks
    ]
    try:
        with torch.inference_mode():
            model(torch.from_numpy(np.ascontiguousarray(x)).float())
    finally:
        for hook in hooks:
            hook.remove()
    return [weights.numpy() for weights in found]


def _worst(tested):
    wrong, windows = np.flatnonzero(tested.predicted != tested.y), tested.run.windows
    chosen = []
    for i in wrong[np.argsort(-tested.scores[wrong].max(1, initial=0), kind="stable")]:
        new = not any(_overlap(windows, tested.test[i], tested.test[j]) for j in chosen)
        if new and len(chosen) < N_WORST:
            chosen.append(i)
    return {"n_wrong": len(wrong), "n": len(tested.y), "windows": [_window_facts(tested, i) for i in chosen]}


def _overlap(windows, a, b):
    """Whether two windows share samples of one recording: showing both would show one thing twice."""
    if windows.recording is None or windows.start is None or windows.recording[a] != windows.recording[b]:
        return False
    return abs(int(windows.start[a]) - int(windows.start[b])) < windows.x.shape[1]


# ---- the page ------------------------------------------------------------------------------------------------------


def render(facts):
    """Returns the page of what ``facts`` returned, as HTML text."""
    figures = {
        "curves": _curve_figures(facts["curves"]),
        "confusion": _confusion_figures(facts["confusion"]),
        "classes": _class_figure("F1 of each class", facts["classes"]["per_class"], "f1", svg.fraction),
        "groups": _class_figure("Accuracy of each test group", facts["classes"]["per_group"], "accuracy", svg.percent),
        "bytes": _byte_figure(facts["bytes"]),
        "arena": _arena_figure(facts["arena"]),
        "cycles": _cycle_figure(facts["cycles"]),
        "attention": [_attention_figures(window) for window in facts["attention"]["windows"]],
        "worst": [_trace(window) for window in facts["worst"]["windows"]],
    }
    return page.render("report.html.j2", facts=facts, figures=figures, max_listed=MAX_LISTED, short=_short)


def _curve_figures(curves):
    history, best = curves["history"], curves["best"]
    epochs = [m["epoch"] for m in history]

    def lines(*keys):
        found = [(name, epochs, [m.get(key) for m in history]) for name, key in keys]
        return [line for line in found if any(value is not None for value in line[2])]

    def panel(name):
        both = lines(("training", f"train_{name}"), ("validation", f"validation_{name}"))
        return {"y_label": name.replace("_f1", "-F1"), "series": both, "y_range": (0, 1)}

    mark = (best["epoch"], f"best: {best['epoch']:.0f}") if best else None
    loss = lines(("training", "loss"), ("validation", "validation_loss"))
    both = [plot for plot in (panel("accuracy"), panel("macro_f1")) if plot["series"]]
    figures = [svg.line_chart("Loss over the epochs", loss, "epoch", "loss", None, mark, 187)] if history else []
    return figures + ([svg.panels("Scores over the epochs", both, "epoch", mark, 80)] if both else [])


def _confusion_figures(facts):
    kinds = (("int8", "INT8"), ("float", "float"))
    return [
        svg.confusion(f"Confusion matrix of the {name} model", facts[kind], facts["labels"]) for kind, name in kinds
    ]


def _class_figure(title, rows, key, form):
    shown = [row for row in rows if row["n"]]
    if len(shown) > MAX_LISTED:
        shown = sorted(shown, key=lambda row: row[f"int8_{key}"])[:MAX_LISTED]
    bars = []
    for row in shown:
        values = [row[f"float_{key}"], row[f"int8_{key}"]]
        bars.append((row["name"], values, " / ".join(form(value) for value in values)))
    return svg.bars(title, bars, ("float", "INT8"), 1) if bars else ""


def _byte_figure(facts):
    total = facts["model_bytes"]
    rows = sorted((line for line in facts["account"] if line["bytes"]), key=lambda line: -line["bytes"])
    return svg.bars(
        f"Bytes of the file, {total:,} in all",
        [(_plain(r["what"]), [r["bytes"]], f"{r['bytes']:,} B · {svg.percent(r['bytes'] / total)}") for r in rows],
    )


def _plain(what):
    return _RECORDS.get(what, what.partition(",")[0])


def _arena_figure(arena):
    lines = [(arena["arena_bytes"], f"arena {arena['arena_bytes']:,} bytes")]
    if arena["live_bytes"] != arena["arena_bytes"]:
        lines.append((arena["live_bytes"], f"floor {arena['live_bytes']:,} bytes"))
    blocks = [block | {"short": f"{block['step']}"} for block in arena["blocks"]]
    return svg.memory_blocks("Memory of one window over its steps", blocks, arena["n_steps"], lines, KINDS)


def _cycle_figure(cycles):
    if "unit" not in cycles:
        return ""
    kinds, unit = {}, cycles["unit"]
    for op in cycles["ops"]:
        kinds.setdefault(_short(op["name"]), []).append(op[unit])
    total = sum(op[unit] for op in cycles["ops"])
    rows = sorted(((f"{name} ({len(n)} ×)", sum(n)) for name, n in kinds.items()), key=lambda row: -row[1])

    def said(n):
        return f"{profile.latency_ms(n, cycles['clock_mhz'] * 1e6):.1f} ms" if "ms" in cycles else f"{n:,}"

    return svg.bars(
        f"{unit.capitalize()} by kind of op",
        [(name, [n], f"{said(n)} · {svg.percent(n / total)}") for name, n in rows],
    )


def _attention_figures(window):
    received = np.array(window["received"])
    maps = []
    for found in window["maps"]:
        weights = np.array(found["weights"])
        maps.append((f"L{found['layer']} H{found['head']} · {100 * found['largest']:.0f}%", weights / weights.max()))
    strip = ("attention received", received / received.max())
    return {"trace": _trace(window, strip), "maps": svg.heat_maps("Attention weights by layer and head", maps)}


def _trace(window, strip=None):
    return svg.traces(
        f"Signal of a window of class {window['true']}",
        np.array(window["values"]),
        window["channels"],
        window["units"],
        window["sample_rate_hz"],
        MAX_CHANNELS,
        strip,
    )
