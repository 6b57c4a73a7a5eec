"""Cuts what a computer writes to a board's drive after every sector, inside MicroPython's own FAT.

    micropython drive_cut.py DISK_BYTES STRIDE

base.txt has what lies on the drive first, operations.txt what the computer does then, each line a tuple of Python. A
computer keeps sectors for a while and writes them in an order of its own, but for what an fsync separates: so each cut
is made with the sectors as they came, and with the last of each between two fsyncs: data first, tables and folder
first, backwards, and shuffled. The sector at the cut is whole, or half old. Every STRIDE-th cut is made. Prints what
went wrong, then counts.
"""

import gc
import sys

import vfs

import attn8
import attn8.slots as slots

SECTOR = 512
NAME = "/p/g"
_EROFS, _EIO = 30, 5
TORN = (None, 13, 256, 499)  # bytes of the sector at the cut that are new; None: all


class Disk:
    """Sectors in RAM; ``log`` takes what is written to them: lists of (sector, bytes), a list between two fsyncs."""

    def __init__(self, data, read_only=False):
        self.data, self.read_only, self.log = data, read_only, [[]]

    def readblocks(self, block, buffer, offset=0):
        at = block * SECTOR + offset
        buffer[:] = memoryview(self.data)[at : at + len(buffer)]

    def writeblocks(self, block, buffer):
        if self.read_only:
            return -_EROFS
        for at in range(0, len(buffer), SECTOR):
            self.log[-1].append((block + at // SECTOR, bytes(buffer[at : at + SECTOR])))
        self.data[block * SECTOR : block * SECTOR + len(buffer)] = buffer
        return 0

    def ioctl(self, op, _):
        return {4: len(self.data) // SECTOR, 5: SECTOR}.get(op, 0)


def mounted(disk):
    """A boot: nothing is known from before."""
    slots.counted.clear()
    try:  # noqa: SIM105 (not on MicroPython)
        vfs.umount("/p")
    except OSError:
        pass
    vfs.mount(vfs.VfsFat(disk), "/p", readonly=disk.read_only)


def change(what, name, at, data):
    """Does what the computer does to a file; the fsync behind it is left to the caller."""
    if what == "remove":
        import os

        os.remove(f"/p/{name}")
        return
    with open(f"/p/{name}", {"empty": "wb", "append": "ab", "overwrite": "r+b"}[what]) as f:
        if what == "overwrite":
            f.seek(at)
        f.write(data)


def lines(file):
    with open(file) as f:
        return [eval(line) for line in f]


def tables_end(data):
    """Returns the first sector behind allocation tables and folder."""
    word = lambda at: data[at] | data[at + 1] << 8  # noqa: E731
    return word(14) + data[16] * word(22) + word(17) * 32 // SECTOR


def orders(log, first_data):
    """Yields (name, list of writes, how many of them come before the last fsync but one)."""
    last = [list({sector: (sector, data) for sector, data in epoch}.values()) for epoch in log]
    yield "as it came", log
    yield "data first", [sorted(e, key=lambda w: (w[0] < first_data, w[0])) for e in last]
    yield "tables first", [sorted(e, key=lambda w: (w[0] >= first_data, w[0])) for e in last]
    yield "backwards", [sorted(e, key=lambda w: -w[0]) for e in last]
    for seed in (1, 2, 3):
        yield f"shuffled {seed}", [sorted(e, key=lambda w: (w[0] + 7) * 7919 * seed % 257) for e in last]


def boot(data, read_only):
    """Returns (disk, id of the model that loads, None without one)."""
    disk = Disk(data, read_only)
    mounted(disk)
    try:
        return disk, attn8.load(NAME).id
    except (attn8.ModelError, OSError):
        return disk, None


def check(data, may_load, following):
    """What must hold behind a cut: one of these models loads, on a board that may write and on one that may not."""
    _, found = boot(data, True)
    assert found in may_load, f"{found} loads while the computer has the drive"
    disk, again = boot(data, False)
    assert again == found, f"{again} loads after {found}"
    with open("/p/code.py") as f:
        assert f.read() == "import attn8\n" * 60, "another file was damaged"
    path = slots.begin(NAME)
    with open(path, "wb") as f:
        f.write(following)
    slots.accept(NAME, path)
    assert boot(disk.data, False)[1] == identity(following), "the next update does not load"


def identity(data):
    return "".join([f"{b:02x}" for b in data[16:24]])


def sweep(start, log, old, new, following, stride):
    n_cuts = n_failures = i = 0
    for order, epochs in orders(log, tables_end(start)):
        data = bytearray(start)
        for number, epoch in enumerate(epochs):
            # The record is the last thing that is written.
            last = number == len(epochs) - 1
            for k, (sector, new_bytes) in enumerate(epoch):
                at = sector * SECTOR
                for torn in TORN:
                    i += 1
                    if i % stride == 0:
                        cut = bytearray(data)
                        n = SECTOR if torn is None else torn
                        cut[at : at + n] = new_bytes[:n]
                        may_load = (old, new) if last else (old,)
                        if last and k == len(epoch) - 1 and torn is None:
                            may_load = (new,)
                        n_cuts += 1
                        try:
                            check(cut, may_load, following)
                        except Exception as e:
                            n_failures += 1
                            print("FAILED", order, number, k, torn, repr(e))
                        gc.collect()
                data[at : at + SECTOR] = new_bytes
    return n_cuts, n_failures


def main(disk_bytes, stride):
    data = bytearray(disk_bytes)
    vfs.VfsFat.mkfs(Disk(data))
    mounted(Disk(data))
    for operation in lines("base.txt"):
        change(*operation)
    start, disk = bytes(data), Disk(data)
    mounted(disk)
    for operation in lines("operations.txt"):
        change(*operation)
        disk.log.append([])
    log = [epoch for epoch in disk.log if epoch]
    with open("following.a8", "rb") as f:
        following = f.read()
    old, new = boot(bytearray(start), True)[1], boot(bytearray(data), True)[1]
    cuts, failures = sweep(start, log, old, new, following, stride)
    print("old", old, "new", new, "writes", sum([len(e) for e in log]), "cuts", cuts, "failures", failures)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
