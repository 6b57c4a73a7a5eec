"""Memory that runs out at any point of a load by slot name, or of an update, on the real MicroPython."""

from pathlib import Path

import pytest

from attn8 import micropython as mp
from attn8.pack import pack
from attn8.reference import Reference
from models import Shape, build_graph, random_model, windows_for

EMPTY, TRIAL, GOOD, BAD = 0, 2, 3, 4
# Tries an action with n free blocks, from none to plenty; after each try prints whether it worked, what the slots are,
# and whether the model that loads then is the old one or the new one.
SCRIPT = """
import gc, sys, attn8
import attn8.slots as slots
x = open("x", "rb").read()
outputs = dict([(open(name + ".y", "rb").read(), name) for name in ("old", "new")])


def deploy(file, confirm):
    path = slots.begin("g")
    with open(path, "wb") as f, open(file, "rb") as model:
        f.write(model.read())
    return path if confirm is None else slots.accept("g", path, confirm)


def state():
    return [row[3:5] for row in slots.status("g")]


def tried(action, free):
    fill = None
    try:
        while True:  # a chain, since a list asks for twice its memory before all is used
            fill = [fill, bytearray(48)]
    except MemoryError:
        pass
    while free and fill:
        fill = fill[0]
        free -= 1
    try:
        return action()
    except MemoryError:
        return None


deploy("old.a8", True)
{before}
free = worked = 0
while worked < 3:
    done = tried(lambda: {action}, free) is not None
    gc.collect()
    worked += done
    now = state()
    {reset}
    m = attn8.load("g")
    print(int(done), now, outputs[bytes(m.run(x))])
    m = None
    free += 7
"""


@pytest.fixture
def tries():
    """Returns a function that runs the script and returns its (worked, slot states, loaded) lines."""
    old, new = [pack(build_graph(Shape(), seed)) for seed in (1, 2)]

    def run(**parts):
        with mp.workspace() as folder:
            x = windows_for(old, 1)
            (folder / "x").write_bytes(x.tobytes())
            for name, data in (("old", old), ("new", new)):
                (folder / f"{name}.a8").write_bytes(data)
                (folder / f"{name}.y").write_bytes(Reference(data).run(x).tobytes())
            Path(folder, "script.py").write_text(SCRIPT.format(**parts), encoding="utf-8")
            lines = mp.UNIX.run_script(folder, "script.py").splitlines()
        rows = [line.rsplit(" ", 1) for line in lines]
        found = [(int(left[0]), eval(left[2:]), loaded) for left, loaded in rows]
        assert sum(1 for worked, _, _ in found if not worked) > 20
        return found

    return run


def test_load_of_a_good_slot_survives_running_out_of_memory_at_every_point(tries):
    found = tries(before="", action='attn8.load("g")', reset="")
    assert {(tuple(states), loaded) for _, states, loaded in found} == {(((GOOD, 0), (EMPTY, 0)), "old")}


def test_running_out_of_memory_neither_uses_up_the_boots_of_a_trial_nor_ends_it(tries):
    found = tries(before='deploy("new.a8", False)', action='attn8.load("g")', reset="")
    assert {loaded for _, _, loaded in found} == {"new"}
    boots = [states[1] for _, states, _ in found]
    assert set(boots) <= {(TRIAL, 0), (TRIAL, 1)}


def test_a_revert_survives_running_out_of_memory_at_every_point(tries):
    before = 'deploy("new.a8", False)\nfor _ in range(3):\n    slots.counted.clear(); attn8.load("g")'
    found = tries(before=f"{before}\nslots.counted.clear()", action='attn8.load("g")', reset="")
    assert {loaded for _, _, loaded in found} == {"old"}
    assert {states[1] for _, states, _ in found} <= {(TRIAL, 3), (BAD, 3)}


def test_an_update_survives_running_out_of_memory_at_every_point(tries):
    found = tries(before="", action='deploy("new.a8", True)', reset='now == [(3, 0), (3, 0)] and slots.rollback("g")')
    assert {tuple(states) for worked, states, _ in found if worked} == {((GOOD, 0), (GOOD, 0))}
    refused = {tuple(states) for worked, states, _ in found if not worked}
    assert refused <= {((GOOD, 0), (EMPTY, 0)), ((GOOD, 0), (BAD, 0)), ((GOOD, 0), (GOOD, 0))}
    assert {loaded for _, _, loaded in found} == {"old"}


def test_a_good_model_costs_no_memory_for_the_slots():
    script = """
import gc, sys, attn8
import attn8.slots as slots
slots.accept("g", "g.0.a8", True)
slots.accept("t", "t.0.a8")
for name in [name for name in sys.modules if name.startswith("attn8")]:
    del sys.modules[name]
import attn8
kept = []
for name in ("g", "g.0.a8", "t", "g"):
    attn8.load(name) if name != "g.0.a8" else attn8.load(open("model.a8", "rb").read())
    kept.append("attn8.slots" in sys.modules)
print(kept, hasattr(attn8, "confirm") and attn8.confirm())
"""
    with mp.workspace() as folder:
        for name in ("g.0.a8", "t.0.a8", "model.a8"):
            (folder / name).write_bytes(random_model(0))
        (folder / "script.py").write_text(script, encoding="utf-8")
        assert mp.UNIX.run_script(folder, "script.py", heap_bytes=1 << 20).strip() == "[False, False, True, True] True"
