"""``attn8 demo``: the whole way from recordings to the same bytes everywhere, on one page."""

from pathlib import Path

from rich.table import Table

from . import backends, boards, config, workflow
from .data import load_windows, split_windows
from .errors import ToolMissingError
from .model_file import check_file, read_model
from .report import write_report

N_WINDOWS = 64  # of the test part, run on every back end


def run_demo(out, say, settings=None, seed=None, progress=True):
    """Trains, packs, checks and runs the demo model everywhere.

    Args:
        out: folder for the run, model.a8 and metrics.json.
        say: called with one line of text before each step.
        settings: config.Config; None = the shipped one.

    Returns:
        the metrics, as in OUT/metrics.json, and "report", the path of the page.
    """
    from . import train  # noqa: F401  (says at once that PyTorch is missing)

    out = Path(out)
    settings = settings or config.shipped_config()
    windows = load_windows(settings.data)
    split = split_windows(windows, settings.data)
    say(f"1/7 train: {len(split.train)} windows of {len(split.train_groups)} people, {settings.training.epochs} epochs")
    metrics = workflow.train_run(settings, windows, out, seed, progress, replace_unfinished=True)
    say("2/7 quantize: ranges calibrated on training windows; every number is an integer from here on")
    say(f"3/7 pack: {out / 'model.a8'}")
    workflow.pack_run(out, out / "model.a8")
    say("4/7 check: structure, checksum, golden vectors")
    check_file(out / "model.a8")
    say(f"5/7 run: the first {N_WINDOWS} test windows on every back end")
    data, x = read_model(out / "model.a8"), windows.x[split.test]
    metrics["backends"], skipped = _run_everywhere(data, x, say)
    say("6/7 bench: one window on an emulated RP2040")
    bench = _try("rp2040", skipped, say, lambda: boards.bench(data, "pico"))
    keys = ("cycles", "ms_at_125mhz", "arena_bytes", "source")
    metrics["rp2040"] = {key: bench[key] for key in keys} if bench else None
    metrics["skipped"] = skipped
    workflow._write_json(out / workflow.METRICS, metrics)
    say(f"7/7 report: {out / 'report.html'}, the whole run on one page")
    metrics["report"] = write_report(out, windows=windows, bench=bench)["file"]
    return metrics


def _try(name, skipped, say, action):
    """Returns what the action returns; None, with the reason noted and said, where a tool is missing."""
    try:
        return action()
    except ToolMissingError as error:
        skipped[name] = str(error)
        say(f"    {name} skipped: {error}")
        return None


def _run_everywhere(data, x, say):
    found, skipped = {}, {}
    for name in ("reference", "c", "micropython"):
        found[name] = _try(name, skipped, say, lambda name=name: _run_backend(name, data, x))
    return found, skipped


def _run_backend(name, data, x):
    engine = backends.open_backend(name, data)
    result = {"n_windows": len(x[:N_WINDOWS]), "sha256": backends.sha256(engine.run(x[:N_WINDOWS]))}
    if name != "micropython":  # interpreted kernels: minutes for all windows
        result |= {"n_windows_all": len(x), "sha256_all": backends.sha256(engine.run(x))}
    return result


def render(metrics, out):
    """Returns the short table that ends the demo."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    accuracy = "{:.1%} right, macro-F1 {:.3f}, on {} windows of {} unseen people"
    n, people = metrics["n_test"], len(metrics["test_groups"])
    for kind in ("float", "int8"):
        text = accuracy.format(metrics[f"{kind}_accuracy"], metrics[f"{kind}_macro_f1"], n, people)
        table.add_row(f"{kind} model", text)
    size = f"{metrics['model_bytes']:,} bytes of flash, {metrics['arena_bytes']:,} bytes of RAM for a window"
    table.add_row("size", size)
    table.add_row("work", f"{metrics['macs']:,} multiply-accumulates, {metrics['parameters']:,} parameters")
    table.add_row("same bytes", _verdict(metrics["backends"]))
    if metrics["rp2040"]:
        table.add_row("RP2040", _speed(metrics["rp2040"]))
    for name, reason in metrics["skipped"].items():
        table.add_row(f"{name} skipped", reason)
    table.add_row("report", f"{out}/report.html: open it in a browser")
    table.add_row("next", f"attn8 info {out}/model.a8")
    return table


def _speed(rp2040):
    cycles = f"{rp2040['cycles']:,} emulated cycles, zero-wait memory"
    return f"{rp2040['ms_at_125mhz']:.1f} ms a window at 125 MHz in {rp2040['arena_bytes']:,} bytes of RAM ({cycles})"


def same_bytes(found):
    """Says whether all back ends that ran gave the same bytes; None if fewer than two ran."""
    ran = [b for b in found.values() if b]
    if len(ran) < 2:
        return None
    every = {b["sha256_all"] for b in ran if "sha256_all" in b}
    return len({b["sha256"] for b in ran}) == 1 and len(every) == 1


def _verdict(found):
    names = ", ".join(name for name, b in found.items() if b)
    same = same_bytes(found)
    return f"only {names} ran" if same is None else f"{'yes' if same else 'NO'}: {names}"
