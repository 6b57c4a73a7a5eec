"""`attn8 deploy` by way of ampy, of a drive, into ROMFS, and in place of the model that runs."""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import pytest
from attn8.device import slots
from mpremote.romfs import VfsRomWriter

import readme
from attn8 import reference
from attn8.boards import deploy, rom, slot_files, uf2_drive, via_ampy, via_drive
from attn8.boards.link import LinkError, open_link
from attn8.random_models import Shape, build_model, random_model
from in_process import attn8, told
from pty_board import Board, answering
from tools import missing

OLD, NEW = random_model(3), random_model(4)
BOOT_OUT = "Adafruit CircuitPython 9.2.1 on 2026-01-01; Raspberry Pi Pico with rp2040\r\nBoard ID:raspberry_pi_pico\r\n"
_ROM_BYTES = 1 << 16
# A board with a ROMFS partition: rom_ioctl of a firmware that has one, on a file that outlives a reset.
_ROM = """
def _rom():
    import sys, vfs
    class Segment(bytearray):
        def ioctl(self, op, argument):
            if op == 6:
                self[argument * 4096 : argument * 4096 + 4096] = b"\\xff" * 4096
            return {{4: len(self) // 4096, 5: 4096}}.get(op, 0)
        def writeblocks(self, n, data, at=0):
            self[n * 4096 + at : n * 4096 + at + len(data)] = data
            v.keep()
    class Vfs:
        def __init__(self):
            try:
                with open("/partition", "rb") as f:
                    self.data = {kind}(f.read())
            except OSError:
                self.data = {kind}(b"\\xff" * {size})
            self.erased = []
        def __getattr__(self, name):
            return getattr(vfs, name)
        def keep(self):
            with open("/partition", "wb") as f:
                f.write(self.data)
        def rom_ioctl(self, op, part=0, at=0, data=b""):
            if op == 2:
                return {segment}
            if op == 3:
                self.data[at : at + data] = b"\\xff" * data
                self.erased += range(at, at + data)
                return {erased}
            if op == 4:
                if any([i not in self.erased for i in range(at, at + len(data))]):
                    return -5
                self.data[at : at + len(data)] = data
            if op == 5:
                self.keep()
            return {{1: 1, 6: 4096, 4: 0, 5: 0}}.get(op, -22)
    v = Vfs()
    sys.modules["vfs"] = v
    if v.data[:3] == b"\\xd2\\xcd\\x31":
        vfs.mount(vfs.VfsRom(memoryview(v.data)), "/rom")
_rom()
"""
_ROM_KINDS = {"mapped": ("bytearray", "memoryview(self.data)"), "device": ("Segment", "self.data")}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("gesture.a8").write_bytes(OLD)
    Path("new.a8").write_bytes(NEW)


@pytest.fixture
def drive():
    folder = Path("CIRCUITPY")
    (folder / "lib" / "attn8").mkdir(parents=True)
    (folder / "boot_out.txt").write_text(BOOT_OUT, newline="")
    return folder


def rom_board(flash, kind="mapped", size=_ROM_BYTES, erased=8):
    kind, segment = _ROM_KINDS[kind]
    return Board(flash=flash, firmware=_ROM.format(kind=kind, segment=segment, size=size, erased=erased))


def identity(data):
    return reference.parse(data).id


def deployed(*arguments):
    return told("deploy", *arguments)["boards"][0]


def loaded(board, name="gesture"):
    """Returns the id of the model that attn8.load takes on the board."""
    with open_link(board.port) as link:
        return link.eval(f"__import__('attn8').load({name!r}).id")


def need_ampy():
    if not importlib.util.find_spec("ampy"):
        missing("ampy", "pip install adafruit-ampy")


# ampy


def test_ampy_brings_what_mpremote_brings(board):
    need_ampy()
    by_ampy = deployed("gesture.a8", "--port", board.port, "--via", "ampy", "--confirm")
    assert loaded(board) == identity(OLD)
    by_mpremote = deployed("gesture.a8", "--port", board.port, "--name", "other", "--confirm")
    assert {**by_ampy, "name": ""} == {**by_mpremote, "name": ""}
    assert (by_ampy["check"], by_ampy["state"]) == ("sha256", "good")
    slots = json.loads(attn8("status", "gesture", "--port", board.port, "--via", "ampy", "--json")[1])["boards"][0]
    assert slots == json.loads(attn8("status", "gesture", "--port", board.port, "--json")[1])["boards"][0]
    with open_link(board.port) as link:
        assert "gesture.put" not in [name for name, *_ in link.listdir("/")]


def test_no_single_bit_leads_ampy_to_the_slot_that_stays(board):
    need_ampy()
    sent = []
    board.to_board = lambda data: sent.append(data) or data
    deployed("gesture.a8", "--port", board.port, "--via", "ampy")
    assert b"open('gesture.put', 'wb')" in b"".join(sent)


def test_delay_is_that_of_ampy(monkeypatch, board):
    need_ampy()
    seen = []
    popen = via_ampy.subprocess.Popen
    monkeypatch.setattr(via_ampy.subprocess, "Popen", lambda command, **o: seen.append(command) or popen(command, **o))
    code, _, error = attn8("status", "--port", board.port, "--via", "ampy", "--delay", "0.5")
    assert code == 0, error
    assert seen[0][1:8] == ["-m", "ampy.cli", "-p", board.port, "-d", "0.5", "run"]
    assert attn8("status", "--port", board.port, "--delay", "1")[0] == 2


def test_board_that_is_silent_to_ampy_is_given_up(monkeypatch):
    need_ampy()
    monkeypatch.setattr(via_ampy, "_START_S", 1)
    monkeypatch.setattr(deploy, "_LOOK_S", 1)
    with answering(b"") as port:
        begin = time.monotonic()
        code, _, error = attn8("deploy", "gesture.a8", "--port", port, "--via", "ampy")
        assert time.monotonic() - begin < 8
    assert (code, error.count("\n")) == (1, 1)
    assert "stopped answering while running a command through ampy (silent for 2 s); check the cable, then try" in error


def test_ampy_says_what_is_wrong(board, monkeypatch):
    need_ampy()
    assert "no such port" in attn8("status", "--port", "/dev/none", "--via", "ampy")[2]
    assert "take --via mpremote" in attn8("status", "--port", "socket://127.0.0.1:1", "--via", "ampy")[2]
    link = via_ampy.AmpyLink(board.port)
    with pytest.raises(LinkError, match="damaged"):
        link.exec("1 +")
    with pytest.raises(LinkError, match="the board says ZeroDivisionError"):
        link.exec("1 / 0")
    with pytest.raises(LinkError, match="prints without end"):
        monkeypatch.setattr(via_ampy, "_MAX_BYTES", 10000)
        link.exec("while True:\n print('x' * 100)")
    monkeypatch.setattr(via_ampy.importlib.util, "find_spec", lambda name: None)
    assert "ampy is missing: pip install 'attn8[boards]'" in attn8("status", "--port", board.port, "--via", "ampy")[2]


# A drive


def test_drive_takes_models_in_turn_and_goes_back(drive):
    first = deployed("gesture.a8", "--drive", drive)
    assert first == {
        **{"port": str(drive), "machine": "Raspberry Pi Pico with rp2040", "name": "gesture", "slot": 0, "sequence": 1},
        **{"state": "written", "check": "sha256", "bytes": len(OLD), "model": "random", "version": "1"},
        **{"id": identity(OLD), "before": None, "package": True},
    }
    second = deployed("new.a8", "--via", "drive", "--drive", drive, "--name", "gesture")
    assert (second["slot"], second["sequence"], second["before"]["id"]) == (1, 2, identity(OLD))
    shown = json.loads(attn8("status", "--drive", drive, "--json")[1])["boards"][0]
    assert shown["firmware"] == "CircuitPython 9.2.1"
    assert [(s["state"], s["active"], s["id"]) for s in shown["slots"]] == [
        *(("written", False, identity(OLD)), ("written", True, identity(NEW)))
    ]
    code, out, _ = attn8("rollback", "--drive", drive)
    assert (code, f"{identity(OLD)} in slot 0 again" in out) == (0, True)
    code, _, error = attn8("rollback", "--drive", drive)
    assert code == 1 and "no rollback: " in error


def test_board_tests_what_a_drive_brought_and_counts_its_boots(board, drive):
    deployed("gesture.a8", "--drive", drive)
    with open_link(board.port) as link:
        link.put((drive / "gesture.0.a8").read_bytes(), "/gesture.0.a8")
    assert loaded(board) == identity(OLD)
    row = json.loads(attn8("status", "--port", board.port, "--json")[1])["boards"][0]["slots"][0]
    assert (row["state"], row["boots"]) == ("trial", 1)


def test_signed_model_on_a_drive_has_its_signature(drive):
    Path("key").write_bytes(b"a secret")
    deployed("gesture.a8", "--drive", drive, "--key", "key")
    data = (drive / "gesture.0.a8").read_bytes()
    assert len(data) == len(OLD) + 32 + slot_files.RECORD_BYTES
    (drive / "gesture.key").write_bytes(b"a secret")
    assert slots.load(str(drive / "gesture")).id == identity(OLD)


def test_several_drives_are_listed_and_can_be_named(drive, monkeypatch):
    monkeypatch.setattr(via_drive, "_volumes", lambda: [])
    assert (
        "no drive of a board, such as CIRCUITPY, is mounted; name it with --drive"
        in attn8("status", "--via", "drive")[2]
    )
    other = Path("CIRCUITPY1")
    other.mkdir()
    monkeypatch.setattr(via_drive, "_volumes", lambda: [drive, other, Path("elsewhere")])
    code, _, error = attn8("deploy", "gesture.a8", "--via", "drive")
    assert (code, error) == (1, "attn8: 2 drives, name one with --drive: CIRCUITPY, CIRCUITPY1\n")
    code, out, error = attn8("deploy", "gesture.a8", "--drive", drive, "--drive", other, "--drive", "gone")
    assert (
        code == 1
        and error == "attn8: gone: no such folder; give that of the board's drive, such as /media/you/CIRCUITPY\n"
    )
    assert [line.rpartition(" of gesture, ")[2][:7] for line in out.splitlines()[:2]] == ["written", "written"]
    monkeypatch.setattr(via_drive, "_volumes", lambda: [other])
    assert deployed("new.a8", "--via", "drive", "--name", "gesture")["port"] == "CIRCUITPY1"


def test_person_is_told_what_a_drive_still_needs(drive):
    (drive / "lib" / "attn8").rmdir()
    _, out, error = attn8("deploy", "gesture.a8", "--drive", drive)
    assert "sha256 checked here; the first there" in out
    assert "eject the drive before you unplug it; attn8 itself is not on the drive: copy it to lib/attn8" in error


def test_full_drive_does_not_fit(drive, monkeypatch):
    usage = via_drive.shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(via_drive.shutil, "disk_usage", lambda _: usage)
    code, _, error = attn8("deploy", "gesture.a8", "--drive", drive)
    assert code == 3
    assert (
        f"the drive is full: the model needs {len(OLD) + 64:,} bytes beside the one that runs, 1,000 are free" in error
    )
    assert sorted(os.listdir(drive)) == ["boot_out.txt", "lib"]


@pytest.mark.parametrize(("number", "text"), [(5, "the model before stays; plug it in"), (30, "may not write there")])
def test_drive_that_breaks_off_keeps_the_model_before(drive, monkeypatch, number, text):
    deployed("gesture.a8", "--drive", drive)

    def fail(self, name, at, data):
        raise OSError(number, "no more")

    monkeypatch.setattr(slot_files.Files, "overwrite", fail)
    code, _, error = attn8("deploy", "new.a8", "--drive", drive, "--name", "gesture")
    assert (code, error.count("\n")) == (1, 1) and text in error
    assert slots.load(str(drive / "gesture")).id == identity(OLD)


def test_drive_that_holds_other_bytes_than_were_written_is_told(drive, monkeypatch):
    deployed("gesture.a8", "--drive", drive)
    monkeypatch.setattr(slot_files.Files, "read", lambda self, name: b"other")
    code, _, error = attn8("deploy", "new.a8", "--drive", drive, "--name", "gesture")
    assert code == 1 and "arrived damaged; the model in the other slot stays; try again" in error
    assert slots.load(str(drive / "gesture")).id == identity(OLD)


def test_hostile_slot_files_on_a_drive_are_one_line(drive):
    head = b"ATN8" + bytes(4) + (24).to_bytes(4, "little") + bytes(12)
    (drive / "gesture.0.a8").write_bytes(head + slots.record(head, 1, slots.GOOD))
    code, _, error = attn8("status", "--drive", drive)
    assert (code, error) == (
        1,
        f"attn8: {drive}: the slots of gesture are damaged; remove gesture.0.a8 and gesture.1.a8\n",
    )
    with open(drive / "gesture.1.a8", "wb") as f:
        f.truncate(1 << 30)
    assert "no slot file, expected a file of at most" in attn8("status", "--drive", drive)[2]


@pytest.mark.parametrize("there", [True, False])
def test_link_in_place_of_a_slot_costs_no_file_elsewhere(drive, there):
    if there:
        Path("own").write_text("mine")
    (drive / "gesture.0.a8").symlink_to(Path("own").resolve())
    code, _, error = attn8("deploy", "gesture.a8", "--drive", drive)
    assert code == 1 and "gesture.0.a8: a link to" in error and error.count("\n") == 1
    assert (Path("own").read_text() == "mine") if there else not Path("own").exists()


def test_pipe_on_a_drive_is_not_waited_for(drive):
    (drive / "boot_out.txt").unlink()
    os.mkfifo(drive / "boot_out.txt")
    assert attn8("status", "--drive", drive)[0] == 0
    os.mkfifo(drive / "INFO_UF2.TXT")
    assert uf2_drive.read_drive(drive) is None


# ROMFS


@pytest.mark.parametrize("kind", _ROM_KINDS)
def test_rom_takes_models_beside_what_is_there(flash, kind):
    with rom_board(flash, kind) as board:
        first = deployed("gesture.a8", "--to", "rom", "--yes", "--port", board.port)
        assert (first["path"], first["kept"], first["before"], first["check"]) == ("/rom/gesture.a8", [], None, "crc32")
        assert deployed("new.a8", "--to", "rom", "--yes", "--port", board.port)["kept"] == ["gesture.a8"]
        again = deployed("new.a8", "--name", "gesture", "--to", "rom", "--yes", "--port", board.port)
        assert (again["before"]["id"], again["kept"]) == (identity(OLD), ["new.a8"])
        board.boot()
        assert [loaded(board, f"/rom/{name}.a8") for name in ("gesture", "new")] == [identity(NEW)] * 2


def test_rom_keeps_files_and_folders_of_mpremote():
    writer = VfsRomWriter()
    writer.mkfile("a.txt", b"here")
    writer.opendir("lib")
    writer.mkfile("gesture.a8", b"another, in a folder")
    writer.closedir()
    writer.mkfile("gesture.a8", b"old")
    old = bytes(writer.finalise())
    found = rom.files(old, "board")
    assert list(found) == ["a.txt", "lib/gesture.a8", "gesture.a8"]
    writer = VfsRomWriter()
    writer.mkfile("a.txt", b"here")
    writer.opendir("lib")
    writer.mkfile("gesture.a8", b"another, in a folder")
    writer.closedir()
    writer.mkfile("gesture.a8", b"new" * 100)
    assert rom.image(old, "gesture.a8", b"new" * 100) == bytes(writer.finalise())


def test_rom_image_that_cannot_be_kept_is_refused():
    writer = VfsRomWriter()
    at = writer.mkdata(b"elsewhere")
    writer.mkfile("b.bin", (9, at))
    with pytest.raises(rom.RomError, match=r"cannot be kept \(b.bin is stored by its place\); make it anew"):
        rom.files(bytes(writer.finalise()), "board")
    good = rom.image(b"", "a.a8", OLD)
    for n in range(4, len(good), 97):
        with pytest.raises(rom.RomError, match="cannot be kept"):
            rom.files(good[:n], "board")
    deep = b""
    for _ in range(20):
        deep = rom._record(4, b"\x01d" + deep)
    with pytest.raises(rom.RomError, match="folders in folders"):
        rom.files(rom._MAGIC + rom._encoded(len(deep)) + deep, "board")


def test_rom_says_what_it_lacks(flash, board):
    code, _, error = attn8("deploy", "gesture.a8", "--to", "rom", "--yes", "--port", board.port)
    assert code == 1 and "has no ROMFS partition; deploy without --to rom, or flash a firmware with one" in error
    with rom_board(flash, size=8192) as small:
        code, _, error = attn8("deploy", "gesture.a8", "--to", "rom", "--yes", "--port", small.port)
        assert (code, error.count("\n")) == (3, 1)
        assert "ROMFS is too small: with the model it takes 9,9" in error and "its partition has 8,192" in error
    with rom_board(flash, erased=-22) as fixed:
        code, _, error = attn8("deploy", "gesture.a8", "--to", "rom", "--yes", "--port", fixed.port)
        assert (code, error.count("\n")) == (1, 1) and "its ROMFS cannot be erased (" in error
    with rom_board(None) as bare:
        code, _, error = attn8("deploy", "gesture.a8", "--to", "rom", "--yes", "--port", bare.port)
        assert "attn8 is not on the board: attn8 install" in error


def test_rom_that_a_fault_may_have_cost_is_told(flash, monkeypatch):
    monkeypatch.setattr("attn8.boards.link._READ_S", 0.5)
    with rom_board(flash) as board:

        def flip(data):
            at = data.find(b"_put(1024, b'")
            return data if at < 0 else data[: at + 20] + b"/" + data[at + 21 :]

        board.to_board = flip
        code, _, error = attn8("deploy", "gesture.a8", "--to", "rom", "--yes", "--port", board.port)
        board.to_board = lambda data: data
        assert (code, error.count("\n")) == (1, 1)
        assert "check the cable, then try again; what was in ROMFS may be lost: deploy again" in error
        assert deployed("gesture.a8", "--to", "rom", "--yes", "--port", board.port)["id"] == identity(OLD)


# In place


_FILL = """
import os
with open("/filler", "wb") as f:
    for i in range(os.statvfs("/")[4] - {blocks}):
        f.write(bytes(4096))
"""


def test_in_place_replaces_the_only_model_of_a_full_board(board):
    deployed("gesture.a8", "--port", board.port, "--confirm")
    with open_link(board.port) as link:
        link.exec(_FILL.format(blocks=2), timeout=60)
    code, _, error = attn8("deploy", "gesture.a8", "--port", board.port)
    assert code == 3 and "the board is full" in error
    assert "take a smaller model, or give up the one that runs (--in-place)" in error
    found = deployed("new.a8", "--name", "gesture", "--in-place", "--yes", "--port", board.port)
    assert (found["slot"], found["before"]["id"], found["id"]) == (0, identity(OLD), identity(NEW))
    assert loaded(board) == identity(NEW)


def test_fault_in_place_says_that_there_may_be_no_model(board):
    deployed("gesture.a8", "--port", board.port, "--confirm")

    def flip(data):
        at = data.find(b"_w(_d(b'")
        return data if at < 0 else data[: at + 12] + b"/" + data[at + 13 :]

    board.to_board = flip
    code, _, error = attn8("deploy", "new.a8", "--name", "gesture", "--in-place", "--yes", "--port", board.port)
    board.to_board = lambda data: data
    assert (code, error.count("\n")) == (1, 1)
    assert "arrived damaged" in error and "the other slot stays" not in error
    assert "without the slot to spare the board may have no model now: deploy one" in error


def test_model_too_big_for_the_heap_gives_up_none_in_place(flash):
    Path("big.a8").write_bytes(build_model(Shape(heads=4, head_size=25, ff=1000)))
    with Board(flash=flash, heap_bytes=200 * 1024) as small:
        deployed("gesture.a8", "--name", "big", "--confirm", "--port", small.port)
        code, _, error = attn8("deploy", "big.a8", "--in-place", "--yes", "--port", small.port)
        assert code == 3 and "too big for the heap" in error and "no model" not in error
        assert loaded(small, "big") == identity(OLD)


@pytest.mark.parametrize("how", [("--in-place",), ("--to", "rom")])
def test_what_is_not_safe_against_a_cut_is_asked_for(how, monkeypatch):
    code, _, error = attn8("deploy", "gesture.a8", *how, "--port", "/dev/none")
    assert code == 2
    assert "Not safe against a cut: " in error and "add --yes" in error
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    code, _, error = attn8("deploy", "gesture.a8", *how, "--port", "/dev/none", input="n\n")
    assert (code, "no such port" in error) == (1, False)
    assert "no such port" in attn8("deploy", "gesture.a8", *how, "--port", "/dev/none", input="y\n")[2]
    assert "no such port" in attn8("deploy", "gesture.a8", *how, "--yes", "--port", "/dev/none")[2]


def test_in_place_on_a_drive_leaves_one_slot_file(drive):
    deployed("gesture.a8", "--drive", drive)
    deployed("new.a8", "--drive", drive, "--name", "gesture")
    assert deployed("gesture.a8", "--drive", drive, "--in-place", "--yes")["sequence"] == 3
    assert sorted(path.name for path in drive.glob("*.a8")) == ["gesture.0.a8"]


@pytest.mark.parametrize(
    "options",
    [
        *(("--to", "rom", "--confirm"), ("--to", "rom", "--via", "ampy"), ("--via", "drive", "--confirm")),
        *(("--via", "drive", "--port", "a0"), ("--drive", "x", "--via", "ampy"), ("--delay", "1")),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(options):
    assert attn8("deploy", "gesture.a8", "--yes", *options)[0] == 2


def test_ways_of_the_readme_run(flash, drive):
    need_ampy()
    Path("gestures.a8").write_bytes(OLD)
    with rom_board(flash) as board:
        for line in readme.command("deploy ways").splitlines():
            words = line.partition("#")[0].split()
            words = [str(drive) if word.endswith("CIRCUITPY") else word for word in words]
            port = [] if "--drive" in words else ["--port", board.port, "--yes"]
            code, _, error = attn8(*words[1:], *port)
            assert code == 0, f"{line}: {error}"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
