"""Every verb against a board that answers anything: conversations with a real MicroPython, played back with damage.

    python tests/fuzz/test_hostile_answers.py 2000 1

plays each verb 2,000 times, of seed 1. Each run ends with an exit code of ours, in a moment, without a traceback, and
shows nothing that acts on a terminal.
"""

import contextlib
import random
import re
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from attn8.boards import link
from attn8.boards.link import Link
from attn8.cli import cli
from attn8.random_models import random_model
from hostile_board import value
from pty_board import Board

N_IN_CI, MOST_S = 12, 20
PICO = {"_machine": "Raspberry Pi Pico with RP2040", "platform": "rp2"}
VERBS = {
    "devices": ["devices"],
    "install": ["install", "--pure"],
    "deploy": ["deploy", "new.a8", "--name", "gesture"],
    "status": ["status"],
    "rollback": ["rollback", "gesture"],
    "bench file": ["bench", "gesture.a8", "--windows", "40"],
    "bench slot": ["bench", "gesture", "--windows", "3"],
    "monitor": ["monitor", "gesture", "--sensor", "sensor.py", "--seconds", "1"],
    "capture": ["capture", "data", "--sensor", "sensor.py", "--label", "a", "--seconds", "1"],
}
SENSOR = """
CHANNELS = ("c0 [g]", "c1 [g]", "c2 [g]", "c3 [g]", "c4 [g]", "c5 [g]", "c6 [g]")
COUNTS_PER_UNIT = 1000.0
def read():
    return 1, 2, 3, 4, 5, 6, 7
"""
NUMBERS = (
    "0",
    "-1",
    "1",
    "2",
    "3",
    "255",
    "65535",
    "1000000",
    str(2**24),
    str(2**31),
    str(2**40),
    "-5",
    "4096",
    "2822",
)
TEXTS = ("''", "'\\x1b[2J\\x07'", "'../../x'", "'[/red]'", "'a\\nb'", repr("y" * 3000), "'viper'", "'python'", "'x.a8'")
TEXTS += ("'native armv6m'", "'circuitpython'", "'/lib'", "'\\u202e\\u0007'", "'x.0.a8'", "'int16'", "'linux'")
ATOMS = (
    "0",
    "-1",
    "1",
    "255",
    "2**31",
    str(2**31),
    str(2**63),
    "9" * 400,
    "-" + "9" * 400,
    "9" * 5000,
    "1e999",
    "-1e999",
)
ATOMS += ("1e300", "0.0", "None", "True", "''", "b''", "[]", "()", "{}", "{[]: 1}", "{0: None}", "[[]] * 3", "'x' * 9")
ATOMS += (
    "(1, 2, 3)",
    "'\\x1b[2J\\x07'",
    "'../../x'",
    "'[/red]'",
    "'\\ud800'",
    "'a\\nb'",
    repr("y" * 3000),
    "-" * 9999 + "1",
)
ATOMS += ("[" * 150 + "]" * 150, "[0, 1]", "b'ATN8'", "nan")


class Tape:
    """Stands where mpremote's transport does: records what a board answers, or plays it back with damage."""

    is_pty, in_raw_repl = False, True

    def __init__(self, rows, draw):
        self.rows, self.draw, self.at, self.serial = list(rows), draw, 0, self

    def read(self, size=1):
        raise OSError("the tape holds no stream")

    def exec_raw_no_follow(self, code):
        self.at += 1
        if self.at > len(self.rows):
            raise TransportError("the tape has ended")

    def follow(self, timeout, data_consumer=None):
        out, error = self.rows[self.at - 1]
        for i in range(len(out)):
            data_consumer(out[i : i + 1])
        data_consumer(b"\x04")
        return b"", error

    def __getattr__(self, name):
        return lambda *_, **__: b""


def recorded(arguments, board):
    """Runs a verb on a board. Returns [(out, error)] of its commands."""
    rows, follow = [], SerialTransport.follow

    def following(self, timeout, data_consumer=None):
        out = bytearray()

        def both(data):
            out.extend(data)
            if data_consumer:
                data_consumer(data)

        error = follow(self, timeout, both)[1]
        rows.append((bytes(out).removesuffix(b"\x04"), error))
        return b"", error

    with patched((SerialTransport, "follow", following)), as_board():
        done = CliRunner().invoke(cli, [*arguments, "--port", board.port])
    return rows, done


@contextlib.contextmanager
def patched(*changes):
    before = [(where, name, where.__dict__[name]) for where, name, _ in changes]
    for where, name, new in changes:
        setattr(where, name, new)
    try:
        yield
    finally:
        for where, name, old in before:
            setattr(where, name, old)


@contextlib.contextmanager
def as_board():
    """A pty counts as a board, so that every figure is reckoned and shown."""
    enter = Link.enter

    def entered(self, restart):
        enter(self, restart)
        self.is_pty = False

    with patched((Link, "enter", entered)):
        yield


def damaged(rows, draw):
    """Returns a copy of a tape with a few answers changed."""
    rows = list(rows)
    for _ in range(draw.choice((1, 1, 2, 4))):
        i = draw.randrange(len(rows))
        out, error = rows[i]
        kind = draw.randrange(10)
        if kind == 0:
            error = draw.choice(
                (b"Traceback\r\nOSError: 28", b"\r\n\x1b[2J", b"Traceback\r\nModelError: \x1b]0;x\x07", b"x" * 999)
            )
            error = draw.choice(
                (error, b"OSError: " + b"9" * 9999, b"MemoryError: ", b"ImportError: no", b"ValueError")
            )
        elif kind == 1:
            out = draw.choice(
                (b"", b"\n", b"\x00" * 99, draw.randbytes(200), out * 2, out[: draw.randrange(len(out) + 1)])
            )
        elif b" *" in out:
            out = changed_words(out, draw)
        else:
            out = changed_value(out, draw)
        rows[i] = out, error
    if not draw.randrange(12):
        i, j = draw.randrange(len(rows)), draw.randrange(len(rows))
        rows[i], rows[j] = rows[j], rows[i]
    return rows


def changed_value(out, draw):
    """Changes one part of a value that arrives whole."""
    head, _, line = out.decode(errors="replace").rstrip("\r\n").rpartition("\n")
    text = line.split(" ", 2)[-1]
    atom = draw.choice(ATOMS)
    if draw.randrange(4):
        parts = re.findall(r"b?'(?:[^'\\]|\\.)*'|-?\d+|None|True|False|[\[\]{}(),: ]|\w+|.", text)
        places = [i for i, part in enumerate(parts) if part.strip("[]{}(),: ")]
        if places:
            i = draw.choice(places)
            same = TEXTS if parts[i][0] in "'b" else NUMBERS if parts[i].strip("-").isdigit() else ATOMS
            parts[i] = draw.choice(same) if draw.randrange(4) else atom
        text = "".join(parts)
    else:
        text = atom
    with contextlib.suppress(UnicodeEncodeError):
        return (head + value(text)).encode()
    return out


def changed_words(out, draw):
    """Changes words of lines with a check."""
    lines = out.split(b"\n")
    for _ in range(draw.choice((1, 3))):
        i = draw.randrange(len(lines))
        words = lines[i].rpartition(b" *")[0].split(b" ")
        atom = draw.choice(
            (b"-1", b"0", b"9" * 400, b"9" * 5000, b"1,2,3", b",", b"x", b"nan", b"1e9", b"-", b"4294967295", b"1" * 30)
        )
        words[draw.randrange(len(words))] = atom
        if not draw.randrange(3):
            words = words[: draw.randrange(len(words) + 1)]
        text = b" ".join(words)
        lines[i] = text + b" *%04x" % (zlib.crc32(text) & 0xFFFF)
        if not draw.randrange(5):
            lines[i:i] = [lines[i]] * draw.choice((2, 50))
    return b"\n".join(lines)


def prepare(folder, names=VERBS):
    """Returns {verb: rows} of what a real board answers."""
    for file, model in (("gesture.a8", 3), ("new.a8", 4)):
        Path(folder, file).write_bytes(random_model(model))
    Path(folder, "sensor.py").write_text(SENSOR)
    tapes = {}
    with contextlib.chdir(folder), Board(pretend=PICO) as board:
        CliRunner().invoke(cli, ["install", "--pure", "--port", board.port])
        for model in ("gesture.a8", "new.a8"):
            CliRunner().invoke(cli, ["deploy", model, "--name", "gesture", "--confirm", "--port", board.port])
        for name in names:
            tapes[name], done = recorded(VERBS[name], board)
            assert name in ("monitor", "capture") or done.exit_code == 0, (name, done.output)
    return tapes


def played(arguments, rows, draw):
    """Plays a tape. Returns (exit code, what is wrong with how it ended or None)."""
    tape = Tape(rows, draw)

    def opened(device):
        return tape

    begin = time.monotonic()
    nothing = lambda self, *_: None  # noqa: E731
    with patched(
        (link, "_open", opened), (Link, "enter", nothing), (Link, "restart", nothing), (Link, "close", nothing)
    ):
        done = CliRunner().invoke(cli, [*arguments, "--port", "/dev/null"])
    took = time.monotonic() - begin
    if done.exception and not isinstance(done.exception, SystemExit):
        return done.exit_code, "".join(traceback.format_exception(*done.exc_info)[-3:])
    if took > MOST_S:
        return done.exit_code, f"it took {took:.0f} s"
    shown = done.stdout + done.stderr
    acting = [c for c in shown if not c.isprintable() and c not in "\n\t"]
    if acting:
        return done.exit_code, f"shown as it came: {acting[:5]} in {shown[:300]!r}"
    if done.exit_code not in (0, 1, 2, 3):
        return done.exit_code, "exit code"
    if len(shown) > 100_000:
        return done.exit_code, f"{len(shown)} characters shown"
    return done.exit_code, None


def fuzz(name, rows, n, seed, json=False):
    """Plays a tape with damage n times. Returns (Counter of exit codes, list of what went wrong)."""
    codes, wrong = Counter(), []
    for i in range(n):
        draw = random.Random(f"{name} {seed} {i}")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            prepare_files(Path(folder))
            code, what = played(VERBS[name] + (["--json"] if draw.randrange(2) else []), damaged(rows, draw), draw)
        codes[code] += 1
        if what:
            wrong.append(f"{name}, number {i} of seed {seed}: {what}")
    return codes, wrong


def prepare_files(folder):
    for file, model in (("gesture.a8", 3), ("new.a8", 4)):
        Path(folder, file).write_bytes(random_model(model))
    Path(folder, "sensor.py").write_text(SENSOR)


@pytest.fixture(scope="module")
def tapes(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("tapes"))


@pytest.mark.parametrize("name", VERBS)
def test_hostile_board_ends_a_verb_with_one_line(tapes, name):
    codes, wrong = fuzz(name, tapes[name], N_IN_CI, 1)
    assert not wrong, wrong[0]
    assert sum(codes.values()) == N_IN_CI


if __name__ == "__main__":
    n, seed, *names = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        tapes = prepare(folder, names or VERBS)
    n_wrong = 0
    for name, rows in tapes.items():
        codes, wrong = fuzz(name, rows, int(n), int(seed))
        n_wrong += len(wrong)
        print(
            f"{name:12} {len(rows):4} commands, exit codes {dict(sorted(codes.items()))}, {len(wrong)} wrong",
            flush=True,
        )
        kinds = Counter(text.strip().splitlines()[-1][:160] for text in wrong)
        for kind, count in kinds.most_common(8):
            print(f"   {count:4} {kind}")
            print(
                "       "
                + next(text for text in wrong if text.strip().splitlines()[-1][:160] == kind).replace(
                    "\n", "\n       "
                )[:1500]
            )
    sys.exit(bool(n_wrong))
