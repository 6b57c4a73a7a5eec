"""Cuts the power at the block operations of updates, inside MicroPython.

    micropython power_loss.py FS BLOCK_BYTES DISK_BYTES STRIDE DEPTH

FS is lfs or fat. Every STRIDE-th cut is made; with DEPTH 2 the recovery from each is cut too, at every STRIDE-th of its
operations. Prints what went wrong, then counts, a line for each scenario. The models 0.a8..3.a8 lie in the working
folder.
"""

import gc
import os
import sys
from binascii import crc32

import vfs

import attn8
import attn8.slots as slots

NAME = "/p/g"
BYSTANDER = bytes(range(256)) * 3
MODELS, IDS = [], []
MOUNTED = []


_EIO = 5


class Flash:
    """A block device in RAM whose power fails at one of its writes and erasures; from then on every call fails.

    It returns an error then and raises nothing, since an exception would leave the file system amid its work.

    Attributes:
        n: operations so far.    at: the operation, from 1, at which the power fails.
        kind: what is left of it: "whole", ("first", n bytes), ("last", n bytes), ("erased", n bytes: the rest is 255);
            or of all since the last sync, as of a disk with a memory of its own: ("some", number of the choice).
        dead: the power has failed.    over: nobody looks any more but files that are given back to the heap.
    """

    def __init__(self, data, block_bytes, at=None, kind="whole"):
        self.data, self.view = data, memoryview(data)
        self.block_bytes = block_bytes
        self.n, self.at, self.kind = 0, at, kind
        self.dead = self.over = False
        self.unsynced = []  # (address, bytes before, bytes after)
        self.lost_bytes = 0

    def copy(self):
        other = Flash(bytearray(self.data), self.block_bytes)
        other.lost_bytes = self.lost_bytes
        return other

    def readblocks(self, block, buffer, offset=0):
        if self.over or self.dead:
            return 0 if self.over else -_EIO
        at = block * self.block_bytes + offset
        buffer[:] = self.view[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        return self._change(block * self.block_bytes + offset, buffer)

    def ioctl(self, op, block):
        if op == 3 and not self.dead:
            self.unsynced.clear()
        if op == 4:
            return len(self.data) // self.block_bytes
        if op == 5:
            return self.block_bytes
        if op == 6:
            return self._change(block * self.block_bytes, b"\xff" * self.block_bytes)
        return 0

    def _change(self, at, new):
        """Writes bytes, or what is left of them if the power fails now; returns 0 or an error number."""
        if self.over or self.dead:
            return 0 if self.over else -_EIO
        self.n += 1
        if self.n == self.at:
            self.dead = True
            if self.kind != "whole" and self.kind[0] != "some":
                new = self._torn(at, new)
        if self.kind[0] == "some":
            self.unsynced.append((at, bytes(self.view[at : at + len(new)]), bytes(new)))
        self.view[at : at + len(new)] = new
        if self.dead:
            self._forget()
            return -_EIO
        return 0

    def _forget(self):
        """Loses about half of what was not synced."""
        for at, before, _ in reversed(self.unsynced):
            self.view[at : at + len(before)] = before
        random = self.n + 7919 * self.kind[1] if self.unsynced else 0
        for at, _, after in self.unsynced:
            random = random * 75 % 65537
            if random & 64:
                self.view[at : at + len(after)] = after
        self.unsynced.clear()

    def _torn(self, at, new):
        """Returns what a block holds after half a write."""
        kind, n = self.kind
        n = min(n, len(new))
        old = b"\xff" * len(new) if kind == "erased" else bytes(self.view[at : at + len(new)])
        if kind == "last":
            return old[: len(new) - n] + bytes(new[len(new) - n :])
        return bytes(new[:n]) + old[n:]


def power_on(flash):
    """A boot: mounts the file system; nothing is known from before."""
    slots.counted.clear()
    if MOUNTED:
        vfs.umount("/p")
        MOUNTED.clear()
    vfs.mount(FS(flash), "/p")
    MOUNTED.append(flash)


def update(i):
    """Deploys a model as a computer does, which writes it in pieces; tells what has been reached."""
    data = MODELS[i]
    path = slots.begin(NAME)
    with open(path, "wb") as f:
        for at in range(0, len(data), 256):
            f.write(data[at : at + 256])
    slots.verify(path, len(data), crc32(data))
    yield "accepting"
    slots.accept(NAME, path)
    yield "accepted"


def loaded():
    """Returns the number of the model that load gives, or None if there is none."""
    try:
        return IDS.index(attn8.load(NAME).id)
    except (attn8.ModelError, OSError):
        return None


def first_update(flash):
    """Model 2 comes to a board without any. Yields the models that may be loaded next."""
    power_on(flash)
    yield (None,)
    for step in update(2):
        yield (None, 2) if step == "accepting" else (2,)
    power_on(flash)
    assert loaded() == 2
    attn8.confirm()
    yield (2,)


def confirmed_update(flash):
    """From model 1 over model 2 in trial, confirmed, and back again."""
    power_on(flash)
    yield (1,)
    for step in update(2):
        yield (1, 2) if step == "accepting" else (2,)
    power_on(flash)
    assert loaded() == 2
    attn8.confirm()
    power_on(flash)
    assert loaded() == 2
    yield (1, 2)
    slots.rollback(NAME)
    yield (1,)


def second_update(flash):
    """The same on a board that has one slot file only."""
    yield from confirmed_update(flash)


def reverted_update(flash):
    """Model 2 is never confirmed, so after three boots model 1 comes back."""
    power_on(flash)
    yield (1,)
    for step in update(2):
        yield (1, 2) if step == "accepting" else (2,)
    for _ in range(3):
        power_on(flash)
        assert loaded() == 2
        yield (2,)
    power_on(flash)
    yield (1,)
    assert loaded() == 1


SCENARIOS = ((first_update, ()), (second_update, (1,)), (confirmed_update, (0, 1)), (reverted_update, (0, 1)))


def run(flash, scenario):
    """Runs a scenario until its end or the cut; returns the models that may be loaded then, and if it was cut."""
    may_load = None
    try:
        for now in scenario(flash):
            if flash.dead:
                break
            may_load = now
    except Exception:
        if not flash.dead:
            raise
    cut = flash.dead
    if not cut:
        flash.lost_bytes = lost_bytes()
    flash.over = True
    return may_load, cut


def recover(flash, may_load):
    """After a cut: one of these models loads, other files are whole, and the next update works."""
    power_on(flash)
    rows = slots.status(NAME)
    good = [IDS.index(row[7]) for row in rows if row[3] == slots.GOOD]
    if good and [row for row in rows if row[3] == slots.TRIAL and row[4] >= slots.TRIAL_BOOTS]:
        may_load = tuple(good)  # cuts have used up the boots of the trial
    yield may_load
    i = loaded()
    assert i in may_load, f"model {i} instead of {may_load}"
    with open("/p/other", "rb") as f:
        assert f.read() == BYSTANDER, "another file was damaged"
    # What takes the place of a model in trial leaves the good one behind it.
    may_load = (i, good[0]) if good and i not in good else (i,)
    yield may_load
    for step in update(3):
        yield (3,) if step == "accepted" else (3,) + may_load  # noqa: RUF005 (not on MicroPython)
    power_on(flash)
    assert loaded() == 3
    assert attn8.confirm()
    power_on(flash)
    assert loaded() == 3
    yield (3,)


def base(block_bytes, n_bytes, updates):
    """A board on which these models were deployed, one after the other."""
    flash = Flash(bytearray(n_bytes), block_bytes)
    FS.mkfs(flash)
    power_on(flash)
    with open("/p/other", "wb") as f:
        f.write(BYSTANDER)
    for i in updates:
        for _ in update(i):
            pass
        loaded()
        attn8.confirm()
    flash.lost_bytes = lost_bytes()
    return flash.copy()


def kinds(block_bytes):
    yield "whole"
    for n in (1, 13, block_bytes // 2, block_bytes - 1):
        yield "first", n
    yield "last", block_bytes // 2
    if FS is vfs.VfsLfs2:  # a FAT file system without a spare block cannot survive this in its own tables
        for n in (0, 13):
            yield "erased", n
    else:  # LittleFS is for flash, which keeps the order
        for n in range(4):
            yield "some", n


def lost_bytes():
    """Returns the bytes of the disk that are neither free nor in a file; folders and the like have some."""
    stat = os.statvfs("/p")
    cluster = stat[0]
    files = sum([(entry[3] + cluster - 1) // cluster for entry in os.ilistdir("/p")])
    return cluster * (stat[2] - stat[3] - files)


class Count:
    """What was tried: cuts, cuts of recoveries, failures, and the most bytes of the disk that a cut cost."""

    def __init__(self):
        self.cuts = self.nested = self.failures = self.lost = 0

    def fail(self, *what):
        self.failures += 1
        if self.failures <= 20:
            print("FAILED", *what)


def try_recovery(count, flash, may_load, what, at=None, kind="whole"):
    """Recovers once, perhaps with a cut; returns what a later recovery needs, or None after a failure."""
    flash.at, flash.kind, flash.n = at, kind, 0
    try:
        reached, _ = run(flash, lambda flash: recover(flash, may_load))
        return reached or may_load
    except Exception as e:
        count.fail(what, at, kind, repr(e))
        return None


def sweep(scenario, start, stride, depth):
    """Cuts a scenario everywhere; returns the Count and the number of its operations."""
    count = Count()
    flash = start.copy()
    run(flash, scenario)
    n_ops, i = flash.n, 0
    for kind in kinds(start.block_bytes):
        for at in range(1, n_ops + 1):
            i += 1
            if i % stride:
                continue
            flash = start.copy()
            flash.at, flash.kind = at, kind
            may_load, cut = run(flash, scenario)
            assert cut
            count.cuts += 1
            after, what = flash, (scenario.__name__, at, kind)
            if depth == 2:
                nested(count, after, may_load, what, stride)
            flash = after.copy()
            try_recovery(count, flash, may_load, what)
            count.lost = max(count.lost, flash.lost_bytes - start.lost_bytes)
            gc.collect()
    return count, n_ops


def nested(count, after, may_load, what, stride):
    """Cuts a recovery everywhere, with a kind of cut that changes from one to the next."""
    choices = list(kinds(after.block_bytes))
    flash = after.copy()
    if try_recovery(count, flash, may_load, what) is None:
        return
    for at in range(1 + count.cuts % stride, flash.n + 1, stride):
        flash = after.copy()
        reached = try_recovery(count, flash, may_load, what, at, choices[(at + count.cuts) % len(choices)])
        count.nested += 1
        if reached:
            try_recovery(count, flash.copy(), reached, [what, at])


def main(file_system, *numbers):
    global FS
    FS = {"lfs": vfs.VfsLfs2, "fat": vfs.VfsFat}[file_system]
    block_bytes, disk_bytes, stride, depth = map(int, numbers)
    for i in range(4):
        with open(f"{i}.a8", "rb") as f:
            MODELS.append(f.read())
        IDS.append("".join([f"{b:02x}" for b in MODELS[i][16:24]]))
    for scenario, updates in SCENARIOS:
        count, n_ops = sweep(scenario, base(block_bytes, disk_bytes, updates), stride, depth)
        print(scenario.__name__, "operations", n_ops, "cuts", count.cuts, "nested", count.nested, end=" ")
        print("failures", count.failures, "lost", count.lost)


if __name__ == "__main__":
    main(*sys.argv[1:])
