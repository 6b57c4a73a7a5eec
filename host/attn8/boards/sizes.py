"""What the C core takes on an armv6m, part by part, measured by building it with and without each."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import Attn8Error, ToolMissingError
from ..native_build import PARTS
from ..runtime import source_folder

COMPILER = "arm-none-eabi-gcc"
# As natmods are compiled.
FLAGS = ("-std=c99", "-Os", "-fno-jump-tables", "-mcpu=cortex-m0plus", "-mthumb")
HOST_ONLY = ("a8_host", "a8_golden")
# What is left when every part is left out, by object; the rest is "run".
_BASE = {
    "check": ("a8_check",),
    "plan of the arena": ("a8_plan",),
    "linear": ("a8_m0plus_linear", "a8_m0plus_products"),
    "int16 input": ("a8_m0plus_norm",),
}


class SizesError(Attn8Error):
    """The core could not be compiled; the text ends with what the compiler said."""


def sizes():
    """Returns the bytes of code and constants of the core, natmods' flags, for a Cortex-M0+.

    Returns:
        list of (what, bytes): what is always there, by object; what each op adds to that, with its checks and without
        its part of streams; "several ops", what goes only when several are left out; what streams add; "all".

    Raises:
        ToolMissingError: without the cross compiler.    SizesError: if the core does not compile.
    """
    for program in (COMPILER, "arm-none-eabi-size"):
        if not shutil.which(program):
            raise ToolMissingError(f"no program {program} on PATH: apt-get install gcc-arm-none-eabi")
    base, full = _objects(PARTS), sum(_objects(()).values())
    no_stream = sum(_objects(("stream",)).values())
    rows = {what: sum(base.pop(name) for name in names) for what, names in _BASE.items()}
    rows["run"] = sum(base.values())
    rows |= {part: no_stream - sum(_objects((part, "stream")).values()) for part in PARTS if part != "stream"}
    return [*rows.items(), ("several ops", no_stream - sum(rows.values())), ("stream", full - no_stream), ("all", full)]


def bench_sizes():
    """Returns what ``sizes`` does as a dict for JSON: parts ({what: bytes}), total_bytes, source."""
    *parts, (_, total) = sizes()
    version = _run([COMPILER, "-dumpfullversion"], None).strip()
    source = f"{COMPILER} {version} {' '.join(FLAGS)}, built with and without each part"
    return {"parts": dict(parts), "total_bytes": total, "source": source}


def render(found):
    """Returns a rich renderable of what ``bench_sizes`` returned."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("part")
    table.add_column("bytes", justify="right")
    for what, n in found["parts"].items():
        table.add_row(what, f"{n:,}")
    table.add_row("all", f"{found['total_bytes']:,}", style="bold")
    head = Text("code and constants of the C core on a Cortex-M0+", style="bold")
    return Group(head, Text(found["source"]), "", table)


def _objects(without):
    """Returns {object: bytes} of the core without some parts."""
    core = source_folder("core")
    sources = [s for s in sorted(core.glob("a8_*.[cS]")) if s.stem not in HOST_ONLY]
    flags = [*FLAGS, *(f"-DA8_WITHOUT_{part.upper()}" for part in without)]
    with tempfile.TemporaryDirectory(prefix="attn8_") as folder:
        _run([COMPILER, *flags, "-c", *sources], folder)
        table = _run(["arm-none-eabi-size", *sorted(Path(folder).glob("*.o"))], folder).splitlines()[1:]
    rows = [line.split() for line in table]
    return {Path(row[-1]).stem: int(row[0]) for row in rows}


def _run(command, folder):
    done = subprocess.run([str(c) for c in command], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SizesError(f"the core does not compile for armv6m: {done.stderr.strip()[-300:]}")
    return done.stdout
