"""A training that SIGKILL ends at random moments, and that is resumed, leaves the files of one that nothing ended.

ATTN8_KILLS sets the number of kills (4 here; 20 by hand: ATTN8_KILLS=20 pytest -s tests/system/test_kills.py, which
prints where they hit). A kill waits for a phase of the process to begin and then for a random part of the time that
the phase took in the undisturbed run, so that most kills hit training although Python takes longer to start.
"""

import collections
import hashlib
import os
import random
import subprocess
import sys
import time

import pytest

from trainings import tones

pytest.importorskip("torch")

N_KILLS = int(os.environ.get("ATTN8_KILLS", "4"))
EPOCHS = 40
COMPARED = ("model.safetensors", "quantized.safetensors", "metrics.json", "metrics.jsonl", "meta.json")
SETTINGS = [
    f"training.epochs={EPOCHS}",
    "training.batch_size=8",
    "training.patience=40",
    "data.validation_groups=1",
    "model.stem=[{channels=8, kernel=4, stride=4}]",
    "model.d_model=8",
    "model.heads=2",
    "model.layers=1",
    "model.ff=8",
]
WRITTEN_FIRST = ("config.toml", "metrics.jsonl")  # of a new training, of a resumed one
PHASES = ("training", "finishing", "training", "start", "training")


class Training:
    """A process that trains, and what its folder looked like before."""

    def __init__(self, folder, *arguments):
        self.run = folder / "run"
        self.before = self.files()
        command = [sys.executable, "-m", "attn8.cli", "train", *arguments, "--quiet", "--json"]
        with open(folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=log)

    def files(self):
        """Identity of the two files of which a process writes one right before it trains."""
        return [os.stat(path).st_ino if path.exists() else None for path in map(self.run.joinpath, WRITTEN_FIRST)]

    def begun(self, phase):
        """Whether a phase of the process has begun, as far as its folder shows."""
        if phase == "start":
            return True
        return self.files() != self.before and (phase == "training" or n_epochs(self.run) == EPOCHS)

    def wait_for(self, phase):
        """Seconds until a phase begins, or the process ends."""
        started = time.monotonic()
        while not self.begun(phase) and self.process.poll() is None:
            time.sleep(0.002)
        return time.monotonic() - started

    def kill(self, phase, seconds, draw):
        """Kill it at a random moment of a phase; returns what it was doing."""
        self.wait_for(phase)
        left = 1 - n_epochs(self.run) / EPOCHS if phase == "training" else 1
        time.sleep(draw.random() * seconds[phase] * left)
        ended, training = self.process.poll() is not None, self.files() != self.before
        self.process.kill()
        self.process.wait(120)
        if ended or not training:
            return "had ended" if ended else "before training"
        return "in training" if n_epochs(self.run) < EPOCHS else "after training"


def train_arguments():
    return ["--data", "own.npz", "--out", "run", *(word for text in SETTINGS for word in ("--set", text))]


def n_epochs(run):
    try:
        return (run / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def sha256(run):
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in COMPARED}


def make_folder(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp(name)
    tones(320).save(folder / "own.npz")
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(hashes of the files, seconds of each phase)."""
    folder = make_folder(tmp_path_factory, "undisturbed")
    training = Training(folder, *train_arguments())
    seconds = [training.wait_for(phase) for phase in ("training", "finishing")]
    left = time.monotonic()
    assert training.process.wait(120) == 0, (folder / "log").read_text()
    seconds.append(time.monotonic() - left)
    return sha256(training.run), dict(zip(("start", "training", "finishing"), seconds, strict=True))


def test_killed_at_random_moments_and_resumed_leaves_the_same_files(tmp_path_factory, undisturbed):
    expected, seconds = undisturbed
    draw, hits, n_killed = random.Random(os.environ.get("ATTN8_KILL_SEED", "0")), collections.Counter(), 0
    while n_killed < N_KILLS:
        folder = make_folder(tmp_path_factory, "killed")
        training = Training(folder, *train_arguments())
        while True:  # as many kills of one training as chance will have it
            hits[training.kill(PHASES[n_killed % len(PHASES)], seconds, draw)] += 1
            n_killed += 1
            resumable = (training.run / "config.toml").exists()
            training = Training(folder, *(["--resume", "run"] if resumable else train_arguments()))
            if n_killed == N_KILLS or draw.random() < 0.5:
                break
        assert training.process.wait(120) == 0, (folder / "log").read_text()
        assert sha256(training.run) == expected
        assert n_epochs(training.run) == EPOCHS
        assert [path.name for path in training.run.iterdir() if path.name.startswith(".")] == [".lock"]
    phases = ", ".join(f"{phase} {value:.1f} s" for phase, value in seconds.items())
    print(f"\n{n_killed} kills: {dict(hits)}; undisturbed: {phases}")
    assert hits["in training"] >= N_KILLS // 3
