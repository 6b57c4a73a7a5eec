"""attn8: runs small INT8 transformers from one file, in integers, without allocating."""

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


def __getattr__(name):
    """Imports what only some programs use: a public name, or a module of this package."""
    module = {"Detector": "detector", "Sampler": "sampler", "be16": "samples", "i2s32": "samples"}.get(name, name)
    try:
        value = __import__(f"{__name__}.{module}", None, None, ("*",))
    except ImportError:
        raise AttributeError(f"attn8 has no {name}") from None
    if module != name:
        value = globals()[name] = getattr(value, name)
    return value
