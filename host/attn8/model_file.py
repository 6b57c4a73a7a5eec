"""A model file on disk: read it, check it. Light enough for `attn8 check` to answer at once."""

import hashlib

from . import reference, spec
from .atomic import read_bytes
from .errors import DataError


def read_model(path):
    """Returns the bytes of a model file.

    Raises:
        DataError: if it cannot be read.    attn8.ModelError: if check_model refuses it; the text names the file.
    """
    limit = spec.LIMIT["MAX_FILE_BYTES"]
    try:
        data = read_bytes(path, limit)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); expected a .a8 file; check the path") from None
    code = reference.check_model(data)
    if code:
        raise reference.model_error(code, str(path))
    return data


def check_file(path):
    """Checks a model file: the format, the id, the golden vectors. Raises attn8.ModelError at the first fault."""
    data = read_model(path)
    engine = reference.Reference(data)
    identity = hashlib.sha256(data[spec.HEADER_BYTES :]).hexdigest()[:16]
    if identity != engine.model.id:
        raise DataError(
            f"{path}: id: got {engine.model.id}, expected {identity}, the hash of its records; pack it again"
        )
    engine.selftest()
    g = engine.graph
    return {
        "file": str(path),
        "ok": True,
        "name": g.name,
        "version": g.version,
        "id": identity,
        "model_bytes": len(data),
        "n_golden": len(g.golden.vectors),
    }
