"""attn8: runs small INT8 transformers from one file, in integers, without allocating. attn8.help() lists the names."""

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
    "confirm",
    "help",
    "i2s32",
    "load",
)


_MODULES = {
    "Detector": "detector",
    "Sampler": "sampler",
    "be16": "samples",
    "confirm": "slots",
    "help": "names",
    "i2s32": "samples",
}


def __getattr__(name):
    """Imports a public name that only some programs use. dir() asks for every word that MicroPython knows."""
    if name not in _MODULES:
        raise AttributeError(f"module 'attn8' has no attribute '{name}'")
    module = __import__(f"{__name__}.{_MODULES[name]}", None, None, (name,))
    value = globals()[name] = getattr(module, name)
    return value
