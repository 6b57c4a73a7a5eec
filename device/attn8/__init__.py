"""attn8: runs small INT8 transformers from one file, in integers, without allocating."""

from .loading import Model, ModelError, backend, check_model, load

__version__ = "0.1.0"
__all__ = ("Model", "ModelError", "__version__", "backend", "check_model", "load")
