"""The native module as a user C module in the unix port, compiled with the port's own warnings as errors."""

import pytest

import micropython_builds as builds
from attn8 import micropython as mp
from tools import need


@pytest.fixture(scope="module")
def program():
    need("gcc")
    return builds.unix_program()


def test_usermod_passes_every_device_test(program):
    builds.check_device_tests(builds.device_tests_output(program))


def test_usermod_leaves_the_python_kernels_and_the_checker_out(program):
    text = "import sys, attn8; attn8.load('int16.a8').selftest(); print(*sorted(k for k in sys.modules))"
    with mp.workspace() as folder:
        builds.fill_folder(folder)
        loaded = builds.run_unix(program, folder, "-c", text).split()
    assert "attn8.native" in loaded
    assert not {"attn8.format", "attn8.plan", "attn8._python", "attn8.kernels", "attn8.model"} & set(loaded)


def test_usermod_runs_a_frozen_model_in_place_where_it_is_aligned(program):
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

views = [memoryview(item)[n:] for n, item in enumerate(frozen_model.items)]
cost(lambda: views[0])  # the first load also imports
in_ram, model_bytes = cost(lambda: bytearray(views[0]))
for view in views:
    print(addressof(view) % 4, in_ram - cost(lambda: view)[0], model_bytes)
"""
    with mp.workspace() as folder:
        lines = builds.run_unix(program, folder, "-c", text).splitlines()
    rows = [list(map(int, line.split())) for line in lines]
    assert {shift == 0 for shift, _, _ in rows} == {True, False}, "the compiler aligns bytes objects: no test"
    for shift, saved, model_bytes in rows:
        low = 0 if shift else model_bytes
        assert low <= saved <= low + 128, "in place it saves the file; a copy saves nothing"
