"""Signed models: HMAC-SHA256 with a key that lies on the board, where the firmware has hashlib."""

from .checking import ModelError
from .tables import ERR_SIGNATURE

TAG_BYTES = 32


def sha256():
    """Returns a new SHA-256, or None where the firmware has none."""
    try:
        import hashlib

        return hashlib.sha256() if hasattr(hashlib, "sha256") else hashlib.new("sha256")
    except (ImportError, AttributeError, ValueError):
        return None


def tag(key, data):
    """Returns the 32 bytes that sign data, or None without SHA-256."""
    if len(key) > 64:
        digest = sha256()
        if digest:
            digest.update(key)
            key = digest.digest()
    inner, outer = sha256(), sha256()
    if not inner:
        return None
    key = key + bytes(64 - len(key))
    inner.update(bytes([b ^ 0x36 for b in key]))
    inner.update(data)
    outer.update(bytes([b ^ 0x5C for b in key]))
    outer.update(inner.digest())
    return outer.digest()


def check(key, data, found, where):
    """Refuses a model whose tag is not that of the key.

    Raises:
        ModelError: SIGNATURE.
    """
    expected = tag(key, data)
    if expected is None:
        raise ModelError(ERR_SIGNATURE, where, "a firmware without SHA-256", "one with hashlib, or no key file")
    differs = len(found) ^ TAG_BYTES
    for a, b in zip(found, expected):  # noqa: B905 (MicroPython's zip takes no keyword)
        differs |= a ^ b  # as long for a wrong byte in front as for one at the end
    if differs:
        got = "none" if len(found) < TAG_BYTES else "another signature"
        raise ModelError(ERR_SIGNATURE, where, got, "that of the key on the board")
