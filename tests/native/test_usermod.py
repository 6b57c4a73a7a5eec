"""The native module as a user C module in the unix port, compiled with the port's own warnings as errors."""

import re

import pytest

import micropython_builds as builds
from attn8 import micropython as mp
from tools import core_sources, need


@pytest.fixture(scope="module")
def program():
    need("gcc")
    return builds.unix_program()


def test_usermod_passes_every_device_test():
    builds.check_device_tests(builds.device_test_output("usermod"), "native")


@pytest.mark.parametrize("name", ["natmod/Makefile", "usermod/micropython.mk", "usermod/micropython.cmake"])
def test_usermod_and_natmod_list_the_whole_core(name):
    """CMake is not run here, so its list is at least complete. Golden vectors are made in Python."""
    listed = set(re.findall(r"\b(a8_\w+\.c)\b", (builds.MODULES / name).read_text(encoding="utf-8")))
    assert listed == {path.name for path in core_sources()} - {"a8_host.c", "a8_golden.c"}


def test_usermod_leaves_the_python_kernels_and_the_checker_out(program):
    text = "import sys, attn8; attn8.load('int16.a8').selftest(); print(*sorted(k for k in sys.modules))"
    with mp.workspace() as folder:
        builds.fill_folder(folder)
        loaded = builds.run_unix(program, folder, "-c", text).split()
    assert "attn8.native" in loaded
    assert not {"attn8.format", "attn8.plan", "attn8._python", "attn8.kernels", "attn8.model"} & set(loaded)


def test_usermod_runs_a_frozen_model_in_place_wherever_it_begins(program):
    """It costs what a copy of the file in RAM costs, less the copy, at each of eight addresses in a row."""
    text = """
import gc, attn8, frozen_model
from uctypes import addressof

def cost(data):
    gc.collect()
    before = gc.mem_alloc()
    m = attn8.load(data())
    gc.collect()
    used = gc.mem_alloc() - before
    assert m.selftest()
    return used, m.model_bytes

n = int.from_bytes(frozen_model.copies[8:12], "little")
views = [memoryview(frozen_model.copies)[i * frozen_model.n_bytes:][:n] for i in range(8)]
cost(lambda: views[0])  # the first load also imports
in_ram, model_bytes = cost(lambda: bytearray(views[0]))
for view in views:
    print(addressof(view) % 8, in_ram, cost(lambda: view)[0], model_bytes)
"""
    with mp.workspace() as folder:
        lines = builds.run_unix(program, folder, "-c", text).splitlines()
    rows = [list(map(int, line.split())) for line in lines]
    assert {row[0] for row in rows} == set(range(8))
    for _, in_ram, in_rom, model_bytes in rows:
        assert model_bytes <= in_ram - in_rom <= model_bytes + 128
        assert in_rom < model_bytes * 3 / 4
