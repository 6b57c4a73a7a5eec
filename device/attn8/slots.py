"""Slots: a name stands for two files, so that an update never costs the working model (models/FORMAT.md, "Slots").

load and confirm are for every boot. status, begin, verify, accept, rollback and stopped are for who brings a model;
they come from deploy.py when they are asked for.
"""

import os
from struct import pack, unpack

from .checking import ModelError, Passing, submodule
from .tables import ERR_SIGNATURE, ERR_SLOT

try:
    from binascii import crc32
except ImportError:  # the smallest CircuitPython boards
    crc32 = None

EMPTY, WRITTEN, TRIAL, GOOD, BAD = range(5)
STATES = ("empty", "written", "trial", "good", "bad")
TRIAL_BOOTS = 3
CONFIRM_AFTER = 100  # windows

_HEADER_BYTES = 24
_RECORD_BYTES = 16
_MAGIC = 0x384C
_ENOENT, _EROFS = (2, 44), 30  # 44 is WebAssembly's
_MAX_KEY_BYTES = 1024
counted = {}  # path: (sequence, boots) of each trial that was loaded since this program began


def __getattr__(name):
    if name not in ("status", "begin", "verify", "accept", "rollback", "stopped"):
        raise AttributeError(f"module 'attn8.slots' has no attribute '{name}'")
    return getattr(submodule("deploy"), name)


def crc(data, high=0, low=0):
    """Returns the CRC-32 of a buffer as two 16-bit halves, going on from a previous result."""
    if crc32:
        try:
            value = crc32(data, high << 16 | low)
            return value >> 16 & 65535, value & 65535
        except OverflowError:  # a board without long integers
            pass
    with Passing("format"):
        from .format import crc32_halves

        return crc32_halves(data, high, low)


def record(header, sequence, state, boots=0):
    """Returns the 16 bytes that tell the state of the model which begins with these 24 bytes."""
    head = pack("<I", sequence) + header[8:12] + pack("<BBH", state, boots, _MAGIC)
    high, low = crc(head, *crc(header))
    return head + pack("<HH", low, high)


class Slot:
    """A slot as its file tells.

    Attributes:
        index, path.    header: the first 24 bytes of the file; empty if no model begins there.
        sequence, length, state, boots: of the last record that holds; 0 without one.
        file_bytes: of the file, or None if there is none.
    """

    def __init__(self, name, index):
        self.index = index
        self.path = f"{name}.{index}.a8"
        self.read()

    def read(self):
        """Reads header and log again."""
        self.header, self.file_bytes = b"", None
        self.sequence = self.length = self.state = self.boots = 0
        try:
            self.file_bytes = os.stat(self.path)[6]
            with open(self.path, "rb") as f:
                self._read(f)
        except OSError:  # no such file, or one that cannot be read
            pass

    def _read(self, f):
        header = f.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES or header[:4] != b"ATN8":
            return
        low, high = unpack("<HH", header[8:12])
        if high > 256 or not _HEADER_BYTES <= high << 16 | low <= self.file_bytes:
            return
        self.header, self.length = header, high << 16 | low
        f.seek(self.length)
        before = crc(header)
        found = f.read(_RECORD_BYTES)
        while len(found) == _RECORD_BYTES:
            self._take(found, before)
            found = f.read(_RECORD_BYTES)

    def _take(self, found, before):
        """Believes a record if it is whole and belongs to this model."""
        low, high, _, _, state, boots, magic, crc_low, crc_high = unpack("<HHHHBBHHH", found)
        known = magic == _MAGIC and found[4:8] == self.header[8:12] and WRITTEN <= state <= BAD
        if known and high < 16384 and (crc_high, crc_low) == crc(found[:12], *before):
            self.sequence, self.state, self.boots = high << 16 | low, state, boots

    def append(self, sequence, state, boots=0):
        """Appends a record, sees to it that it is stored, and reads it back.

        Raises:
            OSError: if it cannot be written; the record before it counts.
        """
        torn = (self.file_bytes - self.length) % _RECORD_BYTES  # what a power cut left of a record
        data = bytes(-torn % _RECORD_BYTES) + record(self.header, sequence, state, boots)
        with open(self.path, "ab") as f:
            f.write(data)
            store(f)
        self.read()
        if (self.sequence, self.state, self.boots) != (sequence, state, boots):
            raise OSError(5, f"{self.path}: the record that was written is not there; is the memory worn out?")

    def unproven(self):
        """Says whether the model is to be tested and counted when it is loaded."""
        return self.state in (WRITTEN, TRIAL)

    def worn(self):
        """Says whether the model had all the boots that a trial has, without the one that this program counted."""
        had_all = self.unproven() and self.boots >= TRIAL_BOOTS
        return had_all and counted.get(self.path) != (self.sequence, self.boots)

    def usable(self):
        """Says whether the model may be taken at all."""
        return WRITTEN <= self.state <= GOOD

    def buffer(self, key):
        """Returns the bytes of the model; with a key only if they are signed with it.

        Raises:
            ModelError: SIGNATURE.    OSError: if they cannot be read.
        """
        from .loading import new_buffer

        data = new_buffer(self.length)
        with open(self.path, "rb") as f:
            n = f.readinto(data)
            if key is not None:
                submodule("signature").check(key, data, f.read(32), self.path)
        return data if n == self.length else memoryview(data)[:n]

    def open(self, key, test):
        """Returns the Model, tested with its golden vectors or not.

        Raises:
            ModelError: if the checks or the golden vectors fail.    OSError: if the file cannot be read.
        """
        from .loading import open_model

        m = open_model(self.buffer(key), self.path)
        if test:
            m.selftest()
        return m


def store(f):
    """Sees to it that what was written to a file survives a power cut from now on."""
    f.flush()
    if hasattr(os, "fsync"):
        os.fsync(f.fileno())
    elif hasattr(os, "sync"):
        os.sync()


def both(name):
    """Returns the two slots of a name, the newer one in front."""
    a, b = Slot(name, 0), Slot(name, 1)
    return (a, b) if a.sequence >= b.sequence else (b, a)


def key_of(name):
    """Returns the bytes of the key file, or None if there is none.

    Raises:
        ModelError: SIGNATURE, if it is empty or too large for a key.    OSError: if it cannot be read.
    """
    try:
        n = os.stat(f"{name}.key")[6]
    except OSError as e:
        if e.args[0] not in _ENOENT:  # a file system that fails must not turn the check off
            raise
        return None
    if not 1 <= n <= _MAX_KEY_BYTES:  # an empty one, as a power cut leaves it, signs for everybody
        raise ModelError(ERR_SIGNATURE, f"{name}.key", f"{n} bytes", f"a key of 1 to {_MAX_KEY_BYTES}")
    with open(f"{name}.key", "rb") as f:
        return f.read()


def load(name):
    """Returns the Model of a slot name, or None if there is no slot file.

    Of the models that are good or in trial the newest that passes its checks is taken. One in trial is counted, then
    tested with its golden vectors; if they differ it is marked bad. After three boots without confirm the model
    before it is taken, and it is marked bad; without another it is taken all the same.

    Raises:
        ModelError: if no slot holds such a model, or why the newest is refused.
    """
    slots = both(name)
    if slots[0].file_bytes is None and slots[1].file_bytes is None:
        return None
    if slots[0].worn():
        slots = slots[1], slots[0]
    key = key_of(name)
    fault = None
    for slot in slots:
        if not (slot.usable() and _count_boot(slot, slots)):
            continue
        try:
            m = slot.open(key, slot.unproven())
        except (ModelError, OSError) as e:
            fault = fault or e
            if slot.unproven() and isinstance(e, ModelError):
                _try_append(slot, BAD)
            continue
        if slot.path in counted and slot.unproven():
            submodule("trial").Trial(m, slot.path)
        for other in slots:
            if other.worn() and other.sequence > slot.sequence:  # an older one stays to be gone back to
                _try_append(other, BAD)
        return m
    raise fault or ModelError(ERR_SLOT, name, tell(slots), "a good slot")


def tell(slots):
    """Returns the states of slots as text."""
    return ", ".join([f"slot {slot.index} {STATES[slot.state]}" for slot in slots])


def _count_boot(slot, slots):
    """Counts a boot of a model in trial, once in a program. Returns whether the model may be taken."""
    if not slot.unproven():
        return True
    if slot.worn():  # nothing else can be taken: what shows itself good may still be confirmed
        counted[slot.path] = (slot.sequence, slot.boots)
        return True
    if counted.get(slot.path) == (slot.sequence, slot.boots):
        return True
    counted[slot.path] = (slot.sequence, slot.boots + 1)
    try:
        slot.append(slot.sequence, TRIAL, slot.boots + 1)
    except OSError as e:
        del counted[slot.path]
        # On a drive that belongs to a computer it is tested at each boot; else a trial without an end could be fatal.
        return e.args[0] == _EROFS or not [s for s in slots if s.state == GOOD]
    return True


def _try_append(slot, state):
    """Appends a record where that is possible; a board that cannot write does without."""
    try:  # noqa: SIM105 (a board has no contextlib)
        slot.append(slot.sequence, state, slot.boots)
    except OSError:
        pass


def confirm():
    """Marks the models in trial that this program loaded by slot name as good. Returns whether there was one.

    Raises:
        OSError: if that cannot be written.
    """
    done = False
    for path in list(counted):
        done = confirm_slot(path) or done
    return done


def confirm_slot(path):
    """Marks the model of a slot as good, if it is in trial and still the one that was loaded."""
    slot = Slot(path[:-5], int(path[-4]))
    if slot.state != TRIAL or (slot.sequence, slot.boots) != counted.get(path):
        return False
    slot.append(slot.sequence, GOOD, slot.boots)
    return True
