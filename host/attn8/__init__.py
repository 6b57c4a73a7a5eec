"""attn8: small INT8 transformers for microcontrollers that run MicroPython or CircuitPython.

``import attn8`` costs no torch and no numpy. The names of the device package are re-exported
lazily, so that code written for a board also runs on a laptop.
"""

__version__ = "0.1.0"

_DEVICE_NAMES = ("Detector", "Model", "ModelError", "Sampler", "be16", "confirm", "help", "i2s32", "load")

__all__ = ["__version__", *_DEVICE_NAMES]


def __getattr__(name):
    if name in _DEVICE_NAMES:
        from . import device

        return getattr(device, name)
    raise AttributeError(f"module 'attn8' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
