"""What the README shows is what the project does."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np

import readme
from tools import need

ROOT = Path(__file__).resolve().parents[2]


def test_first_command_installs_everything_and_runs_the_demo():
    assert "pip install '.[all]'" in readme.command("demo")
    assert readme.command("demo").endswith("attn8 demo")


def test_second_command_installs_everything_and_runs_the_tests():
    assert "pip install --quiet '.[all]'" in readme.command("tests")
    assert readme.command("tests").endswith("pytest")


def test_ci_calls_the_command_of_the_readme():
    assert "tests/readme.py tests" in (ROOT / ".ci" / "run").read_text()


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", readme.README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_extras_hold_each_other():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(extras["all"][0].removeprefix("attn8[").rstrip("]").split(",")) == set(extras) - {"all"}


def own_data(path):
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 60)
    x = (
        np.cumsum(rng.normal(0, 100 * (1 + 3 * y[:, None, None]), (120, 32, 3)), axis=1)
        .clip(-32768, 32767)
        .astype(np.int16)
    )
    np.savez(path, x=x, y=y, group=np.arange(120) // 20, labels=np.array(["still", "shake"]))


def shell(script, folder):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    options = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(["sh", "-ec", script], **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_commands_of_a_new_project_run(tmp_path):
    script = readme.command("new").replace("train config.toml", "train config.toml --set training.epochs=2")
    assert script.count("epochs=2") == 1
    done = shell(script, tmp_path)
    assert "model.a8: ok" in done.stdout
    assert (tmp_path / "gestures" / "runs" / "first" / "report.html").stat().st_size > 50_000


STREAM_PRELUDE = """
from array import array

counts, n = array("h", [0, 0, 0]), 0


def read():  # rests for two seconds, moves for two; ends after ten
    global n
    n += 1
    if n > 500:
        raise StopIteration
    for i in range(3):
        counts[i] = (n * 977 % 2001 - 1000) * (1 + 3 * (n // 100 % 2)) // 10
    return counts

"""
STEPS_SCRIPT = """
import asyncio, attn8

m = attn8.load("stream.a8")
window = bytearray(2 * m.n_steps * m.n_channels)


async def main():
{}
    print(label, score, (label, score) == m.predict(window))


asyncio.run(main())
"""


def test_stream_of_the_readme_runs_on_cpython_and_micropython(tmp_path):
    own_data(tmp_path / "gestures.npz")
    shell(readme.command("stream").replace("epochs=20", "epochs=3"), tmp_path)
    # A Detector of three epochs is unsure of itself: the threshold is lowered, not the code changed.
    stream = STREAM_PRELUDE + readme.block("code", "stream").replace("threshold=70", "threshold=30")
    steps = STEPS_SCRIPT.format("\n".join(f"    {line}" for line in readme.block("code", "steps").splitlines()))
    environment = os.environ | {"MICROPYPATH": str(ROOT / "device") + ":.frozen"}
    for script in (stream, steps):
        (tmp_path / "main.py").write_text(script)
        outputs = []
        for program in (sys.executable, need("micropython")):
            options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 60}
            done = subprocess.run([program, "main.py"], **options)
            assert done.returncode == 0, done.stderr + done.stdout
            outputs.append([line.split()[:2] for line in done.stdout.splitlines()])
        assert outputs[0] == outputs[1]
        assert outputs[0]


def test_commands_and_device_code_for_own_data_run(tmp_path):
    own_data(tmp_path / "gestures.npz")
    done = shell(readme.command("own").replace("epochs=20", "epochs=2"), tmp_path)
    assert done.stdout.strip().endswith(("still", "shake"))
    code = readme.block("code", "device")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("Model 'gestures' v1: 32x3 -> 2 classes")
    assert second.split()[0] in ("still", "shake")
