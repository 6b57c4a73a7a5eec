"""`attn8 deploy`, `rollback`, `status`: a board ends with the old model or the new one, and the exit code tells."""

import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

import readme
from attn8 import model_file, reference
from attn8.boards.link import open_link
from attn8.random_models import Shape, build_model, random_model
from in_process import attn8, told
from pty_board import Board
from tools import ROOT

sys.path.insert(0, str(ROOT / "tests" / "device"))
from make_files import wrong_golden

OLD, NEW = random_model(3), random_model(4)


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("gesture.a8").write_bytes(OLD)
    Path("new.a8").write_bytes(NEW)


_FILL = """
import os
with open("/filler", "wb") as f:
    for i in range(os.statvfs("/")[4] - 3):
        f.write(bytes(4096))
"""


_ENDLESS = b"""
import attn8, time
m = attn8.load("gesture")
print("ready")
while True:
    time.sleep(0.01)
"""


def identity(data):
    return reference.parse(data).id


def deployed(*arguments):
    return told("deploy", *arguments)["boards"][0]


def loaded(board, name="gesture"):
    """Returns the id of the model that attn8.load takes on the board."""
    with open_link(board.port) as link:
        return link.eval(f"__import__('attn8').load({name!r}).id")


def status(board):
    return json.loads(attn8("status", "--port", board.port, "--json")[1])["boards"][0]["slots"]


def test_update_alternates_slots_and_keeps_the_model_before(board):
    first = deployed("gesture.a8", "--port", board.port, "--confirm")
    assert {k: first[k] for k in ("slot", "sequence", "state", "check", "before")} == {
        **{"slot": 0, "sequence": 1, "state": "good", "check": "sha256", "before": None}
    }
    second = deployed("new.a8", "--port", board.port, "--name", "gesture")
    assert (second["slot"], second["state"], second["id"]) == (1, "trial", identity(NEW))
    assert second["before"]["id"] == identity(OLD)
    assert [(s["state"], s["active"], s["id"]) for s in status(board)] == [
        ("good", False, identity(OLD)),
        ("trial", True, identity(NEW)),
    ]
    assert loaded(board) == identity(NEW)


def test_shown_to_a_person(board):
    code, out, error = attn8("deploy", "gesture.a8", "--port", board.port)
    assert code == 0
    assert f"'random' v1 {identity(OLD)} in slot 0 of gesture, trial" in out
    assert "in trial: it becomes good by attn8.confirm()" in error
    shown = attn8("status", "gesture", "--port", board.port)[1]
    assert "0 active  trial" in shown
    assert attn8("devices", "--port", board.port)[1].count("gesture: random (trial)") == 1


def test_rollback_goes_back_once(board):
    deployed("gesture.a8", "--port", board.port, "--confirm")
    deployed("new.a8", "--port", board.port, "--name", "gesture", "--confirm")
    code, out, _ = attn8("rollback", "--port", board.port)
    assert (code, loaded(board)) == (0, identity(OLD))
    assert f"{identity(OLD)} in slot 0 again" in out
    code, _, error = attn8("rollback", "gesture", "--port", board.port)
    assert code == 1
    assert "no rollback: gesture:" in error
    assert loaded(board) == identity(OLD)


def test_three_boots_without_confirm_revert(board):
    deployed("gesture.a8", "--port", board.port, "--confirm")
    with open_link(board.port) as link:
        link.put(b"import attn8\nm = attn8.load('gesture')\n", "/main.py")
    deployed("new.a8", "--port", board.port, "--name", "gesture")
    for _ in range(3):
        assert status(board)[1]["active"]
        board.boot()
    board.boot()
    assert [(s["active"], s["state"]) for s in status(board)] == [(True, "good"), (False, "bad")]


def test_model_that_arrives_damaged_is_never_active(board):
    deployed("gesture.a8", "--port", board.port, "--confirm")
    flips = iter([True])

    def flip(data):
        at = data.find(b"_w(_d(b'")
        return data if at < 0 or not next(flips, False) else data[: at + 12] + b"/" + data[at + 13 :]

    board.to_board = flip
    code, _, error = attn8("deploy", "new.a8", "--port", board.port, "--name", "gesture")
    board.to_board = lambda data: data
    assert code == 1
    assert "arrived damaged" in error and "the model in the other slot stays; check the cable" in error
    assert loaded(board) == identity(OLD)


def test_command_that_arrives_damaged_is_not_run(board):
    deployed("gesture.a8", "--port", board.port, "--confirm")
    board.to_board = lambda data: data.replace(b"kept", b"kepT")  # in all places: it would run
    code, _, error = attn8("deploy", "new.a8", "--port", board.port, "--name", "gesture")
    board.to_board = lambda data: data
    assert (code, error.count("\n")) == (1, 1)
    assert "a command arrived damaged (SyntaxError); check the cable, then try again" in error


def test_no_single_bit_leads_to_the_slot_that_stays(board):
    sent = []
    board.to_board = lambda data: sent.append(data) or data
    deployed("gesture.a8", "--port", board.port)
    assert b'open(_path, "wb")' in b"".join(sent)
    before_the_check = b"".join(sent).partition(b"_f.close()")[0]
    assert b"gesture.0" not in before_the_check and b"gesture.1" not in before_the_check


def test_model_with_wrong_golden_vectors_is_refused_here_and_there(board, monkeypatch):
    deployed("gesture.a8", "--port", board.port, "--confirm")
    Path("wrong.a8").write_bytes(wrong_golden(NEW))
    code, _, error = attn8("deploy", "wrong.a8", "--port", board.port, "--name", "gesture")
    assert code == 1 and "wrong.a8" in error
    monkeypatch.setattr(model_file, "check_file", lambda path: {"name": "random", "version": "1"})
    code, _, error = attn8("deploy", "wrong.a8", "--port", board.port, "--name", "gesture")
    assert code == 1
    assert "the board refuses the model: golden vector" in error and "the model in the other slot stays" in error
    assert loaded(board) == identity(OLD)


def test_cut_cable_ends_with_the_old_model(board, monkeypatch):
    monkeypatch.setattr("attn8.boards.link._READ_S", 0.5)
    deployed("gesture.a8", "--port", board.port, "--confirm")
    left = [4000]

    def cut(data):
        left[0] -= len(data)
        return data if left[0] > 0 else None

    board.to_board = cut
    code, _, error = attn8("deploy", "new.a8", "--port", board.port, "--name", "gesture")
    board.to_board = lambda data: data
    assert code == 1
    assert "check the cable, then try again" in error
    board.cut_power()
    assert loaded(board) == identity(OLD)
    assert deployed("new.a8", "--port", board.port, "--name", "gesture")["id"] == identity(NEW)


@pytest.mark.parametrize("fault", ["no attn8", "cable"])
def test_eight_boards_at_once_one_faulty(flash, monkeypatch, fault):
    monkeypatch.setattr("attn8.boards.link._READ_S", 2)
    with ExitStack() as stack:
        bare = 5 if fault == "no attn8" else None
        boards = [stack.enter_context(Board(flash=flash if i != bare else None)) for i in range(8)]
        if fault == "cable":
            boards[5].to_board = lambda data: data.replace(b"_w(_d(b'", b"_w(_d(b'/")
        ports = [argument for board in boards for argument in ("--port", board.port)]
        code, out, error = attn8("deploy", "gesture.a8", *ports, "--json")
        boards[5].to_board = lambda data: data
        assert code == 1
        found = json.loads(out)["boards"]
        assert [board["port"] for board in found] == [board.port for board in boards]
        assert [i for i, board in enumerate(found) if "error" in board] == [5]
        last = error.splitlines()[-1]
        assert last.startswith(f"attn8: {boards[5].port}: ") and error.count("attn8: /") == 1
        assert last.endswith(
            "check the cable, then try again" if fault == "cable" else f"attn8 install --port {boards[5].port}"
        )
        assert [loaded(board) for i, board in enumerate(boards) if i != 5] == [identity(OLD)] * 7


def test_signed_model_runs_only_with_its_key(board):
    Path("key").write_bytes(b"a secret")
    deployed("gesture.a8", "--port", board.port, "--confirm")
    with open_link(board.port) as link:
        link.put(b"a secret", "/gesture.key")
    code, _, error = attn8("deploy", "new.a8", "--port", board.port, "--name", "gesture")
    assert code == 1
    assert "the board refuses the model: gesture.1.a8" in error and "SIGNATURE" in error
    assert deployed("new.a8", "--port", board.port, "--name", "gesture", "--key", "key")["id"] == identity(NEW)
    assert loaded(board) == identity(NEW)


def test_key_that_no_board_takes_signs_nothing():
    for key, says in ((b"", "got no bytes"), (bytes(1025), "got more than 1,024 bytes")):
        Path("key").write_bytes(key)
        code, _, error = attn8("deploy", "new.a8", "--key", "key", "--port", "/dev/null")
        assert code == 1 and says in error and error.count("\n") == 1


def test_full_board_does_not_fit(flash):
    with Board(flash=flash) as board:
        with open_link(board.port) as link:
            link.exec(_FILL, timeout=60)
        code, _, error = attn8("deploy", "gesture.a8", "--port", board.port)
        assert (code, error.count("\n")) == (3, 1)
        assert "the board is full: the model needs" in error
        assert [s["state"] for s in status(board)] == []


def test_slot_of_a_trial_is_the_one_to_spare(board):
    from attn8.boards import deploy

    good = {"slot": 0, "sequence": 4, "state": "good", "active": False}
    trial = {"slot": 1, "sequence": 5, "state": "trial", "active": True}
    empty = {"slot": 0, "sequence": 0, "state": "empty", "active": False}
    assert deploy._spare([good, trial]) == 1
    assert deploy._spare([empty, trial]) == 0
    assert deploy._spare([empty, {**empty, "slot": 1}]) == 0
    deployed("gesture.a8", "--port", board.port, "--confirm")
    for _ in range(2):  # the good one stays, whatever comes in trial
        assert deployed("new.a8", "--port", board.port, "--name", "gesture")["slot"] == 1


def test_model_too_big_for_the_heap_does_not_fit(flash):
    big = Path("big.a8")
    big.write_bytes(build_model(Shape(heads=4, head_size=25, ff=1000)))
    with Board(flash=flash, heap_bytes=200 * 1024) as board:
        deployed("gesture.a8", "--port", board.port, "--name", "big", "--confirm")
        code, _, error = attn8("deploy", "big.a8", "--port", board.port)
        assert (code, error.count("\n")) == (3, 1)
        assert f"the model is too big for the heap: it takes {big.stat().st_size:,} bytes for the file" in error
        assert loaded(board, "big") == identity(OLD)


def test_heap_that_ends_while_the_model_is_loaded_does_not_fit(board, monkeypatch):
    from attn8.boards import deploy

    code = "def _no(n):\n raise MemoryError('no room')\n"
    code += "if __import__('attn8'):\n _slots().submodule('loading').new_buffer = _no\n"
    monkeypatch.setattr(
        deploy, "FACTS", deploy.FACTS + code.replace("_slots()", "__import__('attn8.slots', None, None, '*')")
    )
    code, _, error = attn8("deploy", "gesture.a8", "--port", board.port)
    assert code == 3
    assert "too big for the heap: loading it failed (no room)" in error


def test_board_with_an_attn8_that_has_no_slots_is_told(board):
    with open_link(board.port) as link:
        link.remove("/lib/attn8/slots.mpy")
    code, _, error = attn8("deploy", "gesture.a8", "--port", board.port)
    assert code == 1
    assert "there has no slots; update it: attn8 install" in error
    with open_link(board.port) as link:
        link.put(b"1 / 0", "/lib/attn8/__init__.py")
    code, _, error = attn8("deploy", "gesture.a8", "--port", board.port)
    assert "attn8 is there but does not run (ZeroDivisionError: divide by zero): attn8 install" in error


def test_wrong_usage_and_wrong_files_reach_no_board(tmp_path):
    assert attn8("deploy")[0] == 2
    assert attn8("deploy", "gesture.a8", "--key", "nowhere", "--port", "/dev/none")[0] == 2
    Path("two words.a8").write_bytes(OLD)
    code, _, error = attn8("deploy", "two words.a8", "--port", "/dev/none")
    assert code == 1 and "slot name: got 'two words'" in error and "--name" in error
    assert "gone.a8: cannot be read" in attn8("deploy", "gone.a8", "--port", "/dev/none")[2]
    Path("half.a8").write_bytes(OLD[: len(OLD) // 2])
    for to in (("--port", "/dev/none"), ("--drive", "/"), ("--port", "/dev/none", "--to", "rom", "--yes")):
        code, _, error = attn8("deploy", "half.a8", *to)
        assert (code, error.count("\n")) == (1, 1) and "half.a8" in error and "LENGTH" in error


def test_program_goes_on_after_the_update(board):
    with open_link(board.port) as link:
        link.put(_ENDLESS, "/main.py")
    deployed("gesture.a8", "--port", board.port, "--confirm")
    board.boot(until=b"ready")
    before = board.n_resets
    deployed("new.a8", "--port", board.port, "--name", "gesture")
    assert board.n_resets == before + 2
    with open_link(board.port) as link:
        assert link.was_running


def test_who_only_looks_does_not_use_up_a_trial(board):
    with open_link(board.port) as link:
        link.put(_ENDLESS, "/main.py")
    deployed("gesture.a8", "--port", board.port, "--confirm")
    deployed("new.a8", "--port", board.port, "--name", "gesture")
    board.boot(until=b"ready")
    for _ in range(4):
        assert boots_of_active(board) == (identity(NEW), 1)
        time.sleep(0.5)  # the program is started again


def boots_of_active(board):
    rows = told("status", "gesture", "--port", board.port)["boards"][0]["slots"]
    return next((row["id"], row["boots"]) for row in rows if row["active"])


def test_status_of_a_name_that_is_not_there_is_an_error(board):
    deployed("gesture.a8", "--port", board.port)
    code, _, error = attn8("status", "gestrue", "--port", board.port)
    assert code == 1 and "no slots named 'gestrue' there" in error and error.count("\n") == 1


def test_progress_is_told_for_each_board(board):
    from attn8.boards import deploy

    steps = {board.port: [], "/dev/none": []}

    def work(port):
        return deploy.deploy("gesture.a8", port, progress=lambda *step: steps[port].append(step))

    done, failed = deploy.on_each(list(steps), work)
    assert steps[board.port][0][0] == "gesture.0.a8"
    assert steps[board.port][-1][1:] == (len(OLD), len(OLD))
    assert (done["id"], failed["exit_code"], steps["/dev/none"]) == (identity(OLD), 1, [])


def test_commands_of_the_readme_run():
    Path("gestures.a8").write_bytes(OLD)
    with Board() as fresh:
        for line in readme.command("board").splitlines():
            words = line.partition("#")[0].split()
            code, _, error = attn8(*words[1:], "--port", fresh.port, *(["--pure"] if words[1] == "install" else []))
            assert code == 0, f"{line}: {error}"
        assert loaded(fresh, "gestures") == identity(OLD)


_SLOW = """
def _slow():
    import attn8, time
    fast = attn8.Model.run
    def run(self, window, out=None):
        time.sleep({seconds})
        return fast(self, window, out)
    if not hasattr(attn8, "slowed"):
        attn8.slowed = True
        attn8.Model.run = run
_slow()
"""


@pytest.mark.parametrize(("seconds", "code"), [(0.5, 0), (30, 1)])
def test_board_is_waited_for_as_long_as_it_shows_life(board, monkeypatch, seconds, code):
    from attn8.boards import deploy

    monkeypatch.setattr(deploy, "FACTS", deploy.FACTS + _SLOW.format(seconds=seconds))
    monkeypatch.setattr(deploy, "quiet_s", lambda *_: 1)
    begin = time.monotonic()
    got, _, error = attn8("deploy", "gesture.a8", "--port", board.port)
    took_s = time.monotonic() - begin
    assert got == code, error
    if code:
        assert "stopped answering" in error and "check the cable, then try again" in error
        assert took_s < 15
    else:
        assert took_s > len(reference.parse(OLD).golden_outputs) * seconds > 1


def test_wait_grows_with_the_work_of_the_board():
    from attn8.boards import deploy, facts

    def waits(backend, clock_hz, data):
        told = facts.Facts("micropython", (1, 28, 0), "", "rp2", (6, 3), "", 32, clock_hz, None, None, 512, (), False)
        sent = deploy.Sent("g", data, data, None, "", "")
        return deploy.quiet_s(told, facts.Package("", backend, "", ""), sent)

    small, large = OLD, build_model(Shape(heads=4, head_size=25, ff=1000))
    assert 10 < waits("native", 125_000_000, small) < waits("viper", 125_000_000, small) < 20
    assert waits("python", 125_000_000, large) > 4 * waits("native", 125_000_000, large)
    assert waits("python", None, large) > waits("python", 125_000_000, large)
