"""The model in native code: _attn8 in the firmware, or _attn8.mpy on the board's file system."""

from _attn8 import Model as _Model
from _attn8 import arch, check_model

from .checking import ModelError, ModelMethods, Passing, outline

__all__ = ("Model", "backend", "check_model", "map_file", "new_buffer", "open_model")

backend = "native"
new_buffer = bytearray


def map_file(f):
    """Returns a view of a file that lies in memory, as those of ROMFS do, else None."""
    try:
        return memoryview(f)
    except TypeError:
        return None


class Model(ModelMethods, _Model):
    """What model.Model is, with the same attributes and methods."""

    kernels = f"{backend} {arch}"

    def selftest(self):
        """Runs the golden vectors in the file; returns True, or raises ModelError SELFTEST if one differs."""
        with Passing("golden"):
            from .golden import selftest

            return selftest(self, self._golden)

    def ops(self):
        """Returns a Table of (index, name, input shape, output shape, macs) of each op."""
        from .native_rare import ops_table

        return ops_table(super().ops())


def open_model(data, where):
    """Returns the Model of a buffer, which it reads in place."""
    try:
        return Model(data, _fault)
    except ModelError as e:
        if e.code >= 30:  # no fault of the file
            raise
        code = e.code
    try:  # noqa: SIM105 (a board has no contextlib)
        outline(data, where)  # tells where the fault is, what was found and what was expected
    except (ImportError, MemoryError):
        pass
    raise ModelError(code, where)


def _fault(*args):
    """Returns the exception that mod_attn8.c raises."""
    from .native_rare import fault

    return fault(*args)
