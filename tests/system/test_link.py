"""The link to a board: files arrive whole, programs are stopped and started again, each failure is one sentence."""

import itertools
import signal
import threading
import time
import zlib

import pytest
from mpremote.transport_serial import SerialTransport

from attn8.boards import DoesNotFitError, link
from attn8.boards.link import LinkError, Port, RemoteError, find_device, open_link
from attn8.boards.shape import COUNT, Either, fits
from hostile_board import HostileBoard, value
from pty_board import Board, answering, over_tcp

_NO_CRC32 = """
import sys
class Binascii:
    def __init__(self):
        from binascii import a2b_base64
        self.a2b_base64 = a2b_base64
sys.modules["binascii"] = Binascii()
"""


@pytest.fixture(scope="module")
def board():
    with Board() as board:
        yield board


def plugged(monkeypatch, *found):
    monkeypatch.setattr(link, "ports", lambda: [Port(device, f"S{i}", "Pico") for i, device in enumerate(found)])


def test_code_runs_and_values_come_back(board):
    with open_link(board.port) as link:
        assert link.exec("print('a')\nprint(2)") == "a\n2\n"
        assert link.eval("(1, 'x', b'\\x04', None)") == (1, "x", b"\x04", None)
        with pytest.raises(RemoteError, match="the board says ZeroDivisionError") as caught:
            link.exec("1 / 0")
        assert caught.value.kind == "ZeroDivisionError"
        assert link.eval("1") == 1


def test_fat_has_folders_too():
    with Board(kind="fat") as board, open_link(board.port) as link:
        link.mkdir("/data/deep")
        link.put(b"one", "/data/deep/file")
        assert link.listdir("/data/deep/") == [("file", False, 3)]
        assert [row[:2] for row in link.listdir()] == [("data", True)]


def test_soft_reboot_is_understood_in_any_language():
    """CircuitPython translates it."""
    with Board() as board:
        board.to_host = lambda data: data.replace(b"MPY: soft reboot", b"Neustart: weicher")
        with open_link(board.port) as link:
            link.exec("kept = 1")
            link.restart()
            assert link.eval("'kept' in globals()") is False
            link.reset()
        assert board.n_resets == 3


@pytest.mark.parametrize("n_bytes", [0, 1, 767, 768, 769, 5000])
def test_file_arrives_whole(board, n_bytes):
    data, steps = bytes(i * 7 & 255 for i in range(n_bytes)), []
    with open_link(board.port, restart=False) as link:
        link.mkdir("/data/deep")
        link.put(data, "/data/deep/file", lambda done, of: steps.append((done, of)))
        assert link.get("/data/deep/file") == data
        assert link.crc("/data/deep/file") == (n_bytes, zlib.crc32(data))
        assert link.stat("/data/deep/file") == (False, n_bytes)
        assert link.listdir("/data/deep") == [("file", False, n_bytes)]
        link.remove("/data/deep/file")
        assert link.stat("/data/deep/file") is None
    assert not n_bytes or steps[-1] == (n_bytes, n_bytes)


def test_file_that_arrives_damaged_is_an_error(board):
    damage = iter([True])

    def flip(data):
        at = data.find(b"AAAAAAAA")
        return data if at < 0 or not next(damage, False) else data[:at] + b"B" + data[at + 1 :]

    with open_link(board.port) as link:
        board.to_board = flip
        try:
            with pytest.raises(LinkError, match="arrived damaged; check the cable"):
                link.put(bytes(3000), "/zeros")
        finally:
            board.to_board = lambda data: data


def test_command_that_arrives_damaged_is_told_from_a_module_that_is_wrong(board):
    with open_link(board.port) as link:
        link.put(b"what a mess", "/wrong.py")
        with pytest.raises(RemoteError, match="the board says SyntaxError"):
            link.exec("import wrong")
        board.to_board = lambda data: data.replace(b"print", b"prin(")
        try:
            with pytest.raises(LinkError, match=r"a command arrived damaged \(SyntaxError\); check the cable"):
                link.eval("1")
        finally:
            board.to_board = lambda data: data


def replacing(there, arrives):
    """Returns a hook for bytes on their way that replaces some, also where they come in two pieces."""
    kept = b""

    def hook(data):
        nonlocal kept
        data = (kept + data).replace(there, arrives)
        n = next((n for n in range(len(there) - 1, 0, -1) if data.endswith(there[:n])), 0)
        data, kept = data[: len(data) - n], data[len(data) - n :]
        return data

    return hook


def test_answer_that_arrives_damaged_is_an_error(board):
    with open_link(board.port) as link:
        link.put(b"0123456789", "/digits")
        for there, arrives in ((b"1234", b"1235"), (b"1234", b"124"), (b"1234", b""), (b"4 202 ", b"4 203 ")):
            board.to_host = replacing(there, arrives)
            with pytest.raises(LinkError, match=r"an answer arrived damaged \(.*check the cable"):
                link.eval("1230 + 4")
        for arrives in (b"00", b"0", b"zz"):
            board.to_host = replacing(b"38", arrives)
            with pytest.raises(LinkError, match="/digits arrived damaged; check the cable"):
                link.get("/digits")
        board.to_host = lambda data: data
        assert link.get("/digits") == b"0123456789"


def test_crc_needs_no_crc32():
    with Board(firmware=_NO_CRC32) as board, open_link(board.port) as link:
        with pytest.raises(RemoteError):
            link.exec("from binascii import crc32")
        link.put(b"123456789", "/nine")
        assert link.crc("/nine") == (9, 0xCBF43926)


def test_full_board_does_not_fit():
    with Board(flash_bytes=16 * 4096) as board, open_link(board.port) as link:
        with pytest.raises(DoesNotFitError, match=r"the board is full: no room for the 80,000 bytes of /big; remove"):
            link.put(bytes(80_000), "/big")
        assert link.listdir() == []  # the part that was written is gone


def test_program_is_stopped_and_started_again(board):
    with open_link(board.port) as first:
        first.put(b"import time\nwhile True:\n time.sleep(0.01)\n", "/main.py")
        first.reset()
    resets = board.n_resets
    with open_link(board.port) as second:
        assert second.was_running
        second.remove("/main.py")
    assert board.n_resets == resets + 2  # one for an empty heap, one that starts main.py
    with open_link(board.port) as third:
        assert not third.was_running


def test_heap_is_empty_after_opening(board):
    with open_link(board.port) as link:
        link.exec("kept = bytearray(100_000)")
    with open_link(board.port) as link:
        assert link.eval("'kept' in globals()") is False


def test_busy_port_is_named(board):
    with open_link(board.port), pytest.raises(LinkError, match="busy, another program has it open; close"):
        open_link(board.port)


def test_port_that_is_not_there(monkeypatch):
    plugged(monkeypatch, "/dev/ttyACM7")
    with pytest.raises(LinkError, match=r"/dev/ttyACM99: no such port; the boards are: /dev/ttyACM7 \(Pico, id:S0\)"):
        open_link("a99")


def test_only_board_is_found_and_two_are_listed(monkeypatch, board):
    plugged(monkeypatch)
    with pytest.raises(LinkError, match="no board: no USB serial port is there; plug one in"):
        open_link()
    plugged(monkeypatch, board.port)
    with open_link() as link:
        assert link.eval("2") == 2
    plugged(monkeypatch, board.port, "/dev/ttyACM7")
    with pytest.raises(LinkError, match=r"2 boards, name one with --port: .*id:S0.*; /dev/ttyACM7 \(Pico, id:S1\)"):
        open_link()


def test_ports_are_spelled_as_mpremote_does(monkeypatch):
    plugged(monkeypatch, "/dev/ttyACM0", "/dev/ttyUSB3")
    spellings = {"a0": "/dev/ttyACM0", "u12": "/dev/ttyUSB12", "c3": "COM3", "id:S1": "/dev/ttyUSB3"}
    spellings |= {"auto": "/dev/ttyACM0", "port:/dev/x": "/dev/x", "socket://h:1": "socket://h:1", "/dev/y": "/dev/y"}
    assert {port: find_device(port) for port in spellings} == spellings
    with pytest.raises(LinkError, match="no board with the serial number 'S9'; the boards are: /dev/ttyACM0"):
        find_device("id:S9")


def test_board_behind_a_socket(board):
    with over_tcp(board.port) as url, open_link(url) as link:
        link.put(bytes(range(256)) * 5, "/socket")
        assert link.get("/socket") == bytes(range(256)) * 5
        assert link.transport.serial.fd > 0  # mpremote's REPL waits for it
    with pytest.raises(LinkError, match=r"socket://127.0.0.1:1: nobody answers there; check host and port"):
        open_link("socket://127.0.0.1:1")


def test_device_without_micropython_is_named(monkeypatch):
    monkeypatch.setattr(link, "_TRIES", 1)
    with answering(b"ERROR\r\n") as port, pytest.raises(LinkError, match="no MicroPython answers; press its reset"):
        open_link(port)


def test_cable_pulled_is_an_error_and_no_wait(monkeypatch):
    with Board() as board, open_link(board.port) as link:
        threading.Timer(0.3, board.unplug).start()
        begin = time.monotonic()
        with pytest.raises(LinkError, match="check the cable, then try again"):
            link.exec("import time\ntime.sleep(60)", timeout=None)
        assert time.monotonic() - begin < 20


@pytest.mark.parametrize("code", ["while True: print(0)", "import time\nwhile True: time.sleep(0.01)"])
@pytest.mark.parametrize("mounted", [False, True])
def test_ctrl_c_stops_the_board_too(board, mounted, code, tmp_path):
    with open_link(board.port) as link:
        if mounted:
            link.mount(tmp_path)
        threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,)).start()
        with pytest.raises(KeyboardInterrupt):
            link.exec(code, timeout=60)
        begin = time.monotonic()
        if mounted:
            link.unmount()
        assert link.eval("1 + 1") == 2
        assert time.monotonic() - begin < 5 and not link.was_running


def test_board_that_sends_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(link, "_MOST_ANSWER_BYTES", 1 << 14)
    for endless in (itertools.repeat(b"x" * 512), itertools.chain([b"\x04"], itertools.repeat(b"x" * 512))):
        says = pytest.raises(LinkError, match="the board sends without end; press its reset button")
        with HostileBoard(lambda code, endless=endless: endless) as board, open_link(board.port) as opened, says:
            opened.eval("1")
    monkeypatch.setattr(link, "_MOST_WAITS", 1)
    slowly = (time.sleep(0.1) or b"." for _ in range(100))
    says = pytest.raises(LinkError, match="the board sends without end")
    with HostileBoard(lambda code: slowly) as board, open_link(board.port) as opened, says:
        opened.eval("1", timeout=1)


@pytest.mark.parametrize(
    "text", ["[" * 199 + "]" * 199 + "]", "-" * 9999 + "1", "1" + "+1" * 9999, "{[]: 1}", "9" * 5000]
)
def test_answer_that_is_no_value_is_an_error(text):
    says = pytest.raises(LinkError, match="an answer arrived damaged")
    with HostileBoard(lambda code: value(text)) as board, open_link(board.port) as opened, says:
        opened.eval("1")


@pytest.mark.parametrize(
    ("found", "shape", "is_fit"),
    [
        *((1, range(2), True), (2, range(2), False), (True, range(2), False), (1.0, range(2), False)),
        *(("a", str, True), (b"a", str, False), (None, None, True), (0, None, False), ([1, "a"], (object, str), True)),
        *(
            ((1,), (object, object), False),
            ((1, 2), [range(9)], True),
            ([1, 9], [range(9)], False),
            (1, [object], False),
        ),
        *((None, Either(None, str), True), ("", Either(None, str), True), (0, Either(None, str), False)),
        *(({"a": [1]}, {str: [range(9)]}, True), ({1: [1]}, {str: [range(9)]}, False), ({"a": 1}, {str: str}, False)),
        *(({}, {str: str}, True), ([], {str: str}, False), (10**400, COUNT, False), (float("nan"), COUNT, False)),
    ],
)
def test_shape_of_an_answer(found, shape, is_fit):
    assert fits(found, shape) is is_fit


def test_board_that_stalls_is_an_error(monkeypatch, capfd):
    monkeypatch.setattr(link, "_READ_S", 0.5)
    monkeypatch.setattr(SerialTransport.read_until, "__defaults__", (1, None, None))
    with Board() as board, open_link(board.port) as opened:
        opened.exec("print(0)")
        board.to_host = lambda data: None
        with pytest.raises(LinkError, match="stopped answering while running a command"):
            opened.exec("print(1)", timeout=1)
    assert capfd.readouterr() == ("", "")
