"""A model update survives power loss at every write, inside the real MicroPython, on LittleFS and on FAT.

pytest makes every cut, and a sample of those of the recovery from each. All of both, in about 10 minutes a disk:
python tests/faults/test_power_loss.py [DISK]..
"""

import shutil
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest

import micropython_builds as builds
from attn8 import micropython as mp
from attn8.pack import pack
from models import build_graph

SCRIPT = Path(__file__).with_name("power_loss.py")
DISKS = {  # file system, bytes of a block, of the disk
    "lfs": ("lfs", 512, 64 * 1024),
    "lfs-4096": ("lfs", 4096, 128 * 1024),
    "fat": ("fat", 512, 64 * 1024),
    "fat-4096": ("fat", 4096, 256 * 1024),
}
SCENARIOS = ["first_update", "second_update", "confirmed_update", "reverted_update"]
FAT_SLOT_BYTES = 2560  # the clusters of a slot file, which a cut between directory and table leaves without an owner
HEAP_BYTES = 8 * 1024 * 1024


def cut(disk, stride, depth, natmod=None):
    """Runs power_loss.py; returns {scenario: {what was counted: how many}} and all that it printed."""
    from make_files import SHAPES

    with mp.workspace() as folder:
        for i in range(4):  # of the same length, so that an old log lies where the new one will
            (folder / f"{i}.a8").write_bytes(pack(build_graph(SHAPES["int16"], seed=i + 1)))
        if natmod:
            shutil.copy(natmod, folder / "_attn8.mpy")
        shutil.copy(SCRIPT, folder)
        arguments = (*DISKS[disk], stride, depth)
        options = {"heap_bytes": HEAP_BYTES, "timeout_s": 7200}
        output = mp.UNIX.run_script(folder, SCRIPT.name, *arguments, **options)
    counts = {}
    for line in output.splitlines():
        name, *words = line.split()
        if name in SCENARIOS:
            counts[name] = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    return counts, output


def check(disk, stride, depth, at_least):
    counts, output = cut(disk, stride, depth, builds.natmod("x64"))
    assert list(counts) == SCENARIOS
    assert sum(row["failures"] for row in counts.values()) == 0, output
    assert all(row["cuts"] + row["nested"] >= at_least for row in counts.values()), output
    return counts


@pytest.mark.parametrize("disk", ["lfs", "fat"])
def test_update_survives_power_loss_at_every_write(disk):
    counts = check(disk, 1, 1, at_least=100)
    lost = {row["lost"] for row in counts.values()}
    assert lost == {0} if disk == "lfs" else max(lost) <= FAT_SLOT_BYTES


@pytest.mark.parametrize(("disk", "stride", "at_least"), [("lfs", 19, 20), ("fat", 7, 20)])
def test_recovery_survives_another_power_loss(disk, stride, at_least):
    check(disk, stride, 2, at_least)


def main():
    natmod = builds.natmod("x64")
    for disk in sys.argv[1:] or DISKS:
        start = time.monotonic()
        counts, output = cut(disk, 1, 2, natmod)
        for line in output.splitlines():
            if line.startswith("FAILED"):
                print(line)
        for name, row in counts.items():
            print(disk, name, *[f"{what} {n}" for what, n in row.items()])
        print(f"{disk}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
