"""The device package on the 32-bit WebAssembly MicroPython, run by Node.js: small ints have 31 bits, as on a board."""

import os
import shutil
from pathlib import Path

from .errors import ToolMissingError
from .micropython import Interpreter, MicroPythonModel

PACKAGE = "@micropython/micropython-webassembly-pyscript"
_LOADER = "micropython.mjs"
_LAUNCHER = Path(__file__).with_name("micropython_wasm.mjs")


def find_node():
    """Returns the path of Node.js.

    Raises:
        ToolMissingError: if it is not on PATH.
    """
    found = shutil.which("node")
    if not found:
        raise ToolMissingError("no program node on PATH (Node.js 18 or newer): apt-get install nodejs npm")
    return found


def cache_folder():
    """Returns the folder for ``npm install --prefix``: ~/.cache/attn8/npm, or in $XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attn8" / "npm"


def find_package():
    """Returns the path of the package's micropython.mjs.

    Looked for in $ATTN8_MICROPYTHON_WASM (that file or its folder), else in ``cache_folder()``; never beside the
    data, because Node.js runs what is found.

    Raises:
        ToolMissingError: if it is not there.
    """
    named = os.environ.get("ATTN8_MICROPYTHON_WASM")
    cached = cache_folder() / "node_modules" / PACKAGE / _LOADER
    for candidate in [Path(named), Path(named, _LOADER)] if named else [cached]:
        if candidate.is_file():
            return candidate.resolve()
    if named:
        raise ToolMissingError(
            f"no WebAssembly MicroPython: $ATTN8_MICROPYTHON_WASM is {named}; correct it to the folder of "
            f"{_LOADER}, or unset it"
        )
    raise ToolMissingError(f"no WebAssembly MicroPython: npm install --prefix {cache_folder()} {PACKAGE}")


class WasmMicroPython(Interpreter):
    """The package of npm in a Node.js process.

    It collects no garbage while a script runs, so ``heap_bytes`` bounds all that a script ever allocates, not what it
    holds at a time; gc.mem_alloc() counts every allocation.
    """

    name = "micropython-wasm"
    heap_bytes = 8 * 1024 * 1024

    def command(self, heap_bytes):
        return [find_node(), str(_LAUNCHER), str(find_package()), str(heap_bytes)]


WASM = WasmMicroPython()


class MicroPythonWasmModel(MicroPythonModel):
    """Runs a model file on the WebAssembly MicroPython; arguments, methods and errors are those of MicroPythonModel."""

    interpreter = WASM
    name = WASM.name
