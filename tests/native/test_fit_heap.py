"""What attn8 fit says about the heap is what MicroPython on an emulated Cortex-M3 says; fit_heap.py asks a board."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import fit_heap
import pytest

import micropython_builds as builds
from attn8 import micropython as mp
from tools import need

NATMOD_CODE = 0  # the module is in this firmware


@pytest.fixture(scope="module", autouse=True)
def tools():
    need("qemu-system-arm", "arm-none-eabi-gcc", "mpy-cross")
    builds.m3_firmware()


def measured(name, data, before, without, shift):
    """Returns what fit_heap.read does of a model on the M3, all read from a file system in RAM."""
    with tempfile.TemporaryDirectory() as folder, mp.workspace() as package:
        builds.compiled(package)
        for module in without:
            (package / "attn8" / f"{module}.mpy").unlink(missing_ok=True)
        ram = Path(folder, "ram")
        shutil.copytree(package / "attn8", ram / "attn8")
        (ram / name).write_bytes(data)
        budget = Path(__file__).with_name("board_budget.py").read_text(encoding="utf-8")
        mounted = budget.partition("def in_use")[0] + "vfs.mount(Copies(), '/ram')\nsys.path.append('/ram')\n"
        ask = f"measure('/ram/{name}', {name == 'causal.a8'}, {shift})\n"
        Path(folder, "ask.py").write_text("\n".join([before, mounted, fit_heap.SOURCE, ask]), encoding="utf-8")
        return fit_heap.read(builds.run_on_m3(folder, "ask"))


@pytest.mark.parametrize(
    ("backend", "before", "without", "name"),
    [
        ("native", "", [], "shipped.a8"),
        ("native", "", [], "causal.a8"),
        ("viper", builds.NO_NATIVE, [], "large.a8"),
        ("viper", builds.NO_NATIVE, [], "causal.a8"),
        ("python", builds.NO_NATIVE, ["_viper"], "shipped.a8"),
    ],
)
def test_the_heap_of_a_model_is_predicted_within_a_tenth_and_never_too_low(backend, before, without, name):
    data = fit_heap.models()[name]
    said = fit_heap.predicted(data, backend, "portable", NATMOD_CODE)
    ask = partial(measured, name, data, before, without)
    got, *found = fit_heap.least(ask, sum(said[:2]))
    assert got == backend
    assert 0.98 <= sum(said[:2]) / sum(found[:2]) <= 1.1, f"predicted {said}, measured {found}"
    if name == "causal.a8":
        assert 0.98 <= said[2] / found[2] <= 1.25, f"predicted {said}, measured {found}"
