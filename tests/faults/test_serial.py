"""Faults on the cable while a model is deployed: the board ends with the old or the new one, and the exit code tells.

python tests/faults/test_serial.py 500 1          500 faults of seed 1, in about 20 minutes, most of which is waiting
python tests/faults/test_serial.py 20 1 ampy      20 faults through ampy
"""

import importlib.util
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from mpremote.transport_serial import SerialTransport

from attn8 import reference
from attn8.boards import BoardError, deploy, install, link, via_ampy
from attn8.boards.link import open_link
from attn8.random_models import random_model
from pty_board import Board
from tools import missing

KINDS = ("flip", "drop", "duplicate", "stall", "cut")
OLD, NEW = random_model(3), random_model(4, n_outputs=3)
N_IN_CI, N_AMPY_IN_CI = 10, 3
_WHAT_TO_DO = r"check the cable, then try again|attn8 install --port|press its reset button"
_STALL_S = 0.3


class Fault:
    """Does one thing to the bytes that pass in one direction, at one of them.

    Args:
        kind: of KINDS.    at: which byte.    seed: of the bit that is flipped, of how many bytes are lost or doubled.
    """

    def __init__(self, kind, at, seed):
        self.kind, self.at, self.passed, self.dead = kind, at, 0, False
        self.random = random.Random(seed)

    def __call__(self, data):
        start, self.passed = self.at - self.passed, self.passed + len(data)
        if self.dead:
            return b""
        return getattr(self, self.kind)(data, start) if 0 <= start < len(data) else data

    def flip(self, data, at):
        return data[:at] + bytes([data[at] ^ 1 << self.random.randrange(8)]) + data[at + 1 :]

    def drop(self, data, at):
        return data[:at] + data[at + self.random.choice((1, 1, 5, 64)) :]

    def duplicate(self, data, at):
        end = at + self.random.choice((1, 1, 5, 64))
        return data[:end] + data[at:end] + data[end:]

    def stall(self, data, at):
        time.sleep(_STALL_S)
        return data

    def cut(self, data, at):
        self.dead = True
        return data[:at]


class Counted:
    """Counts the bytes of a deploy without a fault."""

    def __init__(self):
        self.passed = 0

    def __call__(self, data):
        self.passed += len(data)
        return data


def hurry():
    """Cuts the times that wait for a slow board. Returns a function that puts them back."""
    times = {(link, "_READ_S"): 0.7, (deploy, "_LOOK_S"): 3, (deploy, "_QUIET_S"): 3, (via_ampy, "_START_S"): 5}
    before = {(module, name): getattr(module, name) for module, name in times}, SerialTransport.read_until.__defaults__

    def put(times, defaults):
        for (module, name), seconds in times.items():
            setattr(module, name, seconds)
        SerialTransport.read_until.__defaults__ = defaults

    put(times, (1, None, None))
    return lambda: put(*before)


def prepare(folder, via="mpremote"):
    """Returns (file of the new model, flash of a board with the old one, bytes that a deploy sends there and back)."""
    (folder / "old.a8").write_bytes(OLD)
    (folder / "new.a8").write_bytes(NEW)
    with Board() as board:
        install.install(board.port, pure=True)
        deploy.deploy(folder / "old.a8", board.port, name="gesture", confirm=True)
        flash = board.flash()
        board.to_board, board.to_host = Counted(), Counted()
        deploy.deploy(folder / "new.a8", board.port, name="gesture", via=via)
        return folder / "new.a8", flash, (board.to_board.passed, board.to_host.passed)


def try_fault(file, flash, lengths, seed, via="mpremote"):
    """Deploys with one fault. Returns (fault as text, what deploy said or None, name of the model that runs then)."""
    draw = random.Random(seed)
    kind, way = draw.choice(KINDS), draw.choice((0, 1, 0))
    fault = Fault(kind, draw.randrange(lengths[way]), seed)
    with Board(flash=flash) as board:
        setattr(board, ("to_board", "to_host")[way], fault)
        try:
            deploy.deploy(file, board.port, name="gesture", via=via)
            said = None
        except BoardError as error:
            said = str(error)
        board.to_board = board.to_host = lambda data: data
        board.cut_power()
        with open_link(board.port) as opened:
            runs = opened.eval("(lambda m: (m.selftest(), m.id))(__import__('attn8').load('gesture'))")
    what = f"{kind} at byte {fault.at} {('to', 'from')[way]} the board"
    return what, said, {reference.parse(OLD).id: "old", reference.parse(NEW).id: "new"}.get(runs[1], runs)


def check(what, said, runs):
    """Asserts what must hold after a fault."""
    assert runs in ("old", "new"), what
    assert said or runs == "new", f"{what}: no error, and the old model runs"
    assert said is None or (re.search(_WHAT_TO_DO, said) and "\n" not in said), f"{what}: {said}"


@pytest.fixture(scope="module")
def hurried():
    back = hurry()
    yield
    back()


@pytest.fixture(scope="module")
def prepared(hurried, tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def prepared_for_ampy(hurried, tmp_path_factory):
    if not importlib.util.find_spec("ampy"):
        missing("ampy", "pip install adafruit-ampy")
    return prepare(tmp_path_factory.mktemp("models"), "ampy")


@pytest.mark.parametrize("seed", range(N_IN_CI))
def test_fault_on_the_cable_ends_with_the_old_or_the_new_model(prepared, seed):
    check(*try_fault(*prepared, seed))


@pytest.mark.parametrize("seed", range(N_AMPY_IN_CI))
def test_fault_on_the_cable_of_ampy_ends_with_the_old_or_the_new_model(prepared_for_ampy, seed):
    check(*try_fault(*prepared_for_ampy, seed, "ampy"))


def main(n, seed, via="mpremote"):
    """Tries many faults and prints how they ended, and those that break a promise."""
    import tempfile

    hurry()
    ends, broken = Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(Path(folder), via)
        for i in range(n):
            what, said, runs = try_fault(*prepared, seed * 1_000_000 + i, via)
            try:
                check(what, said, runs)
            except AssertionError as error:
                broken += 1
                print(f"BROKEN {error}", flush=True)
            ends[what.split()[0], "error" if said else "done", runs] += 1
    for (kind, end, runs), count in sorted(ends.items()):
        print(f"{kind:10} {end:6} {runs:4} {count}")
    print(f"{n} faults, {broken} broken promises")
    return broken


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])))
