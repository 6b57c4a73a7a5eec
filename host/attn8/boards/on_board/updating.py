# What `attn8 deploy`, `rollback` and `status` ask of a board, a call each: a link may start the board anew for each.
# FACTS and ATTN8 of facts.py come before it. Exceptions that a model causes go to the computer as they are.
import os


def _slots():
    return __import__("attn8.slots", None, None, ("*",))


def _look(name):
    """Returns what _facts() and _attn8() tell, or (class, text) of an exception of that, and the slots of a name.

    The slots are a dict: the rows that slots.status gives, and the bytes of both files. None stands for all names; a
    package without slots has None in their place.
    """
    facts = _facts()  # noqa: F821
    print(end=".")
    try:
        package = _attn8()  # noqa: F821
        if package is None:
            return facts, None, None
    except Exception as e:
        return facts, (type(e).__name__, str(e)), None
    print(end=".")
    try:
        status = _slots().status
    except ImportError:
        return facts, package, None
    names = _names() if name is None else [name]
    return facts, package, {n: (status(n), [_file_bytes(f"{n}.{i}.a8") for i in (0, 1)]) for n in names}


def _names():
    found = [f[:-5] for f in os.listdir() if f.endswith((".0.a8", ".1.a8")) and len(f) > 5]
    return [name for i, name in enumerate(found) if name not in found[:i]]


def _file_bytes(path):
    try:
        return os.stat(path)[6]
    except OSError:
        return 0


def _begin(name, sizes, in_place):
    """Empties the slot to spare and returns its path and the free heap; path None if these sizes find no room there."""
    global _path
    import gc

    gc.collect()
    free = gc.mem_free() if hasattr(gc, "mem_free") else -1
    try:
        kept = [bytearray(n) for n in sizes]
        kept.clear()
    except MemoryError:
        return None, free
    for path in [f"{name}.put"] + ([f"{name}.0.a8", f"{name}.1.a8"] if in_place else []):
        if _file_bytes(path):
            os.remove(path)
    with _Beating():
        _path = _slots().begin(name)
    return _path, free


def _finish(name, path, sent, confirm, came):
    """Checks what was written and lets it be the model from now on.

    Args:
        sent: length, CRC-32, SHA-256.    came: the file that it came in, None if that is the slot itself.

    Returns:
        the check that was made, slot, sequence and rows; or (None, why) if it is not what was sent.
    """
    slots = _slots()
    with _Beating():
        try:
            if came:
                os.remove(path)
                os.rename(came, path)
            check = slots.verify(path, *sent)
        except (slots.ModelError, OSError) as e:
            return None, str(e)
        slot, sequence = slots.accept(name, path, confirm)
    return check, slot, sequence, slots.status(name)


def _rollback(name):
    """Goes back; returns the rows, or None and the text of why there is none to go back to."""
    slots = _slots()
    with _Beating():
        try:
            slots.rollback(name)
        except slots.ModelError as e:
            return None, str(e)
    return slots.status(name), ""


class _Beating:
    """With it the board prints a point for each golden vector and each piece of a checksum: it is still there."""

    def __enter__(self):
        submodule = _slots().submodule
        self.loading, self.update = submodule("loading"), submodule("deploy")
        self.kept = self.loading.open_model, self.update.crc
        self.loading.open_model, self.update.crc = self._open_model, self._crc

    def __exit__(self, *_):
        self.loading.open_model, self.update.crc = self.kept

    def _crc(self, *of):
        print(end=".")
        return self.kept[1](*of)

    def _open_model(self, data, where):
        m = self.kept[0](data, where)
        run = m.run

        def beat(window, out=None):
            print(end=".")
            return run(window, out)

        m.run = beat
        return m
