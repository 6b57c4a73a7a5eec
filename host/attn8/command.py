"""What all verbs of the command line share: common options, results and messages, one line for an error."""

import functools
import inspect
import io
import json
import sys

import click

from . import __version__
from .terminal import Printable, one_line, printable

EXIT_FAILED = 1  # click itself exits 2 for wrong usage
PIPE_WIDTH = 120  # columns of a table that no terminal shows
INSTALL_TORCH = (
    "pip install 'attn8[train]', or before it, to do without a GPU: "
    "pip install torch --index-url https://download.pytorch.org/whl/cpu"
)


ORDER = (
    *("demo", "train", "quantize", "pack", "evaluate", "report", "info", "check", "run", "bench", "fit", "data"),
    *("devices", "install", "build-native", "deploy", "rollback", "status", "flash", "repl", "test", "capture"),
    *("monitor", "new"),
)


class Verbs(click.Group):
    """Lists the verbs in the order of the way from a model to a board; others in that in which they were made."""

    def list_commands(self, context):
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="attn8")
def cli():
    """Small INT8 transformers for boards that run MicroPython or CircuitPython.

    Start with:  attn8 demo
    """


def verb(name, example, *decorators, group=cli):
    """Makes a command of a function: common options, one-line errors, an example in its help."""

    def wrap(function):
        @functools.wraps(function)
        def guarded(json_, quiet, verbose, **arguments):
            run_verb(function, Output(json_, quiet), verbose, arguments)

        guarded.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\n\b\nExample:\n  {example}"
        command = guarded
        common = (
            click.option(
                "--json", "json_", is_flag=True, help="Print one JSON object on stdout; messages go to stderr."
            ),
            click.option("--quiet", "-q", is_flag=True, help="No progress, no messages; only the result."),
            click.option("--verbose", "-v", is_flag=True, help="Show the traceback of an error."),
        )
        for decorator in reversed((*decorators, *common)):
            command = decorator(command)
        return group.command(name)(command)

    return wrap


class Output:
    """Where a verb prints: results on stdout, messages on stderr."""

    def __init__(self, json_, quiet):
        self.json, self.quiet = json_, quiet

    @property
    def progress(self):
        return not self.quiet and _is_terminal(sys.stderr)

    def say(self, text):
        """One line for a person, on stderr."""
        if not self.quiet:
            click.echo(one_line(text), err=True)

    def result(self, value, render):
        """Prints a dict as JSON, or what ``render(value)`` makes of it: text or a rich renderable."""
        if self.json:
            click.echo(json.dumps(value))
            return
        shown = render(value)
        if isinstance(shown, str):
            click.echo(printable(shown))
            return
        from rich.console import Console

        shown = Printable(shown)
        if _is_terminal(sys.stdout):
            Console(highlight=False).print(shown, markup=False)
            return
        console = Console(width=PIPE_WIDTH, highlight=False, file=io.StringIO())
        console.print(shown, markup=False)
        click.echo("\n".join(line.rstrip() for line in console.file.getvalue().splitlines()))


def _is_terminal(stream):
    return stream is not None and stream.isatty()  # None: closed before the program began


def run_verb(function, output, verbose, arguments):
    from .device import ModelError
    from .errors import Attn8Error

    try:
        function(output, **arguments)
    except (Attn8Error, ModelError) as error:
        if verbose:
            raise
        click.echo(f"attn8: {one_line(error)}", err=True)
        sys.exit(getattr(error, "exit_code", EXIT_FAILED))
    except ModuleNotFoundError as error:
        if verbose or error.name != "torch":
            raise
        click.echo(f"attn8: this verb needs PyTorch, which is missing: {INSTALL_TORCH}", err=True)
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:  # as in attn8 ... | head: click ends without a word
        raise
    except (OSError, MemoryError, RuntimeError) as error:
        no_memory = isinstance(error, MemoryError) or "allocate memory" in str(error)  # torch's is a RuntimeError
        if verbose or (isinstance(error, RuntimeError) and not no_memory):
            raise
        what = "not enough memory; try shorter windows, a larger stride or a smaller batch" if no_memory else error
        click.echo(f"attn8: {one_line(what)}; -v shows where", err=True)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        click.echo("attn8: stopped", err=True)
        sys.exit(130)


def fail_with(errors):
    """Says what went wrong on some of several boards, and exits 1 if anything did."""
    for error in errors:
        click.echo(f"attn8: {one_line(error)}", err=True)
    if errors:
        sys.exit(EXIT_FAILED)
