"""The README's way from a sensor to a decision, as a new user goes it, on a MicroPython with a made-up MPU6050."""

import json
import shlex

import pytest
from click.testing import CliRunner

import readme
from attn8.cli import cli
from fake_machine import Knobs, firmware
from pty_board import Board

MOTIONS = {"circle": "swing", "shake": "shake", "nothing": "still"}  # label: what the sensor makes up
PEOPLE = ("anna", "ben")
SECONDS = 4
# Recordings are short and few here; what the README shows is for 20 seconds and more of each.
QUICK = ["--set", "data.window=32", "--set", "data.hop=16", "--set", "training.epochs=8", "--seed", "0"]


def attn8(*arguments):
    done = CliRunner().invoke(cli, [*map(str, arguments)])
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    return done.stdout


@pytest.fixture
def way(tmp_path, monkeypatch):
    """The README's commands by verb, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line, comments=True) for line in readme.command("way").splitlines()]
    assert all(words[0] == "attn8" for words in lines)
    return {words[1]: words[1:] for words in lines}


@pytest.fixture
def board(tmp_path):
    knobs = Knobs(tmp_path / "knobs")
    with Board(heap_bytes=2 << 20, firmware=firmware("mpu6050", live=knobs)) as board:
        board.knobs = knobs
        yield board


def test_the_way_of_the_readme_from_a_sensor_to_a_decision(way, board):
    port = ["--port", board.port]
    for person in PEOPLE:
        for label, signal in MOTIONS.items():
            board.knobs.turn(signal=signal)
            command = [person if word == "anna" else word for word in way["capture"]]
            attn8(*command, "--label", label, "--seconds", SECONDS, *port)
    attn8(*way["train"], *QUICK)
    attn8(*way["pack"])
    assert "fits: the tightest budget is" in attn8(*way["fit"])
    attn8(*way["install"], "--pure", *port)
    assert json.loads(attn8(*way["deploy"], "--json", *port))["boards"][0]["state"] == "trial"
    measured = json.loads(attn8(*way["bench"], "--windows", 20, "--json", *port))
    assert measured["same_bytes"]["windows"] == 20 and measured["same_bytes"]["different"] is None
    assert measured["run_ms"] is None  # times of a computer
    for label, signal in MOTIONS.items():
        board.knobs.turn(signal=signal)
        assert heard(attn8(*way["monitor"], "--seconds", 3, "--json", *port)) == label


def heard(text):
    """Returns the label that a monitor's summary names most often."""
    labels = json.loads(text)["labels"]
    return max(labels, key=labels.get)
