"""What native.py needs only for an error or at the REPL, and imports then."""

from .checking import ModelError
from .repl import Table
from .tables import ERR_INPUT, ERR_LEFT_OUT, ERR_MOVED, ERR_OUTPUT, ERR_STREAM

# By op code - 16, as format.OP_NAMES, which would bring the whole checker into memory.
_OPS = (
    "linear_s8",
    "conv1d_s8",
    "windowed_attention_s8",
    "layer_norm_s8",
    "add_s8",
    "mean_pool_s8",
    "table_s8",
)


def ops_table(rows):
    """Returns the Table of what mod_attn8.c tells of the ops."""
    return Table([(row[0], _OPS[row[1]], row[2], row[3], row[4]) for row in rows])


def fault(m, code, got, where):
    """Returns the exception of an error code; ``got`` is what mod_attn8.c tells beside it, of the method ``where``."""
    expected = None
    if code == ERR_LEFT_OUT:
        where, got = ("stream", "no streams") if m is not None else ("model", f"no {_OPS[got]}")
        expected = "a native module that has it"
    elif m is None:
        got, where = None, "model"
    elif code == ERR_STREAM:
        return _stream_fault(got)
    elif code == ERR_INPUT:
        size = f"k*{m.n_channels}" if where == "push" else f"{m.n_steps}*{m.n_channels}"
        got, expected = _found(got), f"{size} {m.input_type}"
    elif code == ERR_OUTPUT:
        got, expected = f"{got} bytes", m.n_outputs
    elif code == ERR_MOVED:
        got, expected = f"{got} bytes" + (" elsewhere" if got == m.model_bytes else ""), m.model_bytes
    return ModelError(code, where, got, expected)


def _stream_fault(data):
    """Returns the exception that names the op; the model in Python finds it, where there is memory for that."""
    try:
        from .model import open_model
        from .tokens import timing

        timing(open_model(data, "model"))
    except ModelError as e:
        return e
    except (ImportError, MemoryError):
        pass
    return ModelError(ERR_STREAM)


def _found(got):
    """Says what was given: its number of values, its typecode, or the type of what is no contiguous buffer."""
    if got is None:
        return "a buffer that moved since start"
    if isinstance(got, int):
        return f"{got} values"
    if isinstance(got, str):
        return f"a buffer of format '{got}'"
    return f"no contiguous buffer but {got}"
