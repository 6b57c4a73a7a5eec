"""Errors that a user can cause. Each text says what, got, expected, and what to do."""


class Attn8Error(Exception):
    """Base class: the command line prints its text in one line and exits 1."""


class ConfigError(Attn8Error):
    """A configuration file or a ``--set`` override cannot be used."""


class DataError(Attn8Error):
    """A data file or a split cannot be used."""


class QuantizeError(Attn8Error):
    """A model cannot be expressed in the integer arithmetic of models/FORMAT.md."""


class PackError(Attn8Error):
    """A quantized graph does not fit the limits of the model file."""


class RunError(Attn8Error):
    """A run folder is missing, incomplete or was made by another configuration."""


class ToolMissingError(Attn8Error):
    """An optional program or package is not installed; the text ends with the command that brings it."""
