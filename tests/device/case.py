"""What the device tests share: the package under test, their files, and a check that something raises.

Runs on MicroPython, CircuitPython and CPython, so it imports no pytest.
"""

try:
    from attn8.device import _norm_python as bytecode_norm
    from attn8.device import _python as bytecode
    from attn8.device import format, golden, model, plan, repl
    from attn8.device.kernels import extension
    from attn8.device.kernels import ops as kernels

    from attn8 import device as attn8  # CPython: the host package holds the device package
except ImportError:
    import attn8
    import attn8._norm_python as bytecode_norm
    import attn8._python as bytecode
    import attn8.format as format
    import attn8.golden as golden
    import attn8.model as model
    import attn8.plan as plan
    import attn8.repl as repl
    from attn8.kernels import extension
    from attn8.kernels import ops as kernels  # those of viper where the firmware has it

try:
    LOCKED = BufferError  # CPython does not let a buffer that is in use change its length
except NameError:
    LOCKED = ()

norm = extension("norm")

__all__ = (
    "LOCKED",
    "attn8",
    "bytecode",
    "bytecode_norm",
    "format",
    "golden",
    "kernels",
    "norm",
    "path",
    "plan",
    "python_model",
    "raises",
    "read",
    "repl",
)

folder = None  # of the files that make_files.py writes; run.py sets it


def path(name):
    """Returns the path of a test file; CPython makes the files when they are first asked for."""
    global folder
    if folder is None:
        from make_files import make_files

        folder = make_files()
    return folder + "/" + name


def read(name):
    """Returns a test file as bytes."""
    with open(path(name), "rb") as f:
        return f.read()


def python_model(name):
    """Returns the Model in Python of a test file, whatever back end ``attn8`` has: for tests of its insides."""
    return model.open_model(read(name), name)


def raises(error, function, *args):
    """Calls the function and returns the error of this class that it raises."""
    try:
        function(*args)
    except error as e:
        return e
    raise AssertionError("nothing was raised")
