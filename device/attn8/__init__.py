"""attn8: runs small INT8 transformers from one file, in integers, without allocating.

load         checks a model file and prepares it to run; returns a Model
Model        runs windows, steps through one, or opens a Stream of samples
ModelError   says what is wrong with a model or a buffer, and what to do
check_model  returns 0 for a valid file, else the code of its first fault
Detector     turns decisions into events: smoothing, threshold, hysteresis, refractory time
Sampler      reads a sensor at a fixed rate and counts late and lost samples
be16, i2s32  turn bytes of sensors and microphones into int16
backend      "native", "viper" or "python": what runs the models
__version__  of this package
"""

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


_MODULES = {"Detector": "detector", "Sampler": "sampler", "be16": "samples", "i2s32": "samples"}


def __getattr__(name):
    """Imports a public name that only some programs use. dir() asks for every word that MicroPython knows."""
    if name not in _MODULES:
        raise AttributeError(f"attn8 has no {name}")
    module = __import__(f"{__name__}.{_MODULES[name]}", None, None, (name,))
    value = globals()[name] = getattr(module, name)
    return value
