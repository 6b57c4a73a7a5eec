"""Progress bars: of a training, of anything that has a number of steps, and of files on their way to boards."""

import shutil
import sys
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from .terminal import one_line, printable


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


class TransferBars:
    """Context manager that gives ``advance(board, what, bytes done, bytes in all)``: a bar a board.

    Args:
        shown: False draws nothing.
    """

    def __init__(self, shown):
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True)
        self.tasks = {}

    def __enter__(self):
        self.bar.start()
        return self.advance

    def __exit__(self, *exception):
        self.bar.stop()

    def advance(self, board, what, done, total):
        if board not in self.tasks:
            self.tasks[board] = self.bar.add_task("", total=total)
        self.bar.update(self.tasks[board], completed=done, total=total, description=printable(f"{board} {what}"))


class StatusLine:
    """Context manager that gives ``show(text)``: one line on stderr that is written anew each time.

    Args:
        shown: False draws nothing.
    """

    def __init__(self, shown):
        self.shown, self.width = shown, 0

    def __enter__(self):
        return self.show

    def __exit__(self, *_):
        if self.width:
            sys.stderr.write("\n")

    def show(self, text):
        if self.shown:
            text = one_line(text)[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write("\r" + text.ljust(self.width))
            sys.stderr.flush()
            self.width = len(text)


class Panel:
    """Context manager: some lines of a terminal that are written anew each time, else plain lines on stdout.

    Args:
        shown: False draws nothing.
    """

    def __init__(self, shown):
        self.shown, self.labels, self._live = shown, (), None
        if shown and sys.stdout.isatty():
            self._live = Live(console=Console(highlight=False), auto_refresh=False)

    def __enter__(self):
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_):
        if self._live:
            self._live.stop()

    def show(self, panel, line):
        """Shows one text or the other, by where stdout goes."""
        if self._live:
            self._live.update(Text(printable(panel)), refresh=True)
        elif self.shown:
            print(one_line(line), flush=True)
