"""Windows from Python: arrays, a torch Dataset, or a function of the user's own."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError
from .npz import check_text
from .windows import KEYS, Windows, windows_of_arrays

MAX_ITEMS = 1 << 24


def make_windows(data, y=None, *, name="arrays", hop=1, model_counts_per_unit=None, **keys):
    """Make Windows of what Python holds.

    Args:
        data: x as an array or tensor (N, T, C); a torch ``Dataset``, or anything to iterate, of (x (T, C), y) or
            (x, y, group) items; a dict with the keys of an .npz; or Windows, which are returned as they are.
        y: class numbers (N,), where ``data`` is x.
        name: of the data set, for messages and reports.
        hop: samples from one window to the next.
        model_counts_per_unit: float (C,), the scale of an existing model; float data are brought to it.
        **keys: the other keys of an .npz: group, test, labels, channels, units, counts_per_unit, sample_rate_hz.
    Returns:
        Windows. int16 x are counts; float x are values in ``units``.
    Raises:
        DataError: naming key, got and expected.
    """
    if isinstance(data, Windows):
        return data
    if isinstance(data, dict):
        arrays = {**data, **keys}
    elif y is not None:
        arrays = {"x": data, "y": y, **keys}
    else:
        arrays = {**_collect(data, name), **keys}
    unknown = sorted(str(key) for key in set(arrays) - set(KEYS))
    if unknown:
        raise DataError(f"{name}: got the unknown key {unknown[0]!r}, expected some of {', '.join(KEYS)}; remove it")
    arrays = {key: _array(value, name, key) for key, value in arrays.items() if value is not None}
    if "x" in arrays and arrays["x"].ndim == 2:
        arrays["x"] = arrays["x"][:, :, None]
    windows = windows_of_arrays(name, arrays, hop, model_counts_per_unit)
    windows.name = name
    return windows


def _array(value, name, key):
    try:
        array = np.asarray(value)
    except Exception as error:  # __array__ of any object may run: its errors are the data's
        raise DataError(f"{name}: {key}: got {type(value).__name__} ({error}), expected an array") from None
    if array.dtype.hasobject:
        raise DataError(f"{name}: {key}: got {type(value).__name__} of mixed shapes or types, expected an array")
    check_text(name, key, array)
    return array


def _collect(dataset, name):
    """x, y and perhaps group of a Dataset's items."""
    size = len(dataset) if hasattr(dataset, "__len__") else None
    # A map-style Dataset need not raise IndexError at its end, which iteration would wait for.
    by_index = size is not None and hasattr(dataset, "__getitem__")
    items = (dataset[i] for i in range(size)) if by_index else dataset
    try:
        rows = [tuple(item) for item, _ in zip(items, range(MAX_ITEMS), strict=False)]
    except TypeError as error:
        got = f"{type(dataset).__name__} ({error})"
        raise DataError(f"{name}: got {got}, expected items (x, y); give x and y as arrays") from None
    lengths = {len(row) for row in rows}
    if lengths not in ({2}, {3}):
        got = f"items of {sorted(lengths)} parts" if rows else "no items"
        raise DataError(f"{name}: got {got}, expected (x, y) or (x, y, group) from each; change __getitem__")
    columns = [[np.asarray(value) for value in column] for column in zip(*rows, strict=True)]
    shapes = {value.shape for value in columns[0]}
    if len(shapes) > 1:
        raise DataError(f"{name}: x: got shapes {sorted(shapes)[:2]}, expected one (T, C); cut windows of one length")
    return {key: np.stack(column) for key, column in zip(("x", "y", "group"), columns, strict=False)}


def call_function(text, trust_code, hop=1, model_counts_per_unit=None):
    """Make Windows of what the user's own function returns.

    Args:
        text: "module:function" of a module that Python finds from the working folder, or "file.py:function". The
            function takes no arguments and returns what ``make_windows`` takes, a tuple being its first arguments.
        trust_code: False refuses: a configuration must not run code unasked.
    Raises:
        ConfigError: without trust_code, or where there is no such function.    DataError: for what it returns.
    """
    if not trust_code:
        raise ConfigError(
            f"data.function: got {text!r}, which runs Python code; expected --trust-code beside it; "
            "give that option if you trust this config"
        )
    function = _find(text)
    try:
        found = function()
    except Exception as error:  # whatever the user's code raises is one line; -v shows where
        raise DataError(f"data.function: {text} raised {type(error).__name__}: {error}; -v shows where") from error
    options = {"name": text.rpartition(":")[2], "hop": hop, "model_counts_per_unit": model_counts_per_unit}
    if isinstance(found, tuple) and len(found) in (2, 3):
        x, y, *group = found
        return make_windows(x, y, group=group[0] if group else None, **options)
    return make_windows(found, **options)


def _find(text):
    module, _, function = text.rpartition(":")
    if not module or not function.isidentifier():
        raise ConfigError(f'data.function: got {text!r}, expected "module:function" or "file.py:function"; correct it')
    try:
        loaded = _load_file(module) if module.endswith(".py") else _import(module)
        return getattr(loaded, function)
    except Exception as error:  # the module runs as it is imported
        raise ConfigError(
            f"data.function: {text}: got {type(error).__name__}: {error}, expected a function to import; "
            "start attn8 in the folder of the module"
        ) from error


def _import(module):
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module)
    finally:
        sys.path.pop(0)


def _load_file(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
