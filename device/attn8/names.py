"""attn8.help: one line on each public name, for the REPL; MicroPython keeps no docstrings."""

from .repl import Table

LINES = (
    ("load(source)", "a Model from a path or a buffer; ModelError says what is wrong with it"),
    ("check_model(data)", "0, or the code of the first fault of a file"),
    ("Model", "run, predict, decide, output, selftest, ops, profile, start, step, stream, labels, ..."),
    ("ModelError", "what, got, expected, what to do; code is a number of models/FORMAT.md"),
    ("Detector(model, ...)", "turns the outputs of window after window, or hop after hop, into events"),
    ("Sampler(read, rate_hz)", "keeps the rate at which a sensor is read; counts late and lost samples"),
    ("be16(src, dst)", "big-endian bytes of a sensor to int16"),
    ("i2s32(src, dst, shift)", "32-bit words of an I2S microphone to int16"),
    ("backend", "what runs the kernels: native, viper or python"),
    ("help()", "this"),
    ("__version__", "of this package"),
)


def help():
    """Returns a Table with a line on each public name."""
    return Table(LINES)
