"""CircuitPython's unix port, for tests that are run by hand: no package brings it.

ATTN8_CIRCUITPYTHON=.../ports/unix/build-standard/micropython    the program
ATTN8_CIRCUITPYTHON_USERMOD=...                                  one that was built with USER_C_MODULES
CIRCUITPYTHON_DIR=...                                            the source tree, with mpy-cross built
"""

import subprocess
from functools import cache, partial

import micropython_builds as builds
from attn8 import native_build
from pty_board import Board
from tools import need_by_hand, run, scratch


def program():
    """Returns the path of the program, or skips the test."""
    return need_by_hand("ATTN8_CIRCUITPYTHON", "the program of CircuitPython's unix port")


def tree():
    """Returns the folder of the source, or skips the test."""
    return need_by_hand("CIRCUITPYTHON_DIR", "CircuitPython's source tree")


def mpy_cross():
    """Returns the path of the tree's own compiler."""
    return tree() / "mpy-cross" / "build" / "mpy-cross"


@cache
def natmod(arch):
    """Returns the path of _attn8.mpy of an architecture."""
    out = scratch() / "native-cp"
    return out / native_build.build(tree(), [arch], out)["modules"][0]["file"]


def board(**options):
    """Returns a Board that runs CircuitPython on a FAT, as its boards do."""
    return Board(program=program(), **options)


def _compile_package(folder):
    for file in (folder / "attn8").glob("*.py"):
        run(mpy_cross(), "-march=x64", file)
        file.unlink()


def _device_tests(named=program, native=None, viper=False, compiled=False):
    """Runs the device tests and returns what run.py printed."""
    with builds.device_test_folder(native and natmod(native), viper=viper) as folder:
        if compiled:
            _compile_package(folder)
        command = [named(), "-X", f"heapsize={builds.TEST_HEAP_BYTES}", "run.py", "."]
        environment = {"MICROPYPATH": f"{folder}:.frozen"}
        options = {"capture_output": True, "text": True, "cwd": folder, "env": environment, "timeout": 300}
        return subprocess.run(list(map(str, command)), check=False, **options).stdout


def usermod():
    """Returns the path of a program with the user module, or skips the test."""
    return need_by_hand("ATTN8_CIRCUITPYTHON_USERMOD", "a program of its unix port with USER_C_MODULES")


# What runs the device tests on each back end, and the back end.
BACKENDS = {
    "bytecode": ("python", _device_tests),
    "bytecode, .mpy": ("python", partial(_device_tests, compiled=True)),
    "viper": ("viper", partial(_device_tests, viper=True)),
    "viper, .mpy": ("viper", partial(_device_tests, viper=True, compiled=True)),
    "natmod": ("native", partial(_device_tests, native="x64")),
    "usermod": ("native", partial(_device_tests, named=usermod)),
}
