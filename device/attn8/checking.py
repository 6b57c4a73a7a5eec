"""ModelError, what all Models share, and the checker, which is in memory only while a file is checked."""

import sys

_IS_CPYTHON = sys.implementation.name == "cpython"
_PACKAGE = __name__[: -len(".checking")]


def submodule(name):
    """Returns a module of this package: `from . import` asks the package's __getattr__ first, on MicroPython."""
    return __import__(f"{_PACKAGE}.{name}", None, None, ("*",))


def machine_code(name):
    """Returns a module of viper. Raises ImportError where the firmware neither makes nor loads machine code."""
    if not getattr(sys.implementation, "_mpy", 0) >> 10:
        raise ImportError(name)
    try:
        return submodule(name)
    except (SyntaxError, ValueError) as e:  # no native emitter, or an .mpy for another processor
        raise ImportError(e) from None


class ModelError(ValueError):
    """A model, window or output buffer cannot be used; ``code`` is a number of models/FORMAT.md, "Errors"."""

    def __init__(self, code, where="model", got=None, expected=None):
        super().__init__(_error_text(code, where, got, expected))
        self.code = code


def _error_text(code, where, got, expected):
    """Says what, got, expected, what to do. The texts cost RAM only now."""
    try:
        from .errors import ACTIONS, TEXTS

        name, what, action = TEXTS[code]
        text = f"{where}: {what} ({name})"
        if expected is not None:
            text += f": got {got}, expected {expected}"
        return f"{text}; {ACTIONS[action]}"
    except (ImportError, MemoryError):
        return f"{where}: error {code}"


class Passing:
    """With it a module that a board seldom needs is in memory only inside the with statement, unless it was before."""

    def __init__(self, name):
        self._name = name
        self._path = f"{_PACKAGE}.{name}"
        self._keep = _IS_CPYTHON or self._path in sys.modules

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self._keep and self._path in sys.modules:
            sys.modules[self._path] = None  # a dictionary of MicroPython keeps the value of a deleted entry alive
            del sys.modules[self._path]
            setattr(sys.modules[_PACKAGE], self._name, None)
            delattr(sys.modules[_PACKAGE], self._name)


def outline(view, where):
    """Checks a file and returns its format.Outline."""
    with Passing("format"):
        from .format import Fault, Outline

        try:
            return Outline(view)
        except Fault as fault:
            code, got, expected, at = fault.args
            raise ModelError(code, f"{where}, byte {at}", got, expected) from None


def check_model(data):
    """Returns 0 if the buffer holds a valid model, else the code of its first fault (models/FORMAT.md)."""
    with Passing("format"):
        from .format import check_model

        return check_model(data)


class ModelMethods:
    """What the Model of every back end has beside run; imported when it is asked for.

    A Model has ``kernels``: the name of its back end, with the processor where the code is made for one.
    """

    def stream(self, hop=None, units=False, packed=False):
        """Returns a Stream: the outputs over samples as they come, every ``hop`` samples. What it takes: see there."""
        from .stream import Stream

        return Stream(self, hop, units, packed)

    def profile(self, window):
        """Runs one window and returns a Table of (index, name, microseconds) of each op; op 0 makes the input."""
        from .repl import profile

        return profile(self, window)

    @property
    def window_ms(self):
        """Estimated milliseconds of a window on this board, or None where its clock or speed is unknown."""
        from .repl import window_ms

        return window_ms(self)

    def __repr__(self):
        from .repl import summary

        return summary(self)
