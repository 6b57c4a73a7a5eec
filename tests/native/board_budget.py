"""Runs on the emulated Cortex-M3: prints what import and load cost, the modules read from a file system in RAM.

The ROMFS at /rom would run bytecode in place; the flash file systems of stock boards cannot.
"""

import gc
import io
import os
import sys

import uctypes
import vfs


class Copies:
    """A file system whose files are copies in RAM of those below /rom/ram."""

    def mount(self, readonly, mkfs):
        """Is told that it is mounted."""

    def umount(self):
        """Is told that it is no longer mounted."""

    def stat(self, path):
        """Returns what os.stat does."""
        return os.stat("/rom/ram" + path)

    def open(self, path, mode):
        """Opens a copy."""
        with open("/rom/ram" + path, "rb") as f:
            return io.BytesIO(f.read())


def in_use():
    """Returns the bytes of the heap that are in use."""
    gc.collect()
    return gc.mem_alloc()


def load_cost(attn8, path):
    """Returns what a loaded model costs, with the buffer that load makes, and the bytes of its file and its arena."""
    before = in_use()
    m = attn8.load(path)
    after = in_use()
    assert m.selftest()
    return after - before, m.model_bytes, m.arena_bytes


def measure():
    """Prints `name numbers` lines."""
    vfs.mount(Copies(), "/ram")
    sys.path.append("/ram")
    before = in_use()
    import attn8

    print("import", attn8.backend, in_use() - before)
    for name in sorted(os.listdir("/rom")):
        if name.endswith(".a8"):
            path = "/rom/" + name
            with open(path, "rb") as f:
                address = uctypes.addressof(memoryview(f))
            print("load", name, *load_cost(attn8, path), address % 4)
    before = in_use()
    import natmod

    assert natmod.Model
    print("import", "natmod", in_use() - before)
    print("load", "/ram/copy.a8", *load_cost(attn8, "/ram/copy.a8"))


measure()
