"""`attn8 devices`: what is plugged in, boards that answer and ports that do not."""

import json

import pytest
from click.testing import CliRunner

from attn8.boards import link
from attn8.boards.facts import slots_of
from attn8.boards.link import Port, open_link
from attn8.cli import cli
from pty_board import Board, answering
from tools import ROOT

MODEL = (ROOT / "models" / "shoulder_exercises" / "model.a8").read_bytes()


@pytest.fixture(scope="module")
def board():
    with Board() as board, open_link(board.port) as opened:
        opened.put(MODEL, "/gesture.a8")
        opened.put(b"no model at all, but as long as the header and names of one", "/notes.a8")
        opened.close()
        yield board


def attn8(*arguments):
    return CliRunner().invoke(cli, list(arguments))


def test_devices_tells_firmware_package_and_models(board, monkeypatch):
    monkeypatch.setattr(link, "ports", lambda: [Port(board.port, "E66", "Pico")])
    monkeypatch.setattr("attn8.boards.facts.ports", link.ports)
    done = attn8("devices", "--json")
    assert done.exit_code == 0
    (device,) = json.loads(done.stdout)["devices"]
    assert {k: device[k] for k in ("port", "id", "implementation", "attn8")} == {
        **{"port": board.port, "id": "E66"},
        **{"implementation": "micropython", "attn8": None},
    }
    gesture, notes = device["models"]
    assert gesture == {
        **{"file": "gesture.a8", "name": "shoulder_exercises", "version": "1"},
        **{"id": MODEL[16:24].hex(), "bytes": len(MODEL)},
    }
    assert notes["error"] == "no attn8 model"
    shown = attn8("devices").stdout
    assert all(text in shown for text in ("gesture.a8:", "shoulder_exercises", MODEL[16:24].hex(), "no attn8"))


def test_devices_names_every_port_that_does_not_answer(board):
    done = attn8("devices", "--port", board.port, "--port", "/dev/ttyACM98", "--port", "id:none", "--json")
    assert done.exit_code == 1
    first, second, third = json.loads(done.stdout)["devices"]
    assert first["firmware"].startswith("MicroPython 1.")
    assert "no such port" in second["error"]
    assert "no board with the serial number 'none'" in third["error"]
    assert done.stderr.count("attn8: ") == 2


def test_of_two_trials_that_had_all_boots_the_older_is_active_as_on_the_board():
    def active(*states):
        rows = [(i, i + 1, 100, state, boots, "m", "1", "id") for i, (state, boots) in enumerate(states)]
        return [slot["active"] for slot in slots_of(rows)]

    trial, good = 2, 3
    assert active((trial, 3), (trial, 3)) == [True, False]
    assert active((trial, 3), (trial, 2)) == [False, True]
    assert active((good, 0), (trial, 3)) == [True, False]
    assert active((trial, 3), (0, 0)) == [True, False]


def test_devices_passes_over_what_is_no_board(board, monkeypatch):
    monkeypatch.setattr(link, "_TRIES", 1)
    with answering(b"$GPGGA,,,,,\r\n") as other:
        monkeypatch.setattr("attn8.boards.facts.ports", lambda: [Port(board.port), Port(other)])
        done = attn8("devices")
        assert done.exit_code == 0
        assert f"{other}: no MicroPython answers" in done.stderr
        assert "cannot be read" in done.stdout
        monkeypatch.setattr("attn8.boards.facts.ports", lambda: [Port(other)])
        assert attn8("devices").exit_code == 1


def test_devices_without_a_board_says_what_to_do(monkeypatch):
    monkeypatch.setattr("attn8.boards.facts.ports", lambda: [])
    done = attn8("devices")
    assert done.exit_code == 1
    assert done.stderr.strip() == (
        "attn8: no board: no USB serial port is there; plug one in with a data cable, or give --port"
    )


def test_no_board_two_boards_and_a_busy_one_are_one_line_each(board, monkeypatch, tmp_path):
    (tmp_path / "m.a8").write_bytes(MODEL)
    boards = [Port(board.port, "E66", "Pico"), Port("/dev/ttyACM9", "E67", "Pico")]
    for verb in (("install", "--pure"), ("deploy", str(tmp_path / "m.a8")), ("status",), ("rollback",), ("test",)):
        monkeypatch.setattr(link, "ports", lambda: [])
        done = attn8(*verb)
        assert (done.exit_code, done.stderr) == (
            1,
            "attn8: no board: no USB serial port is there; plug one in with a data cable, or give --port\n",
        )
        monkeypatch.setattr(link, "ports", lambda: boards)
        done = attn8(*verb)
        assert (done.exit_code, done.stderr) == (
            1,
            f"attn8: 2 boards, name one with --port: {board.port} (Pico, id:E66); /dev/ttyACM9 (Pico, id:E67)\n",
        )
        with open_link(board.port, restart=False):
            done = attn8(*verb, "--port", board.port)
        assert (done.exit_code, done.stderr) == (
            1,
            f"attn8: {board.port}: busy, another program has it open; close that terminal, editor or mpremote, then "
            "try again\n",
        )


def test_facts_are_those_of_the_board():
    from attn8.boards.facts import read_facts

    claims = {"_mpy": 6 | 3 << 8 | 4 << 10, "_machine": "Raspberry Pi Pico with RP2040", "version": (1, 26, 1, "")}
    with Board(pretend=claims, flash_bytes=64 * 4096) as board, open_link(board.port) as opened:
        facts = read_facts(opened)
    assert (facts.firmware, facts.machine) == ("MicroPython 1.26.1", "Raspberry Pi Pico with RP2040")
    assert (facts.arch, facts.mpy_version, facts.platform) == ("armv6m", "6.3", "rp2")
    assert facts.flash_free == 62 * 4096
    assert facts.is_computer  # whatever it claims: a pty's times are none of a board
    assert 100_000 < facts.heap_free < 512 * 1024
