"""A person at the board: a folder of this computer mounted there, attn8 imported, a model loaded, then the REPL.

CircuitPython mounts no folder of a computer: there a model of this computer goes into memory.
"""

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

from . import BoardError, DoesNotFitError
from .deploy import DeployError, check_package
from .link import RemoteError, open_link

_MOUNTED = "/remote"  # where mpremote mounts the folder, and goes to
_PROMPT, _PROMPT_S = b">>> ", 5
# In pieces: a UART without flow control loses bytes of long ones.
_LOAD_HERE = """
def _read(path):
 import os
 n = os.stat(path)[6]
 b = bytearray(n)
 v = memoryview(b)
 i = 0
 with open(path, "rb") as f:
  while i < n:
   k = f.readinto(v[i : min(i + 128, n)])
   if not k:
    raise OSError("the file ends early")
   i += k
 return b
m = attn8.load(_read({path!r}))
print(m)
"""
_LOAD_SENT = "m = attn8.load(_b)\nprint(m)"
_LOAD_THERE = "m = attn8.load({path!r})\nprint(m)"


def repl(port=None, model=None, folder=None, say=None):
    """Opens the REPL of a board, until Ctrl-] or Ctrl-X.

    Args:
        port: see link.open_link.    model: a file here, or a slot name or path on the board; it becomes ``m``.
        folder: to mount at /remote; by default that of the model, or the current one.    say: called with a sentence.

    Raises:
        BoardError: if stdin is no terminal, attn8 is not there, or the model cannot be loaded.    LinkError.
    """
    if not (sys.stdin and sys.stdin.isatty()):
        raise BoardError("the REPL needs a terminal; to run a file on the board: mpremote run FILE")
    with session(port, model, folder, say or (lambda text: None)) as link, link.told("handing over the REPL"):
        if _hand_over(link.transport):
            raise BoardError(f"{link.device}: the board is gone; check the cable, then try again")


@contextlib.contextmanager
def session(port, model, folder, say):
    """Gives the Link in the friendly REPL, with the folder mounted, attn8 imported and ``m`` loaded."""
    named = folder
    load, folder = _loading(model, named)
    with open_link(port) as link:
        package = check_package(link)
        mounts = named is not None or link.can_mount()
        if mounts:
            link.mount(folder)
        try:
            where = f"{folder} is {_MOUNTED} there" if mounts else "this firmware mounts no folder"
            say(f"{link.device}: attn8 {package.version}, {package.backend}; {where}")
            link.exec("import attn8", timeout=60)
            if not mounts and model and Path(model).is_file():
                load = _sent(link, Path(model).read_bytes())
            if load:
                say(_loaded(link, load, model))
            with link.told("leaving the raw REPL"):
                link.transport.exit_raw_repl()
                link.transport.read_until(1, _PROMPT, timeout=_PROMPT_S)
            yield link
        finally:
            link.unmount()


def _loading(model, folder):
    """Returns (code that loads the model or None, the folder to mount)."""
    if model is None or not Path(model).is_file():
        return model and _LOAD_THERE.format(path=f"/{model.strip('/')}"), Path(folder or ".").resolve()
    file = Path(model).resolve()
    folder = Path(folder).resolve() if folder else file.parent
    if not file.is_relative_to(folder):
        raise DeployError(f"{model} is not in {folder}, the folder to mount; leave out --folder or move the file")
    return _LOAD_HERE.format(path=f"{_MOUNTED}/{file.relative_to(folder).as_posix()}"), folder


def _sent(link, data):
    """Sends a model into the memory of the board, whose files may belong to a computer. Returns code that loads it."""
    try:
        link.exec(f"_b = bytearray({len(data)})")
    except RemoteError as error:
        if error.kind != "MemoryError":
            raise
        raise DoesNotFitError(f"{link.device}: no {len(data):,} bytes of heap in one piece for the model") from None
    link.fill("_b", data)
    return _LOAD_SENT


def _loaded(link, code, model):
    """Loads the model and returns its one line."""
    try:
        return f"m = {link.exec(code, timeout=60).strip()}"
    except RemoteError as error:
        if error.kind == "OSError" and error.errno == 2:
            raise DeployError(f"{model}: no such file here and no such slot or file on the board") from None
        raise DeployError(f"{model}: the board says {error.kind}: {error.message}") from None


def _hand_over(transport):
    """Connects terminal and board until a person leaves. Returns whether the board went away."""
    from mpremote.console import Console
    from mpremote.repl import do_repl_main_loop

    console = Console()
    console.enter()
    try:
        console.write(b"Ctrl-] or Ctrl-X leaves, Ctrl-D restarts the board\r\n" + _PROMPT)
        options = {"escape_non_printable": False, "code_to_inject": None, "file_to_inject": None}
        return do_repl_main_loop(SimpleNamespace(transport=transport), console, console.write, **options)
    finally:
        console.exit()
