"""`attn8 test`: the device tests run on a board, what fails is named, and nothing stays there."""

import json

import pytest

from attn8.boards import install
from attn8.boards.link import open_link
from attn8.boards.repl import session
from attn8.boards.testing import device_tests_folder
from attn8.random_models import random_model
from in_process import attn8
from pty_board import Board
from tools import ROOT


@pytest.fixture(scope="module")
def board():
    with Board(heap_bytes=1 << 20) as board:
        install.install(board.port, pure=True)
        yield board


def n_tests(*names):
    texts = [(ROOT / "tests" / "device" / f"test_device_{name}.py").read_text(encoding="utf-8") for name in names]
    return sum(text.count("def test_") for text in texts)


def test_tests_and_golden_vectors_run_and_leave_nothing(board):
    before = board.flash()
    code, out, error = attn8("test", "samples", "steps", "test_device_detector", "--port", board.port, "--json")
    assert code == 0, error
    found = json.loads(out)
    assert (found["failed"], found["backend"]) == ([], "viper")
    assert found["passed"] == n_tests("samples", "steps", "detector")
    assert found["golden"] == {"a small model": "same bytes", "the shipped model": "same bytes"}
    assert error.count("ok test_device_") == found["passed"]
    assert board.flash() == before


def test_test_that_fails_is_named_and_exits_1(board):
    with open_link(board.port) as link:
        kept = link.get("/lib/attn8/detector.mpy")
        link.remove("/lib/attn8/detector.mpy")
    try:
        code, out, _ = attn8("test", "detector", "--port", board.port)
    finally:
        with open_link(board.port) as link:
            link.put(kept, "/lib/attn8/detector.mpy")
    assert code == 1
    assert "FAILED test_device_detector import ImportError" in out
    assert "0 of 1 device tests passed on linux" in out


def test_small_heap_does_not_fit_the_shipped_model_and_is_no_fault():
    with Board(heap_bytes=96 * 1024) as board:
        install.install(board.port, pure=True)
        code, out, _ = attn8("test", "sampler", "--port", board.port)
    assert "golden vectors of a small model: same bytes" in out
    assert "golden vectors of the shipped model: does not fit" in out
    assert code == 0


def test_wrong_name_and_wrong_port_are_told(board):
    code, _, error = attn8("test", "speed", "--port", board.port)
    assert code == 1
    assert "unknown test 'speed'; expected one of: arrays, detector, format, kernels, memory, model" in error
    code, _, error = attn8("test", "--port", "/dev/ttyACM97")
    assert code == 1 and "no such port" in error


def test_tests_lie_where_the_package_is():
    assert (device_tests_folder() / "run.py").is_file()


CIRCUITPYTHON = {"name": "circuitpython", "_mpy": 6 | 3 << 8}


def test_on_circuitpython_they_are_copied_and_nothing_stays(board):
    with Board(pretend=CIRCUITPYTHON, heap_bytes=1 << 20, flash=board.flash()) as other:
        with open_link(other.port) as link:
            link.mkdir("/.attn8_tests")  # from a cable that was pulled
            link.put(b"old", "/.attn8_tests/old.py")
        code, out, error = attn8("test", "samples", "--port", other.port, "--json")
        assert code == 0, error
        found = json.loads(out)
        assert (found["failed"], found["passed"]) == ([], n_tests("samples"))
        assert set(found["golden"].values()) == {"same bytes"}
        with open_link(other.port) as link:
            assert link.stat("/.attn8_tests") is None


def test_circuitpython_whose_drive_a_computer_has_takes_a_model_into_memory_only(tmp_path):
    with Board(kind="fat", heap_bytes=1 << 20) as board:
        install.install(board.port, pure=True)
        flash = board.flash()
    (tmp_path / "gesture.a8").write_bytes(random_model(3))
    with Board(pretend=CIRCUITPYTHON, kind="fat", heap_bytes=1 << 20, flash=flash, read_only=True) as other:
        for command in (("test", "samples"), ("deploy", tmp_path / "gesture.a8")):
            code, _, error = attn8(*command, "--port", other.port)
            assert code == 1
            assert "the board's files are read-only from its side; a CircuitPython board gives them back when" in error
        with session(other.port, tmp_path / "gesture.a8", None, lambda text: None) as link:
            link.transport.serial.write(b"print(m.selftest())\r")
            assert link._until(b"True", 10).endswith(b"True")
        assert other.flash() == flash
