"""attn8 from Python: build, train, quantize, pack and look at a model of your own windows.

The ten lines of the README are the whole way. Everything here is also a verb of the command line; a run folder
made here goes on there, given its data.
"""

from pathlib import Path

from . import config as _config
from . import workflow
from .data import make_windows as windows
from .data import split_windows

__all__ = ["Run", "build", "config", "open_run", "train", "windows"]


def config(file=None, **settings):
    """Settings of a run.

    Args:
        file: a config.toml; None = the shipped one.
        **settings: changes, with "__" for the dot: ``training__epochs=20``, ``model__stem=[{"kernel": 9}]``.
    Returns:
        attn8.config.Config.
    Raises:
        ConfigError: naming the setting, got and expected.
    """
    base = _config.load_config(file) if file else _config.shipped_config()
    return _config.override(base, {key.replace("__", "."): value for key, value in settings.items()})


def build(settings, data):
    """A new, untrained network for these windows.

    Args:
        settings: Config.    data: attn8.data.Windows.
    Returns:
        attn8.model.Attn8Net, a torch module: x float (N, T, C) in counts -> logits (N, n_classes). Its input
        statistics are those of the training groups; its weights follow from ``training.seed``.
    """
    from .train import new_model

    return new_model(settings, data, split_windows(data, settings.data))


def train(settings, data, out, model=None, progress=False):
    """Train, calibrate to INT8 and evaluate.

    Args:
        settings: Config; a model without a name of its own takes that of the run folder.
        data: attn8.data.Windows.    out: run folder, replaced where it exists.
        model: what ``build`` returned, changed as you like; None builds one.
        progress: show a bar on stderr.
    Returns:
        Run.
    """
    if settings.model.name == _config.SHIPPED != data.name:
        settings = _config.override(settings, {"model.name": _config.fit_name(Path(out).name)})
    metrics = workflow.train_run(settings, data, out, progress=progress, replace_unfinished=True, model=model)
    return Run(Path(out), data, metrics)


def open_run(folder, data=None):
    """A run that was trained before; ``data`` are its windows, None loads what its configuration names."""
    opened = workflow.open_run(folder, windows=data)
    return Run(opened.folder, opened.windows, workflow.read_metrics(folder))


class Run:
    """A trained run.

    Attributes:
        folder: Path.    data: attn8.data.Windows.    metrics: dict, as in metrics.json.
    """

    def __init__(self, folder, data, metrics):
        self.folder, self.data, self.metrics = folder, data, metrics

    def __repr__(self):
        m = self.metrics
        return f"Run {str(self.folder)!r}: float {m['float_accuracy']:.1%}, INT8 {m['int8_accuracy']:.1%}"

    def quantize(self, mode="calibrate", progress=False):
        """Make the model INT8 anew: "calibrate", or "train" for quantization-aware training. Returns the metrics."""
        self.metrics = workflow.quantize_run(self.folder, mode, windows=self.data, progress=progress)
        return self.metrics

    def pack(self, path):
        """Write the model file. Returns what ``attn8 info`` shows, as a dict."""
        return workflow.pack_run(self.folder, path)

    def report(self, path=None):
        """Write the HTML page, by default into the run folder. Returns its path."""
        from .report import write_report

        return write_report(self.folder, path, windows=self.data)["file"]
