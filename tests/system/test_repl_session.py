"""The session of the README, typed into the REPL of the real MicroPython: a person sees what it shows."""

import os
import pty
import re
import select
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

import readme
from attn8 import micropython as mp
from tools import ROOT, need

PROMPT = ">>> "


@contextmanager
def repl(folder):
    """Starts MicroPython on a terminal; gives the file descriptor of our end."""
    ours, its = pty.openpty()
    environment = {**os.environ, "MICROPYPATH": str(folder), "TERM": "dumb"}
    options = {"cwd": folder, "env": environment, "start_new_session": True}
    process = subprocess.Popen([need("micropython")], stdin=its, stdout=its, stderr=its, **options)
    os.close(its)
    try:
        yield ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def until_prompt(terminal, timeout_s=60):
    """Returns the lines before the next prompt."""
    text, end = "", time.monotonic() + timeout_s
    while not text.endswith("\n" + PROMPT):
        left = end - time.monotonic()
        if left <= 0 or not select.select([terminal], [], [], left)[0]:
            pytest.fail(f"no prompt within {timeout_s} s; so far: {text[-500:]!r}")
        text += os.read(terminal, 4096).decode()
    return re.sub("\r+\n", "\n", text).split("\n")[:-1]


def typed(folder, lines):
    """Types lines, each when the prompt is there, as a person does; returns the lines that each prints."""
    with repl(folder) as terminal:
        until_prompt(terminal)
        replies = []
        for line in lines:
            os.write(terminal, line.encode() + b"\r")
            echo, *reply = until_prompt(terminal)
            assert echo == line
            replies.append(reply)
    return replies


def session(text):
    """Returns [(line that is typed, lines that it prints)] of a transcript."""
    found = []
    for line in text.split("\n"):
        if line.startswith(PROMPT):
            found.append((line[len(PROMPT) :], []))
        else:
            found[-1][1].append(line)
    return found


def matches(shown, printed, varies=False):
    """Says whether the lines are those shown; "..." stands for any lines; with ``varies`` numbers do not count."""
    lines = [readme.masked(line) if varies else line for line in shown]
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line) + r"\n" for line in lines)
    text = "".join(f"{readme.masked(line) if varies else line}\n" for line in printed)
    return re.fullmatch(pattern, text) is not None


def test_session_of_the_readme_is_what_a_person_sees():
    shown = session(readme.block("repl", "session"))
    assert len(shown) > 8
    with mp.workspace() as folder:
        shutil.copy(ROOT / "models" / "shoulder_exercises" / "model.a8", folder)
        replies = typed(folder, [line for line, _ in shown])
    for (line, expected), printed in zip(shown, replies, strict=True):
        assert matches(expected, printed, varies="profile" in line), f"{line}: {printed}"


def test_comparison_sees_every_difference():
    assert matches(["a", "...", "z"], ["a", "b", "c", "z"])
    assert matches(["a", "...", "z"], ["a", "z"])
    assert not matches(["a", "...", "z"], ["a", "b"])
    assert not matches(["a"], ["a", "b"])
    assert not matches([], ["a"])
    assert not matches(["1 op"], ["2 op"])
    assert matches([" 1  op  12"], [" 1  op   7"], varies=True)
    assert not matches([" 1  op  12"], [" 1  other  7"], varies=True)
