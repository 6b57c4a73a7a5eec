"""Progress bars: that of a training, and one for anything that has a number of steps."""

from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Context manager that gives ``advance(metrics)``; silent when not shown.

    Args:
        n_epochs: epochs of the whole training.    shown: False draws nothing.    done: epochs of an earlier start.
    """

    def __init__(self, n_epochs, shown, done=0):
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        figures, console = TextColumn("{task.fields[figures]}"), Console(stderr=True)  # stdout is for --json
        self.bar = Progress(*columns, figures, console=console, disable=not shown)
        self.task = self.bar.add_task("training", total=n_epochs, completed=done, figures="")

    def __enter__(self):
        self.bar.start()
        return self.advance

    def __exit__(self, *exception):
        self.bar.stop()

    def advance(self, metrics):
        part = "validation" if "validation_accuracy" in metrics else "train"
        accuracy, f1 = metrics[f"{part}_accuracy"], metrics[f"{part}_macro_f1"]
        figures = f"loss {metrics['loss']:.3f}  {part} accuracy {accuracy:.1%}  macro-F1 {f1:.3f}"
        self.bar.update(self.task, advance=1, figures=figures)


@contextmanager
def counted(what, shown):
    """Gives ``progress(done, of)``; silent when not shown."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
