"""attn8: runs small INT8 transformers from one file, in integers, without allocating."""

import sys as _sys

from .loading import Model, ModelError, backend, check_model, load

__version__ = "0.1.0"
__all__ = (
    "Detector",
    "Model",
    "ModelError",
    "Sampler",
    "__version__",
    "backend",
    "be16",
    "check_model",
    "i2s32",
    "load",
)


_IS_CPYTHON = _sys.implementation.name == "cpython"


def __getattr__(name):
    """Imports a public name that only some programs use."""
    module = {"Detector": "detector", "Sampler": "sampler", "be16": "samples", "i2s32": "samples"}.get(name)
    if module:
        value = globals()[name] = getattr(_module(module), name)
        return value
    if _IS_CPYTHON or name[:2] == "__":
        raise AttributeError(f"attn8 has no {name}")
    return _module(name)  # MicroPython asks here for the modules of the package before it looks for their files


def _module(name):
    return __import__(f"{__name__}.{name}", None, None, ("*",))
