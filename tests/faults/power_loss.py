"""Cuts the power at the block operations of updates, inside MicroPython: power_loss.py FS BLOCK_BYTES STRIDE DEPTH.

FS is lfs or fat. Every STRIDE-th cut is made; DEPTH 2 also cuts the recovery from each. Prints counts, one a line, and
what went wrong; the models old.a8, new_1.a8.. lie in the working folder.
"""

import gc
import os
import sys

import attn8
import attn8.slots as slots
import vfs
from binascii import crc32

NAME = "/p/g"
BYSTANDER = bytes(range(256)) * 3
MODELS = [open(f"power_{i}.a8", "rb").read() for i in range(4)]
IDS = ["".join([f"{b:02x}" for b in data[16:24]]) for data in MODELS]


_EIO = 5


class Flash:
    """A block device in RAM whose power fails at one of its writes and erasures; from then on every call fails.

    It returns an error then and raises nothing, since an exception would leave the file system amid its work.

    Attributes:
        n: operations so far.    at: the operation, from 1, at which the power fails; 0: before the first.
        kind: what is left of it: "whole", ("first", n bytes), ("last", n bytes), ("erased", n bytes: the rest is 255).
        dead: the power has failed.    over: nobody looks any more but files that are given back to the heap.
    """

    def __init__(self, data, block_bytes, at=None, kind="whole"):
        self.data, self.view = data, memoryview(data)
        self.block_bytes = block_bytes
        self.n, self.at, self.kind = 0, at, kind
        self.dead = self.over = False
        self.free_bytes = 0

    def copy(self):
        return Flash(bytearray(self.data), self.block_bytes)

    def readblocks(self, block, buffer, offset=0):
        if self.over or self.dead:
            return 0 if self.over else -_EIO
        at = block * self.block_bytes + offset
        buffer[:] = self.view[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        return self._change(block * self.block_bytes + offset, buffer)

    def ioctl(self, op, block):
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
            if self.kind != "whole":
                new = self._torn(at, new)
        self.view[at : at + len(new)] = new
        return -_EIO if self.dead else 0

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
    try:
        vfs.umount("/p")
    except OSError:
        pass
    vfs.mount(FS(flash), "/p")


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
    """Returns the number of the model that load gives."""
    return IDS.index(attn8.load(NAME).id)


def confirmed_update(flash):
    """From model 1 over model 2 in trial, confirmed, and back again. Yields the models that may be loaded next."""
    power_on(flash)
    yield (1,)
    for step in update(2):
        yield (1, 2) if step == "accepting" else (2,)
    power_on(flash)
    loaded()
    attn8.confirm()
    power_on(flash)
    loaded()
    yield (1, 2)
    slots.rollback(NAME)
    yield (1,)


def reverted_update(flash):
    """Model 2 is never confirmed, so after three boots model 1 comes back."""
    power_on(flash)
    yield (1,)
    for step in update(2):
        yield (1, 2) if step == "accepting" else (2,)
    for _ in range(2):
        power_on(flash)
        assert loaded() == 2
    yield (1, 2)  # a cut while a boot is counted may cost that boot
    power_on(flash)
    loaded()
    power_on(flash)
    assert loaded() == 1
    yield (1,)


SCENARIOS = (confirmed_update, reverted_update)


def run(flash, scenario):
    """Runs a scenario until its end or the cut; returns the models that may be loaded then, and if it was cut."""
    may_load = (1,)
    flash.dead = flash.at == 0
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
        flash.free_bytes = free_bytes()
    flash.over = True
    return may_load, cut


def recover(flash, may_load):
    """After a cut: one of these models loads, other files are whole, and the next update works."""
    power_on(flash)
    yield may_load
    if [row for row in slots.status(NAME) if row[3] == slots.TRIAL and row[4] >= slots.TRIAL_BOOTS]:
        may_load += (1,)  # cuts have used up its boots
    i = loaded()
    assert i in may_load, f"model {i} instead of {may_load}"
    with open("/p/other", "rb") as f:
        assert f.read() == BYSTANDER, "another file was damaged"
    # What takes the place of a model in trial leaves the good one behind it.
    may_load = (i,) if slots.GOOD in [row[3] for row in slots.status(NAME) if row[7] == IDS[i]] else (i, 1)
    yield may_load
    for step in update(3):
        yield may_load + (3,) if step == "accepting" else (3,)
    power_on(flash)
    assert loaded() == 3
    assert attn8.confirm()
    power_on(flash)
    assert loaded() == 3
    yield (3,)


def base(block_bytes, n_bytes):
    """A board on which two updates have been made: model 1 is used, model 0 was before it."""
    flash = Flash(bytearray(n_bytes), block_bytes)
    FS.mkfs(flash)
    power_on(flash)
    with open("/p/other", "wb") as f:
        f.write(BYSTANDER)
    for i in range(2):
        for _ in update(i):
            pass
        loaded()
        attn8.confirm()
    return flash


def kinds(block_bytes):
    yield "whole"
    for n in (1, 13, block_bytes // 2, block_bytes - 1):
        yield "first", n
    yield "last", block_bytes // 2
    if FS is vfs.VfsLfs2:  # a FAT file system without a spare block cannot survive this in its own tables
        for n in (0, 13):
            yield "erased", n


def free_bytes():
    stat = os.statvfs("/p")
    return stat[0] * stat[3]


class Count:
    """What was tried: cuts, cuts of recoveries, failures, and the most bytes of the file system that a cut cost."""

    def __init__(self):
        self.cuts = self.nested = self.failures = self.leaked = 0

    def fail(self, *what):
        self.failures += 1
        if self.failures <= 20:
            print("FAILED", *what)


def try_recovery(count, flash, may_load, what, at=None, kind="whole"):
    """Recovers once, perhaps with a cut; returns what a later recovery needs, or None after a failure."""
    flash.at, flash.kind, flash.n = at, kind, 0
    try:
        return run(flash, lambda flash: recover(flash, may_load))
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
        for at in range(0 if kind == "whole" else 1, n_ops + 1):
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
            count.leaked = max(count.leaked, free_at_start - flash.free_bytes)
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
            try_recovery(count, flash.copy(), reached[0], what + (at,))


if __name__ == "__main__":
    FS = {"lfs": vfs.VfsLfs2, "fat": vfs.VfsFat}[sys.argv[1]]
    block_bytes, stride, depth = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    start = base(block_bytes, 64 * 1024 if block_bytes == 512 else 256 * 1024)
    power_on(start)
    free_at_start = free_bytes()
    for scenario in SCENARIOS:
        count, n_ops = sweep(scenario, start, stride, depth)
        print(scenario.__name__, "operations", n_ops, "cuts", count.cuts, "nested", count.nested, end=" ")
        print("failures", count.failures, "leaked", count.leaked)
