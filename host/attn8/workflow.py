"""What the verbs of the command line do, as functions: each takes plain arguments and returns a dict for JSON."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from . import backends, config, pack, profile, reference
from .atomic import locked, read_bytes, write_atomic
from .data import Split, load_windows, split_windows
from .data.groups import are_seen, normal_form
from .errors import ConfigError, DataError, RunError
from .evaluate import confusion_matrix, per_group, scores, stream_outputs
from .model_file import read_model

METRICS = "metrics.json"
MODES = ("calibrate", "train")
MAX_METRICS_BYTES = 64 << 20


@dataclass
class OpenRun:
    """A trained run with its data.

    Fields:
        folder: Path.    settings: config.Config.    meta: dict of meta.json.
        model: Attn8Net in evaluation mode.    net: the calibrated QuantNet, or None before quantization.
        windows: data.Windows.    split: data.Split, as training dealt it.
    """

    folder: Path
    settings: object
    meta: dict
    model: object
    net: object
    windows: object
    split: Split


def open_run(run_dir, data=None, trust_code=False, quantized=True, windows=None):
    """Loads a run folder and its data.

    Args:
        run_dir: run folder.    data: .npz or folder in place of the configured data.    windows: loaded already.
        trust_code: allow ``data.function`` of the configuration to run.
        quantized: load the quantized model too.

    Returns:
        OpenRun.

    Raises:
        RunError: if the folder is incomplete.    DataError: if the data do not go with it.
    """
    from .quantize import load_quantized
    from .train import load_run

    folder = Path(run_dir)
    settings, model, meta = load_run(folder)
    windows = _run_windows(settings, meta, data, trust_code) if windows is None else windows
    net = load_quantized(model, folder) if quantized else None
    return OpenRun(folder, settings, meta, model, net, windows, run_split(windows, meta))


def training_windows(settings, trust_code=False):
    """Loads the windows that a configuration trains on; float ones in the scale of the run that it starts from.

    Args:
        settings: config.Config.    trust_code: allow ``data.function`` to run.
    """
    windows = load_windows(settings.data, trust_code=trust_code)
    if settings.training.init:
        from .train import load_meta

        meta = load_meta(settings.training.init)
        scale = np.asarray(meta["counts_per_unit"], dtype=np.float32)
        if meta["channels"] == windows.channels and not np.array_equal(scale, windows.counts_per_unit):
            windows = load_windows(settings.data, counts_per_unit=scale, trust_code=trust_code)
        _note_seen(windows, settings, meta)
    return windows


def _note_seen(windows, settings, meta):
    """Notes groups that the run to start from was trained on: as test groups they would flatter."""
    seen = are_seen(windows.group_names, meta["train_groups"] + meta["validation_groups"])
    if seen.any():
        names = [name for name, is_seen in zip(windows.group_names, seen, strict=True) if is_seen]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        windows.notes.append(
            f"group {', '.join(names[:5])}{more}: in the training of {settings.training.init}, so that the figures "
            "flatter where they are tested"
        )


def train_run(
    settings,
    windows,
    out,
    seed=None,
    progress=True,
    say=lambda text: None,
    replace_unfinished=False,
    model=None,
):
    """Trains, calibrates and evaluates; leaves a run folder with metrics.json. ``say`` gets a line at the start.

    Args:
        settings: config.Config.    windows: data.Windows.    out: run folder.
        replace_unfinished: start anew where the folder holds a training that could be resumed.
        model: a network to train in place of a new one.

    Returns:
        the metrics, as in RUN/metrics.json; "interrupted" is true after Ctrl-C.
    """
    from .train import train

    options = {"seed": seed, "progress": progress, "replace_unfinished": replace_unfinished, "model": model}
    with locked(out):
        say(f"train: {len(windows)} windows of {windows.name}, epochs: {settings.training.epochs}, into {out}")
        result = train(settings, windows, out, say=say, **options)
        return _finish(result, windows, progress)


def resume_run(run_dir, progress=True, say=lambda text: None, trust_code=False):
    """Goes on with a training that was stopped, to the weights of one that was not. Returns as train_run does."""
    from .train import load_meta, load_run_config, resume

    settings = load_run_config(run_dir)
    with locked(run_dir):
        windows = _run_windows(settings, load_meta(run_dir), trust_code=trust_code)
        result = resume(run_dir, windows, progress=progress, say=say)
        if (Path(run_dir) / METRICS).exists():  # all was done: a model of `quantize --mode train` stays as it is
            return read_metrics(run_dir) | {"interrupted": False}
        return _finish(result, windows, progress)


def _finish(result, windows, progress):
    metrics = _quantize(result.out_dir, "calibrate", windows, None, progress, False)
    return metrics | {"interrupted": result.interrupted}


def quantize_run(run_dir, mode, windows=None, data=None, progress=True, trust_code=False):
    """Calibrates the float model of a run, or trains the quantized one; updates RUN/metrics.json.

    Args:
        run_dir: run folder.    mode: "calibrate" or "train".    windows: loaded already, or None.
        data: an .npz or folder in place of the configured data.
        trust_code: allow ``data.function`` of the configuration to run.
    """
    if mode not in MODES:
        raise ConfigError(f"quantize: mode: got {mode!r}, expected one of {', '.join(MODES)}; choose one of these")
    if not Path(run_dir).is_dir():
        raise RunError(f"run {run_dir}: got no such folder, expected one that `attn8 train --out` made; check the path")
    with locked(run_dir):
        return _quantize(Path(run_dir), mode, windows, data, progress, trust_code)


def _quantize(run_dir, mode, windows, data, progress, trust_code):
    from . import quantize
    from .train import load_run

    settings, model, meta = load_run(run_dir)
    windows = _run_windows(settings, meta, data, trust_code) if windows is None else windows
    split = run_split(windows, meta)
    there = {normal_form(windows.group_names[i]) for i in np.unique(windows.group)}
    missing = sorted(name for name in meta["train_groups"] if normal_form(name) not in there)
    if missing:
        raise RunError(f"run {run_dir}: {windows.name}: got no group {missing[0]}, expected the training data")
    shuffled = np.random.default_rng(settings.training.seed).permutation(split.train)
    net, report = quantize.calibrate(model, windows.x[shuffled], settings.quantization)
    if mode == "train":
        quantize.train_quantized(net, settings, windows, split, progress)
    unseen = split.validation if len(split.validation) else shuffled
    quantize.fit_temperature(net, windows.x[unseen], windows.y[unseen])
    quantize.save_quantized(net, run_dir)
    metrics = evaluate_split(settings, model, net, meta, windows, split)
    metrics |= {"quantization": mode, "observer": report["observer"], "calibration_sqnr_db": report["sqnr_db"]}
    _write_json(run_dir / METRICS, metrics)
    return metrics


def _run_windows(settings, meta, data=None, trust_code=False):
    data_config = _cut_for(settings.data, meta["window"], meta)
    scale = np.asarray(meta["counts_per_unit"], dtype=np.float32)
    _check_has_data(settings, meta, data)
    windows = load_windows(data_config, data, scale, trust_code)
    _check_fit(windows, [meta["window"], len(meta["channels"])], meta["labels"], meta["units"])
    return windows


def _check_has_data(settings, meta, data):
    named = data or settings.data.file or settings.data.function
    if not named and meta["dataset"] != settings.data.name:
        raise RunError(
            f"data: got a run that was trained on {meta['dataset']} in memory, expected its windows; "
            "save them with Windows.save(FILE) and give --data FILE"
        )


def _cut_for(data_config, window, model):
    """Settings that cut recordings as a model wants them: its window, rate, channels and classes in its order."""
    return replace(
        data_config,
        window=window,
        hop=model["hop"],
        labels=model["labels"],
        channels=model["channels"],
        sample_rate_hz=float(model["sample_rate_hz"]),
    )


def _cut_for_file(g):
    """The same for the graph of a packed model."""
    keys = ("hop", "labels", "channels", "sample_rate_hz")
    return _cut_for(config.shipped_config().data, g.n_steps, {key: getattr(g, key) for key in keys})


def run_split(windows, meta):
    """Deals windows as a run did: by the group names that it wrote down, never by dealing again.

    A name in another spelling (case, spaces, encoding) is the same group.

    Args:
        windows: data.Windows, those of the run or others; a fixed ``test`` narrows the test part.
        meta: RUN/meta.json.

    Raises:
        DataError: if no window is left that training did not see.
    """
    parts = ("train", "validation")
    train, validation = (are_seen(windows.group_names, meta[f"{part}_groups"])[windows.group] for part in parts)
    validation &= ~train
    test = ~(train | validation)
    if windows.test is not None:
        test &= windows.test
    if not test.any():
        raise DataError(
            f"{windows.name}: group: got only groups that training saw, expected others; "
            "name the groups of new recordings differently"
        )
    parts = [np.flatnonzero(part) for part in (train, validation, test)]
    return Split(*parts, *([windows.group_names[i] for i in np.unique(windows.group[part])] for part in parts))


def _check_fit(windows, shape, labels, units):
    got = list(windows.x.shape[1:])
    if got != list(shape):
        raise DataError(
            f"{windows.name}: x: got windows of {got}, expected {list(shape)} (T, C) of the model; cut them so"
        )
    if windows.labels != labels:
        raise DataError(
            f"{windows.name}: labels: got {', '.join(windows.labels)}, expected the model's: {', '.join(labels)}; "
            "give the data the same labels in the same order"
        )
    unknown = ("", "count")
    for channel, got, expected in zip(windows.channels, windows.units, units, strict=True):
        if got != expected and got not in unknown and expected not in unknown:
            raise DataError(
                f"{windows.name}: units: got {got} for {channel}, expected {expected} as in the model; convert the data"
            )


def evaluate_split(settings, model, net, meta, windows, split):
    """Evaluates float and INT8 on the test part, and the agreement of fake quantization with the packed file."""
    from .evaluate import evaluate_float, predict_float

    x, y, n_classes = windows.x[split.test], windows.y[split.test], len(windows.labels)
    found = evaluate_float(model, windows, split.test)
    data = pack_net(net, settings, meta)
    engine = backends.open_backend("auto", data)
    outputs = engine.run(x)
    fake = predict_float(net, x)
    integer = scores(y, outputs.argmax(1), n_classes)
    info = profile.info(data)
    return {
        "dataset": windows.name,
        "n_train": len(split.train),
        "n_test": len(split.test),
        "test_groups": split.test_groups,
        "float_accuracy": found["accuracy"],
        "float_macro_f1": found["macro_f1"],
        "int8_accuracy": integer["accuracy"],
        "int8_macro_f1": integer["macro_f1"],
        "agreement_float_int8": float(np.mean(found["predicted"] == outputs.argmax(1))),
        "agreement_fakequant_int8": float(np.mean(fake.argmax(1) == outputs.argmax(1))),
        "identical_logits_fakequant_int8": float(np.mean((np.rint(fake / float(net.scales[-1])) == outputs).all(1))),
        "per_group_int8": per_group(y, outputs.argmax(1), windows.group[split.test], windows.group_names, n_classes),
        **_stream_scores(engine, x, windows, split.test, info["stream_bytes"]),
        **{key: info[key] for key in ("parameters", "macs", "model_bytes", "arena_bytes")},
    }


def _stream_scores(engine, x, windows, indices, stream_bytes):
    """Returns the figures of the model as a stream over the recordings, where model and data allow one."""
    if stream_bytes is None:
        return {}
    outputs = stream_outputs(engine, x, windows, indices)
    if outputs is None:
        return {}
    found = scores(windows.y[indices], outputs.argmax(1), len(windows.labels))
    return {"stream_accuracy": found["accuracy"], "stream_macro_f1": found["macro_f1"]}


def pack_net(net, settings, meta):
    """Returns the packed bytes of a calibrated QuantNet."""
    from .quantize import to_graph

    return pack.pack(to_graph(net, settings, meta))


def pack_run(run_dir, path):
    """Packs the quantized model of a run. Returns what ``profile.info`` says of the file."""
    from .quantize import load_quantized
    from .train import load_run

    settings, model, meta = load_run(run_dir)
    data = pack_net(load_quantized(model, Path(run_dir)), settings, meta)
    pack.save(data, path)
    return {"file": str(path), **profile.info(data)}


def evaluate_run(run_dir, data=None, trust_code=False, say=lambda text: None):
    """Evaluates float and INT8 of a run on its test groups, or on the test part of other data.

    ``say`` gets a line on each thing to know about other data.
    """
    run = open_run(run_dir, data, trust_code)
    if data:
        _say_all(run.windows.notes, say)
    return evaluate_split(run.settings, run.model, run.net, run.meta, run.windows, run.split)


def _say_all(notes, say):
    for note in notes:
        say(note)


def evaluate_file(path, data=None, backend="auto", say=lambda text: None, overrides=()):
    """Evaluates a packed file.

    Args:
        path: model file.    backend: see backends.open_backend.
        data: .npz or folder (its ``test`` windows where it marks some, else all); None = the people that the
            shipped model never saw, for that model alone: a file does not say what it was trained on.
        say: gets a line on each thing to know about the data.
        overrides: texts as of ``--set``, for how the data are laid out, as in data.pattern={group}/{label}.
    """
    packed = read_model(path)
    g = reference.parse(packed).graph
    data_config = config.shipped_config().data if data is None else _cut_for_file(g)
    data_config = config.apply_overrides(replace(config.shipped_config(), data=data_config), overrides).data
    windows = load_windows(data_config, data, g.counts_per_unit)
    _say_all(windows.notes, say)
    if data is None and packed != config.shipped_model_path().read_bytes():
        raise DataError(f"{path}: does not say what it was trained on; evaluate the run folder, or give --data DATA")
    _check_fit(windows, [g.n_steps, g.n_channels], g.labels, g.units)
    indices = np.arange(len(windows))
    held_out = data is None or windows.test is not None
    if held_out:
        indices = split_windows(windows, data_config).test
    engine = backends.open_backend(backend, packed)
    x = _as_input(windows.x[indices], g, windows.name)
    predicted = engine.run(x).argmax(1)
    streaming = engine if hasattr(engine, "run_recording") else backends.open_backend("auto", packed)
    y, n_classes = windows.y[indices], len(windows.labels)
    found = scores(y, predicted, n_classes)
    return {
        "dataset": windows.name,
        "backend": engine.name,
        "n_test": len(y),
        "held_out": held_out,
        "test_groups": [windows.group_names[i] for i in np.unique(windows.group[indices])],
        "int8_accuracy": found["accuracy"],
        "int8_macro_f1": found["macro_f1"],
        "per_group_int8": per_group(y, predicted, windows.group[indices], windows.group_names, n_classes),
        "confusion_int8": confusion_matrix(y, predicted, n_classes).tolist(),
        **_stream_scores(streaming, x, windows, indices, profile.info(packed)["stream_bytes"]),
    }


def labelled_windows(g, data, say=lambda text: None):
    """Returns (x, y, name) of data for the graph of a packed model: the ``test`` windows where it marks some, else all.

    Args:
        data: .npz or folder.    say: gets a line on each thing to know about the data.

    Returns:
        x: as the model takes it, int16 or int8 (N, T, C).    y: (N,) indices of the model's labels.    name: str.
    """
    data_config = _cut_for_file(g)
    windows = load_windows(data_config, data, g.counts_per_unit)
    _say_all(windows.notes, say)
    _check_fit(windows, [g.n_steps, g.n_channels], g.labels, g.units)
    x, y = windows.x, windows.y
    if windows.test is not None:
        test = split_windows(windows, data_config).test
        x, y = x[test], y[test]
    return _as_input(x, g, windows.name), y, windows.name


def evaluate_folds(settings, windows, folds, out, seed=None, progress=True, say=lambda text: None):
    """Trains and evaluates once per fold; every group is in the test part once. ``say`` gets a line per fold.

    Returns:
        dict with the mean and standard deviation over the folds of accuracy and macro-F1, float, INT8 and, of a
        causal model on recordings, stream; and ``folds``, the metrics of each.
    """
    if windows.test is not None:
        raise DataError(f"{windows.name}: test: got a fixed split, which has no folds; use train, or leave test out")
    results = []
    for fold in range(folds):
        say(f"fold {fold + 1} of {folds}")
        part = replace(settings, data=replace(settings.data, folds=folds, fold=fold))
        folder = Path(out) / f"fold{fold}"
        results.append(train_run(part, windows, folder, seed, progress, replace_unfinished=True))
        if results[-1]["interrupted"]:
            raise RunError(f"evaluate: stopped in fold {fold} of {folds}; run it again")
    summary = {}
    for key in (f"{kind}_{figure}" for kind in ("float", "int8", "stream") for figure in ("accuracy", "macro_f1")):
        if any(key not in r for r in results):
            continue
        values = [r[key] for r in results]
        summary |= {f"{key}_mean": float(np.mean(values)), f"{key}_std": float(np.std(values))}
    summary["agreement_fakequant_int8_min"] = min(r["agreement_fakequant_int8"] for r in results)
    return {"dataset": windows.name, **summary, "folds": results}


def _as_input(x, g, name):
    """Returns int16 windows as the model takes them: an INT8 model takes values in -128..127."""
    if g.input_requantize is not None:
        return x
    if x.min() < -128 or x.max() > 127:
        raise DataError(f"{name}: x: got values {x.min()}..{x.max()}, expected -128..127 for a model with int8 input")
    return x.astype(np.int8)


def run_file(path, data_path, backend, say=lambda text: None):
    """Runs the windows of an .npz (only its ``x`` is needed) or a folder. Returns outputs and their hash.

    ``say`` gets a line on each thing to know about the data.
    """
    from .data import load_x

    packed = read_model(path)
    g = reference.parse(packed).graph
    notes = []
    x = load_x(data_path, g.counts_per_unit, _cut_for_file(g), notes)
    _say_all(notes, say)
    if list(x.shape[1:]) != [g.n_steps, g.n_channels]:
        raise DataError(
            f"{data_path}: x: got windows of {list(x.shape[1:])}, expected [{g.n_steps}, {g.n_channels}] (T, C); "
            "cut them so"
        )
    engine = backends.open_backend(backend, packed)
    outputs = engine.run(_as_input(x, g, data_path))
    best = outputs.argmax(1) if len(outputs) else []
    return {
        "backend": engine.name,
        "n_windows": len(outputs),
        "outputs": outputs.tolist(),
        "predicted": [g.labels[i] for i in best],
        "sha256": backends.sha256(outputs),
    }


def read_metrics(run_dir):
    """Returns RUN/metrics.json as a dict. Raises RunError where there is none."""
    try:
        found = json.loads(read_bytes(Path(run_dir) / METRICS, MAX_METRICS_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"run {run_dir}: {METRICS}: got {error}, expected a finished run; train it again") from None
    if not isinstance(found, dict):
        raise RunError(f"run {run_dir}: {METRICS}: got no object, expected a finished run; train it again")
    return found


def _write_json(path, value):
    write_atomic(path, json.dumps(value, indent=2).encode() + b"\n")
