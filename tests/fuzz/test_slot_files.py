"""Damaged slot files, logs and keys on a real MicroPython: a model, a ModelError or an OSError, and nothing else.

    python tests/fuzz/test_slot_files.py 10000 1

tries 10,000 pairs of slots, of seed 1.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attn8 import micropython as mp
from models import random_model

N_IN_CI, HEAP_BYTES = 300, 2 << 20
SCRIPT = """
import os, sys
import attn8
import attn8.slots as slots

models = [open(name, "rb").read() for name in ("old.a8", "new.a8")]
SEQUENCES = (0, 1, 2, 3, 0xFFFF, 0x10000, 0x3FFFFFFE, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MANY = bytes(4001)  # a thousand times: more than the heap
BYTES = (0, 1, 2, 3, 4, 5, 127, 128, 255)
state = SEED * 2654435761 + 1


def draw(n):
    global state
    state = (state * 1103515245 + 12345) & 0x7FFFFFFFFFFF
    return (state >> 16) % n


def pick(values):
    return values[draw(len(values))]


def log(data):
    out = b""
    for _ in range(draw(5)):
        found = slots.record(data[:24], pick(SEQUENCES), pick(BYTES), pick(BYTES))
        out += found[: pick((16, 16, 16, 1 + draw(15)))]
        if not draw(6):
            out += bytes([draw(256) for _ in range(draw(40))])
    return out


def repaired(data):
    low, high = slots.crc(data[16:], *slots.crc(data[:12])), 0
    high, low = low
    return data[:12] + bytes([low & 255, low >> 8, high & 255, high >> 8]) + data[16:]


def changed(data):
    data = bytearray(data)
    for _ in range(1 + draw(3)):
        data[draw(pick((24, 100, len(data))))] = pick((0, 1, 255, draw(256)))
    return bytes(data)


def file():
    data, kind = pick(models), draw(12)
    if kind == 0:
        return None
    if kind == 1:
        return bytes([draw(256) for _ in range(draw(80))])
    if kind in (2, 3):
        data = changed(data)
    if kind == 4:
        data = repaired(changed(data))
    if kind == 5:
        n = pick((23, 24, 25, 40, 0, 1, 0xFFFF, 0x1000000, 0x1000001, 0xFFFFFFFF))
        data = data[:8] + bytes([n & 255, n >> 8 & 255, n >> 16 & 255, n >> 24]) + data[12:]
    if kind == 6:
        return (data + log(data))[: draw(len(data) + 30)]
    signed = bytes([draw(256) for _ in range(32)]) if not draw(6) else b""
    return data + signed + log(data) if kind < 9 else data + slots.record(data[:24], 1 + draw(4), 1 + draw(4), draw(5))


def remove(path):
    try:
        os.remove(path)
    except OSError:
        try:
            os.rmdir(path)
        except OSError:
            pass


def place(path, data):
    remove(path)
    if isinstance(data, str):
        os.mkdir(path)
    elif data is not None:
        with open(path, "wb") as f:
            for _ in range(1000 if data == MANY else 1):
                f.write(data)


def tried(action):
    try:
        return action(), None
    except (attn8.ModelError, OSError) as e:
        return None, type(e).__name__


def ended(what, action):
    try:
        found, error = tried(action)
    except Exception as e:
        bad.append((i, what, type(e).__name__, str(e)[:80]))
        return None
    count[what, error] = count.get((what, error), 0) + 1
    return found


count, bad = {}, []
for i in range(N):
    for index in (0, 1):
        place("g.%d.a8" % index, "folder" if not draw(60) else file())
    place("g.key", pick((None,) * 30 + (b"", b"k", bytes(64), bytes(65), bytes(5000), MANY, "folder")))
    slots.counted.clear()
    m = ended("load", lambda: attn8.load("g"))
    if m is not None:
        tried(m.selftest)  # a good one is not tested again: its CRC held
        ended("confirm", slots.confirm)
    ended("status", lambda: slots.status("g"))
    if not draw(4):
        ended("rollback", lambda: slots.rollback("g"))
    if not draw(4):
        at = ended("begin", lambda: slots.begin("g"))
        if at:
            data = pick((models[0], models[1], changed(models[0])))
            place(at, data)
            ended("accept", lambda: slots.accept("g", at))
    if not draw(4):
        ended("load", lambda: attn8.load("g"))
for key in sorted(count, key=str):
    print(key, count[key])
for row in bad[:20]:
    print("BROKEN", row)
print(N, "pairs,", len(bad), "broken promises")
"""


def fuzz(n, seed):
    """Tries n pairs of slots. Returns the lines that were printed."""
    with mp.workspace() as folder:
        for name, model in (("old.a8", 1), ("new.a8", 2)):
            (folder / name).write_bytes(random_model(model))
        Path(folder, "script.py").write_text(f"N, SEED = {n}, {seed}\n{SCRIPT}", encoding="utf-8")
        return mp.UNIX.run_script(folder, "script.py", heap_bytes=HEAP_BYTES, timeout_s=3600).splitlines()


def test_damaged_slots_end_with_a_model_or_an_error_of_theirs():
    lines = fuzz(N_IN_CI, 1)
    assert lines[-1] == f"{N_IN_CI} pairs, 0 broken promises", "\n".join(lines)
    assert any(line.startswith("('load', None)") for line in lines)


if __name__ == "__main__":
    lines = fuzz(int(sys.argv[1]), int(sys.argv[2]))
    print("\n".join(lines))
    sys.exit(not lines[-1].endswith(" 0 broken promises"))
