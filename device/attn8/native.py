"""The model in native code: _attn8 in the firmware, or _attn8.mpy on the board's file system."""

from _attn8 import Model as _Model
from _attn8 import arch, check_model

from .checking import ModelError, outline, summary
from .tables import ERR_ALIGNMENT, ERR_INPUT, ERR_MOVED, ERR_OUTPUT, ERR_SELFTEST

__all__ = ("Model", "backend", "check_model", "map_file", "new_buffer", "open_model")

backend = "native"
new_buffer = bytearray


def map_file(f):
    """Returns a view of a file that lies in memory, as those of ROMFS do, else None."""
    try:
        return memoryview(f)
    except TypeError:
        return None


class Model(_Model):
    """What model.Model is, with the same attributes and methods; run, predict, selftest and ops are native."""

    def __repr__(self):
        return summary(self, f"{backend} {arch}")


def open_model(data, where):
    """Returns the Model of a buffer; one that begins at no multiple of 4 is copied."""
    try:
        return Model(data, _fault)
    except ModelError as e:
        code = e.code
    if code == ERR_ALIGNMENT:
        return Model(bytearray(data), _fault)
    try:  # noqa: SIM105 (a board has no contextlib)
        outline(data, where)  # tells where the fault is, what was found and what was expected
    except (ImportError, MemoryError):
        pass
    raise ModelError(code, where)


def _fault(m, code, got):
    """Returns the exception of an error code; ``got`` is what mod_attn8.c tells beside it."""
    where, expected = "run", None
    if code == ERR_INPUT:
        got, expected = _found(got), f"{m.n_steps}*{m.n_channels} {m.input_type}"
    elif code == ERR_OUTPUT:
        got, expected = f"{got} bytes", m.n_outputs
    elif code == ERR_MOVED:
        got, expected = f"{got} bytes" + (" elsewhere" if got == m.model_bytes else ""), m.model_bytes
    elif code == ERR_SELFTEST:
        vector, got, expected = got
        where = f"golden vector {vector}"
    elif m is None:
        where = "model"
    return ModelError(code, where, got, expected)


def _found(got):
    """Says what the window was: its number of values, its typecode, or the type of what is no buffer."""
    if isinstance(got, int):
        return f"{got} values"
    return f"a buffer of format '{got}'" if isinstance(got, str) else f"no buffer but {got}"
