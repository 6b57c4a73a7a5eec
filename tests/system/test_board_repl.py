"""`attn8 repl`: what a person types reaches the board, where the folder is mounted and the model is loaded."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from attn8.boards import deploy, install
from attn8.boards.link import open_link
from attn8.cli import cli
from attn8.random_models import random_model
from pty_board import Board

PROMPT = ">>> "
LEAVE = b"\x1d"


@pytest.fixture(scope="module")
def board():
    with Board() as board:
        install.install(board.port, pure=True)
        yield board


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "gesture.a8").write_bytes(random_model(3))
    (tmp_path / "helper.py").write_text("answer = 42\n")
    return tmp_path


@contextmanager
def terminal(*arguments):
    """Starts attn8 on a terminal; gives (our end, the process)."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "attn8.cli", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    try:
        yield ours, process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def until_prompt(ours, timeout_s=20):
    text, end = "", time.monotonic() + timeout_s
    while not text.endswith(PROMPT):
        if time.monotonic() > end or not select.select([ours], [], [], timeout_s)[0]:
            pytest.fail(f"no prompt; so far {text[-500:]!r}")
        text += os.read(ours, 4096).decode()
    return re.sub("\r+\n", "\n", text)


def typed(ours, line):
    """Types a line and returns what it prints."""
    os.write(ours, line.encode() + b"\r")
    echo, _, reply = until_prompt(ours).partition("\n")
    assert echo == line
    return reply.removesuffix(PROMPT)


def test_model_is_loaded_and_the_folder_is_there(board, folder):
    with terminal("repl", "--port", board.port, "--model", folder / "gesture.a8") as (ours, process):
        begin = until_prompt(ours)
        assert f"{folder} is /remote there" in begin
        assert "m = Model 'random' v1:" in begin
        assert begin.endswith(f"Ctrl-] or Ctrl-X leaves, Ctrl-D restarts the board\n{PROMPT}")
        assert typed(ours, "m.selftest()") == "True\n"
        assert typed(ours, "import helper; helper.answer") == "42\n"
        assert typed(ours, "attn8.backend") == "'viper'\n"
        os.write(ours, LEAVE)
        assert process.wait(10) == 0
    with open_link(board.port, restart=False) as link:
        assert "remote" not in [name for name, *_ in link.listdir("/")]


def test_slot_of_the_board_is_loaded(board, folder):
    deploy.deploy(folder / "gesture.a8", board.port, name="worn", confirm=True)
    with terminal("repl", "--port", board.port, "--model", "worn", "--folder", folder) as (ours, process):
        assert "m = Model 'random' v1:" in until_prompt(ours)
        os.write(ours, LEAVE)
        assert process.wait(10) == 0


def test_where_no_folder_can_be_mounted_the_model_goes_into_memory(board, folder):
    with Board(pretend={"name": "circuitpython"}, flash=board.flash()) as other:
        before = other.flash()
        with terminal("repl", "--port", other.port, "--model", folder / "gesture.a8") as (ours, process):
            begin = until_prompt(ours)
            assert "this firmware mounts no folder" in begin and "m = Model 'random' v1:" in begin
            assert typed(ours, "m.selftest()") == "True\n"
            os.write(ours, LEAVE)
            assert process.wait(10) == 0
        assert other.flash() == before
        code, text = refusal(other, "--folder", folder)
    assert code == 1
    assert "this firmware cannot mount a computer's folder; MicroPython can" in " ".join(text.split())


def test_without_a_terminal_it_says_what_to_do(board):
    done = CliRunner().invoke(cli, ["repl", "--port", board.port])
    assert done.exit_code == 1
    assert done.stderr == "attn8: the REPL needs a terminal; to run a file on the board: mpremote run FILE\n"


def refusal(board, *arguments):
    with terminal("repl", "--port", board.port, *arguments) as (ours, process):
        process.wait(20)
        return process.returncode, os.read(ours, 4096).decode()


def test_model_that_is_nowhere_is_named(board, folder):
    code, text = refusal(board, "--model", "nowhere")
    assert code == 1
    assert "nowhere: no such file here and no such slot or file on the board" in text
    (folder / "broken.a8").write_bytes(b"ATN8 and nothing else, but longer than a header")
    code, text = refusal(board, "--model", folder / "broken.a8")
    assert code == 1
    assert re.search(r"broken\.a8: the board says ModelError: .*another major format version", " ".join(text.split()))
    code, text = refusal(board, "--model", folder / "gesture.a8", "--folder", Path(__file__).parent)
    assert code == 1
    assert "the folder to mount; leave out --folder or move the file" in " ".join(text.split())
