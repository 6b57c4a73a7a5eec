"""Runs every test function of tests/device on any Python: run.py FOLDER, where FOLDER holds the test files.

Prints a line for each test; exits 1 if one fails.
"""

import gc
import sys

import case

MODULES = (
    "test_device_arrays",
    "test_device_detector",
    "test_device_format",
    "test_device_kernels",
    "test_device_memory",
    "test_device_model",
    "test_device_sampler",
    "test_device_samples",
    "test_device_slots",
    "test_device_steps",
    "test_device_stream",
)


def run():
    """Runs the tests and returns how many failed."""
    print("back end", case.attn8.backend)
    print("word bits", 64 if sys.maxsize > 1 << 32 else 32)
    n_failed = sum([run_module(module) for module in MODULES])
    print("failed", n_failed)
    return n_failed


def run_module(module):
    """Runs the tests of a module, gives its memory back, and returns how many failed."""
    n_failed = sum([run_test(module, name) for name in test_names(module)])
    sys.modules[module] = None  # a dictionary of MicroPython keeps the value of a deleted entry alive
    del sys.modules[module]
    return n_failed


def test_names(module):
    """Returns the tests of a module; a module that does not compile counts as one test that fails."""
    try:
        return sorted([name for name in dir(__import__(module)) if name.startswith("test_")])
    except Exception:
        return ["import"]


def run_test(module, name):
    """Runs a test, prints its line and returns 1 if it failed."""
    gc.collect()
    try:
        getattr(__import__(module), name)()
        print("ok", module, name)
        return 0
    except Exception as e:
        print("FAILED", module, name, repr(e))
        if hasattr(sys, "print_exception"):
            sys.print_exception(e)
        return 1


if __name__ == "__main__":
    case.folder = sys.argv[1]
    sys.exit(1 if run() else 0)
