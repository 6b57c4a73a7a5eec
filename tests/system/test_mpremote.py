"""Plain mpremote works too: mip install of the local package.json, cp, run."""

import subprocess
import sys

import pytest

from attn8 import native_build
from attn8.boards import mip
from attn8.boards.link import open_link
from pty_board import Board
from tools import ROOT, need_micropython_tree

MODEL = ROOT / "models" / "shoulder_exercises" / "model.a8"


@pytest.fixture(scope="module")
def board():
    with Board() as board:
        yield board


def mpremote(board, *arguments):
    command = [sys.executable, "-m", "mpremote", "connect", board.port, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_package_json_lists_every_file_of_the_device_package():
    text = (ROOT / mip.FILE).read_text(encoding="utf-8")
    assert text == mip.package(ROOT), "run in the root of the source tree: python -m attn8.boards.mip"


def test_mip_install_cp_and_run(board):
    mpremote(board, "mip", "install", mip.FILE)
    mpremote(board, "cp", MODEL, ":model.a8")
    printed = mpremote(board, "run", "device/examples/attn8_simpletest.py")
    assert "shoulder_exercises" in printed
    with open_link(board.port) as link:
        assert link.eval("__import__('attn8').backend") == "viper"


def test_mip_install_of_an_architecture(board, tmp_path):
    native_build.build(need_micropython_tree(), ["x64"], tmp_path)
    mpremote(board, "mip", "install", tmp_path / "mpy-x64_6.3" / mip.FILE)
    with open_link(board.port) as link:
        assert link.eval("__import__('_attn8').arch") == "x64"
