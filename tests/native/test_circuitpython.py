"""The device tests on CircuitPython's unix port, by hand: circuitpython_hand.py says what it needs."""

import re

import pytest

import backend_table
import circuitpython_hand as hand
import micropython_builds as builds
from attn8 import native_build


@pytest.mark.parametrize("name", list(hand.BACKENDS))
def test_every_device_test_passes_on_circuitpython(name):
    backend, work = hand.BACKENDS[name]
    output = work()
    builds.check_device_tests(output, backend)
    source = (builds.DEVICE_TESTS / "test_device_arrays.py").read_text(encoding="utf-8")
    for test in re.findall(r"^    (test_ulab_\w+) = ", source, re.MULTILINE):
        assert f"\nok test_device_arrays {test}\n" in output
    print(name, "{} of {}".format(*backend_table.passed(output)))


@pytest.mark.parametrize("arch", ["x64", "armv6m", "armv7m", "armv7emsp", "rv32imc"])
def test_native_module_is_built_against_the_tree_of_circuitpython(arch, tmp_path):
    found = native_build.build(hand.tree(), [arch], tmp_path)
    assert (found["implementation"], found["version"]) == ("cp", "6.3")
    assert (tmp_path / found["modules"][0]["file"]).read_bytes()[:2] == b"C\x06"
