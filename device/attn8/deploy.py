"""What brings a model into a slot: begin, verify, accept; and status and rollback. slots.NAME imports them from here.

A computer calls them through the REPL, a board that fetches its models itself calls them as they are:

    path = slots.begin("gesture")           # the slot that can be spared, emptied
    ...                                     # write the file there
    slots.verify(path, length, crc32)       # what was written is what was sent
    slots.accept("gesture", path)           # it passes its checks and golden vectors: from the next load on it is taken

The model before stays as it is, and until accept has written its record it is the one that load takes.
"""

from .checking import ModelError, submodule
from .slots import BAD, EMPTY, GOOD, TRIAL, Slot, both, crc, key_of, store, tell
from .tables import ERR_SLOT

_CHUNK_BYTES = 512
_ERR_LENGTH, _ERR_CRC = 4, 5  # format.py, which has them, is large
_MAX_SEQUENCE = 0x3FFFFFFF  # a small int on every board


def status(name):
    """Returns (slot, sequence, length, state, boots, model name, version, id) of both slots; state 0 is empty."""
    return [_row(Slot(name, index)) for index in (0, 1)]


def _row(slot):
    if slot.state == EMPTY:
        return slot.index, 0, 0, EMPTY, 0, "", "", ""
    with open(slot.path, "rb") as f:
        head = f.read(100)
    n, n_version = head[32], head[33]
    name, version = _text(head[36 : 36 + n]), _text(head[36 + n : 36 + n + n_version])
    model_id = "".join([f"{b:02x}" for b in head[16:24]])
    return slot.index, slot.sequence, slot.length, slot.state, slot.boots, name, version, model_id


def _text(data):
    """Returns bytes as text, "" where they are none: a damaged model must not keep another from being deployed."""
    try:
        return str(data, "utf-8")
    except UnicodeError:
        return ""


def begin(name):
    """Empties the slot that can be spared and returns its path.

    The other one, which is kept, is the newest good one whose bytes are whole; without such the newest in trial.
    """
    keep = kept(both(name))
    path = Slot(name, 1 - keep.index if keep else 0).path
    with open(path, "wb") as f:
        store(f)
    return path


def kept(slots):
    """Returns the slot that an update must not touch, or None if neither holds a model that can be used."""
    for state_is in (lambda s: s.state == GOOD, lambda s: s.unproven()):
        for slot in slots:
            if state_is(slot) and _is_whole(slot):
                return slot
    return None


def _is_whole(slot):
    """Says whether the CRC in the header holds; in pieces, since the heap may not have room for a model."""
    try:
        with open(slot.path, "rb") as f:
            before = crc(f.read(12))
            stored = f.read(4)
            high, low = _crc_of(f, slot.length - 16, *before)
    except OSError:
        return False
    return stored == bytes((low & 255, low >> 8, high & 255, high >> 8))


def _crc_of(f, n_bytes, high=0, low=0, digest=None):
    """Returns the CRC-32 of the next bytes of a file, in halves; fewer bytes than that are no error."""
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    while n_bytes > 0:
        piece = buffer[: min(n_bytes, _CHUNK_BYTES)]
        n = f.readinto(piece)
        if not n:
            break
        high, low = crc(piece[:n], high, low)
        if digest:
            digest.update(piece[:n])
        n_bytes -= n
    return high, low


def verify(path, length, crc32, sha256=None):
    """Checks that a file holds what was sent.

    Args:
        length: bytes of the file.    crc32: int, over all of them.
        sha256: 32 bytes; used where the firmware has SHA-256.

    Returns:
        "sha256" or "crc32": the strongest check that was made.

    Raises:
        ModelError: LENGTH or CRC, if it differs.    OSError: if the file cannot be read.
    """
    slot_bytes = _file_bytes(path)
    if slot_bytes != length:
        raise ModelError(_ERR_LENGTH, path, f"{slot_bytes} bytes", length)
    digest = submodule("signature").sha256() if sha256 else None
    with open(path, "rb") as f:
        high, low = _crc_of(f, length, 0, 0, digest)
    if (high, low) != (crc32 >> 16 & 65535, crc32 & 65535):
        raise ModelError(_ERR_CRC, path, f"{high:04x}{low:04x}", f"{crc32:08x}")
    if digest and digest.digest() != sha256:
        raise ModelError(_ERR_CRC, path, "another SHA-256", "that of the file")
    return "sha256" if digest else "crc32"


def _file_bytes(path):
    import os

    return os.stat(path)[6]


def accept(name, path, confirm=False):
    """Checks the model in a slot, runs its golden vectors, and puts it in trial, or marks it as good.

    Args:
        path: what begin returned.    confirm: no trial.

    Returns:
        (slot, sequence).

    Raises:
        ModelError: if the model is refused; the other slot stays what it was.    OSError: if it cannot be written.
        ValueError: if path is no slot of this name.
    """
    slots = both(name)
    found = [slot for slot in slots if slot.path == path]
    if not found:
        raise ValueError(f"accept: got {path}, expected {slots[0].path} or {slots[1].path}")
    slot = found[0]
    if not slot.header:
        slot.length = slot.file_bytes or 0  # so that the checks say what is wrong with it
    slot.open(key_of(name), True)
    newest = slots[0].sequence
    if newest >= _MAX_SEQUENCE:
        raise ModelError(ERR_SLOT, name, f"sequence {newest}", "a smaller one: remove both slot files")
    slot.append(newest + 1, GOOD if confirm else TRIAL)
    return slot.index, newest + 1


def rollback(name):
    """Goes back to the model before: tests it, then marks the newer one as bad. Returns the slot that is left.

    Raises:
        ModelError: if no other slot holds a good model.    OSError: if it cannot be written.
    """
    slot, other = both(name)
    if not (slot.usable() and other.usable()):
        raise ModelError(ERR_SLOT, name, tell((slot, other)), "a second one to go back to")
    other.open(key_of(name), True)
    slot.append(slot.sequence, BAD, slot.boots)
    return other.index


def stopped(name=None):
    """Takes back a boot of a model in trial: its program did not fail, it was stopped from outside.

    Args:
        name: of the slots; None for all in the folder where the board is.

    Raises:
        OSError: if that cannot be written.
    """
    import os

    for path in os.listdir() if name is None else (f"{name}.0.a8", f"{name}.1.a8"):
        if path[-5:] in (".0.a8", ".1.a8"):
            slot = Slot(path[:-5], int(path[-4]))
            if slot.state == TRIAL and slot.boots:
                slot.append(slot.sequence, TRIAL, slot.boots - 1)
