"""A model that is deployed onto a board's drive survives a cut behind every 512 bytes that reach the drive.

What a real deploy does to a folder is written down and done again on a FAT inside the real MicroPython, cut there, and
booted there. pytest makes a sample of the cuts; all of them, in about a minute, or with a model of yours:
python tests/faults/test_drive_cut.py [FILE]
"""

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
from attn8.device import slots

from attn8 import micropython as mp
from attn8 import reference
from attn8.boards import slot_files, via_drive
from attn8.random_models import random_model
from tools import need

SCRIPT = Path(__file__).with_name("drive_cut.py")
DISK_BYTES, LARGE_DISK_BYTES = 64 * 1024, 256 * 1024
HEAP_BYTES = 8 * 1024 * 1024
OLDEST, OLD, NEW, FOLLOWING = (random_model(seed, n_outputs=3) for seed in (4, 17, 23, 29))
STARTS = {"first": (), "second": (OLD,), "third": (OLDEST, OLD), "same size": (NEW, OLD), "good": (OLDEST, OLD)}


class Recorded(slot_files.Files):
    """Files that also write down what is done to them."""

    done = ()

    def _note(self, *operation):
        type(self).done = (*self.done, operation)

    def empty(self, name):
        super().empty(name)
        self._note("empty", name, 0, b"")

    def append(self, name, data, progress=None):
        super().append(name, data, progress)
        self._note("append", name, 0, data)

    def overwrite(self, name, at, data):
        super().overwrite(name, at, data)
        self._note("overwrite", name, at, data)

    def remove(self, name):
        super().remove(name)
        self._note("remove", name, 0, b"")


def operations(folder, start, new=NEW):
    """Returns (what lies on the drive, what a deploy of a model does to it), lists of operations of drive_cut.py."""
    drive = folder / "drive"
    drive.mkdir()
    (drive / "code.py").write_text("import attn8\n" * 60, newline="\n")
    for data in STARTS[start]:
        (folder / "m.a8").write_bytes(data)
        via_drive.deploy(folder / "m.a8", drive, "g")
        if start == "good":
            newest = slots.both(str(drive / "g"))[0]
            newest.append(newest.sequence, slots.GOOD)
    base = [("append", file.name, 0, file.read_bytes()) for file in sorted(drive.iterdir())]
    (folder / "m.a8").write_bytes(new)
    Recorded.done = ()
    via_drive.deploy(folder / "m.a8", drive, "g", files=Recorded)
    return base, Recorded.done


def cut(start, stride, new):
    """Runs drive_cut.py; returns {what was counted: how many} and all that it printed."""
    need("micropython")
    with mp.workspace() as folder:
        for name, found in zip(("base", "operations"), operations(folder, start, new), strict=True):
            (folder / f"{name}.txt").write_text("".join(f"{operation!r}\n" for operation in found))
        (folder / "following.a8").write_bytes(FOLLOWING)
        (folder / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
        options = {"heap_bytes": HEAP_BYTES, "timeout_s": 7200}
        disk_bytes = DISK_BYTES if len(new) < DISK_BYTES // 8 else LARGE_DISK_BYTES
        output = mp.UNIX.run_script(folder, SCRIPT.name, disk_bytes, stride, **options)
    words = output.splitlines()[-1].split()
    return dict(zip(words[::2], words[1::2], strict=True)), output


def check(start, stride, new=NEW):
    counts, output = cut(start, stride, new)
    old = reference.parse(OLD).id if STARTS[start] else "None"
    assert (counts["old"], counts["new"]) == (old, reference.parse(new).id), output
    assert counts["failures"] == "0", output
    return counts


@pytest.mark.parametrize("start", STARTS)
def test_drive_cut_behind_any_sector_leaves_the_old_or_the_new_model(start):
    assert int(check(start, 41)["cuts"]) >= 5


def test_record_is_the_last_thing_that_is_written(tmp_path):
    _, done = operations(tmp_path, "second")
    assert [operation[:3] for operation in done] == [
        *(("empty", "g.1.a8", 0), ("append", "g.1.a8", 0), ("overwrite", "g.1.a8", len(NEW)))
    ]
    assert done[1][3] == NEW + bytes(16)
    assert len(done[2][3]) == 16


def main(new=NEW):
    for start in STARTS:
        begin = time.monotonic()
        counts = check(start, 1, new)
        print(start, *[f"{what} {n}" for what, n in counts.items()], f"{time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main(*[Path(file).read_bytes() for file in sys.argv[1:]])
