"""The verbs for boards on CircuitPython: its unix port by hand; in CI what needs no other interpreter."""

import pytest

import circuitpython_hand as hand
import micropython_builds as builds
from attn8.boards.link import open_link
from attn8.boards.repl import session
from attn8.random_models import random_model
from in_process import attn8, told

OLD, NEW = random_model(1), random_model(2)


@pytest.fixture
def board(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ATTN8_NATIVE", raising=False)
    with hand.board(heap_bytes=1 << 20) as board:
        yield board


def files(tmp_path):
    for name, data in (("old.a8", OLD), ("new.a8", NEW)):
        (tmp_path / name).write_bytes(data)
    return tmp_path / "old.a8", tmp_path / "new.a8"


@pytest.mark.parametrize("kind", ["pure", "native"])
def test_install_deploy_rollback_status_on_circuitpython(board, kind, tmp_path):
    options = ["--native", hand.natmod("x64").parents[1]] if kind == "native" else ["--pure"]
    found = told("install", "--port", board.port, *options)
    assert found["firmware"].startswith("CircuitPython 10.")
    assert (found["backend"], found["golden_vectors"]) == ("native" if kind == "native" else "python", 4)
    assert found["native"] is None or found["native"].endswith("cp-x64_6.3/_attn8.mpy")
    old, new = files(tmp_path)
    for file, options in ((old, ["--confirm"]), (new, [])):
        (deployed,) = told("deploy", file, "--port", board.port, "--name", "gesture", *options)["boards"]
        assert deployed["state"] == ("good" if options else "trial")
    (device,) = told("devices", "--port", board.port)["devices"]
    assert (device["implementation"], device["attn8"]["backend"]) == ("circuitpython", found["backend"])
    assert [(m["file"], m["state"]) for m in device["models"]] == [("gesture", "trial")]
    (status,) = told("status", "--port", board.port)["boards"]
    assert [(s["state"], s["active"]) for s in status["slots"]] == [("good", False), ("trial", True)]
    (back,) = told("rollback", "--port", board.port)["boards"]
    assert back["slot"] == 0
    with open_link(board.port) as link:
        assert link.eval("m.selftest()", 60, "import attn8\nm = attn8.load('gesture')")


def test_device_tests_and_golden_vectors_run_and_leave_nothing(board):
    told("install", "--port", board.port, "--pure")
    with open_link(board.port) as link:
        before = link.listdir("/")
    found = told("test", "--port", board.port)
    assert (found["failed"], found["backend"]) == ([], "python")
    assert found["passed"] > 190
    assert set(found["golden"].values()) == {"same bytes"}
    with open_link(board.port) as link:
        assert link.listdir("/") == before


def test_package_of_mpy_files_runs_viper_on_circuitpython(board):
    found = told("install", "--port", board.port, "--pure", "--mpy-cross", hand.mpy_cross())
    assert (found["backend"], found["golden_vectors"]) == ("viper", 4)
    assert {path.rpartition(".")[2] for path in found["written"]} == {"mpy"}
    again = told("install", "--port", board.port, "--pure")
    assert again["backend"] == "python" and "/lib/attn8/_viper.mpy" in again["removed"]


def test_native_module_of_micropython_is_not_taken_for_circuitpython(board):
    module = builds.natmod("x64")
    code, _, error = attn8("install", "--port", board.port, "--native", module.parents[1])
    assert code == 1
    assert "no native module for x64, CircuitPython 10." in error and "there are x64 for MicroPython .mpy 6.3" in error


def test_model_goes_into_memory_and_not_into_a_file(board, tmp_path):
    told("install", "--port", board.port, "--pure")
    flash = board.flash()
    with session(board.port, files(tmp_path)[0], None, lambda text: None) as link:
        link.transport.serial.write(b"print(m.selftest())\r")
        assert link._until(b"True", 10).endswith(b"True")
    assert board.flash() == flash


def test_a_program_that_runs_is_stopped_and_started_again(board):
    program = b"import time\nprint('started')\nwhile True:\n    time.sleep(0.01)\n"
    with open_link(board.port) as link:
        link.put(program, "/code.py")
    board.boot(b"started")
    with open_link(board.port) as link:
        assert link.was_running
        resets = board.n_resets
    assert board.n_resets == resets + 1


def test_a_model_in_trial_goes_back_after_three_boots(board, tmp_path):
    told("install", "--port", board.port, "--pure")
    old, new = files(tmp_path)
    told("deploy", old, "--port", board.port, "--name", "gesture", "--confirm")
    (deployed,) = told("deploy", new, "--port", board.port, "--name", "gesture")["boards"]
    with open_link(board.port) as link:
        link.put(b"import attn8\nm = attn8.load('gesture')\nprint('id', m.id, end=' .')\n", "/code.py")
    seen = []
    for _ in range(4):
        board.boot(b" .")
        seen.append(deployed["id"].encode() in board._seen)
    assert seen == [True, True, True, False]
