"""The native module on an emulated Cortex-M3, a 32-bit target: as user module in the firmware, and as natmod."""

import shutil
import tempfile
from pathlib import Path

import pytest

import micropython_builds as builds
from attn8 import micropython as mp
from models import random_model
from tools import need

IMPORT_BYTES = {"native": 6 * 1024, "python": 20 * 1024}
MAIN = """
import sys
{before}
import case, run
case.folder = "/rom"
run.run()
"""
# A module of the firmware wins over a file of the same name, so the natmod gets another name and is put in its place.
NATMOD = "import natmod; assert natmod.__file__; sys.modules['_attn8'] = natmod"
NO_NATIVE = "import sys; sys.modules['attn8.native'] = None"


@pytest.fixture(scope="module", autouse=True)
def tools():
    need("qemu-system-arm", "arm-none-eabi-gcc", "mpy-cross")
    builds.m3_firmware()


@pytest.mark.parametrize("kind", ["usermod", "natmod"])
def test_every_device_test_passes_on_the_m3(kind):
    with mp.workspace() as folder:
        builds.fill_folder(folder, builds.natmod("armv7m") if kind == "natmod" else None, "natmod.mpy")
        (folder / "main_m3.py").write_text(MAIN.format(before=NATMOD if kind == "natmod" else ""))
        builds.check_device_tests(builds.run_on_m3(folder, "main_m3"))


def measured(before="", without=()):
    """Returns the lines of board_budget.py as {first two words: numbers}."""
    with tempfile.TemporaryDirectory() as name, mp.workspace() as package:
        folder = Path(name)
        builds.compiled(package)
        for module in without:
            (package / "attn8" / f"{module}.mpy").unlink(missing_ok=True)
        (folder / "ram").mkdir()
        shutil.copytree(package / "attn8", folder / "ram" / "attn8")
        data = random_model(3)
        (folder / "ram" / "copy.a8").write_bytes(data)
        (folder / "model.a8").write_bytes(data)
        script = Path(__file__).with_name("board_budget.py").read_text(encoding="utf-8")
        (folder / "measure.py").write_text(f"{before}\n{script}", encoding="utf-8")
        builds.align_model(folder)
        output = builds.run_on_m3(folder, "measure")
    rows = [line.split() for line in output.splitlines() if line.startswith(("import ", "load "))]
    rows = {(row[0], row[1]): list(map(int, row[2:])) for row in rows if row[-1].isdigit()}
    assert len(rows) == 3, output
    return rows


@pytest.fixture(scope="module")
def native():
    return measured()


def test_import_stays_within_its_budget_with_the_module_in_the_firmware(native):
    (used,) = native["import", "native"]
    assert used <= IMPORT_BYTES["native"]


def test_import_stays_within_its_budget_without_it():
    rows = measured(NO_NATIVE, without=["_viper"])
    (used,) = rows["import", "python"]
    assert used <= IMPORT_BYTES["python"]


def test_weights_in_romfs_cost_no_heap(native):
    in_rom = next(numbers for (what, name), numbers in native.items() if what == "load" and name.endswith("model.a8"))
    in_ram = native["load", "/ram/copy.a8"]
    n = in_rom[1]
    assert n <= in_ram[0] - in_rom[0] <= n + 128  # the file once, in its bytearray
    assert in_rom[0] < in_rom[2] + n / 2
