"""The native module as a .mpy: in an unchanged MicroPython, its size, and the verb that builds it."""

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

import micropython_builds as builds
import readme
from attn8 import cli, native_build, reference
from attn8 import micropython as mp
from attn8.errors import ToolMissingError
from models import random_model
from tools import ROOT, need, need_micropython_tree, run

sys.path.insert(0, str(ROOT / "tests" / "device"))

from mutants import mutants

BUDGETS = json.loads((ROOT / "tests" / "budgets.json").read_text())["natmod_bytes"]
ERRORS = (Path(__file__).parent / "errors_script.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def program():
    return need("micropython")


@pytest.fixture
def folder():
    """A workspace with the device tests, their files and the natmod."""
    with mp.workspace() as path:
        builds.fill_folder(path, builds.natmod("x64"))
        yield path


def run_text(program, folder, text, **options):
    (folder / "script.py").write_text(text, encoding="utf-8")
    return builds.run_unix(program, folder, "script.py", **options)


def test_natmod_passes_every_device_test():
    builds.check_device_tests(builds.device_test_output("natmod"), "native")


def test_natmod_and_python_raise_the_same_errors_with_the_same_texts(program, folder):
    native = run_text(program, folder, ERRORS, heap_bytes=builds.TEST_HEAP_BYTES).splitlines()
    (folder / "_attn8.mpy").unlink()
    python = run_text(program, folder, ERRORS, heap_bytes=builds.TEST_HEAP_BYTES).splitlines()
    assert native[0] == "native"
    assert python[0] != "native"
    assert native[1:] == python[1:]
    assert len(native) > 60


def test_natmod_model_survives_the_collector(program, folder):
    text = """
import gc, attn8
m = attn8.load(bytearray(open("int16.a8", "rb").read()))
x, y = open("int16.x", "rb").read(), open("int16.y", "rb").read()
x, y = x[:len(x) // 8], y[:len(y) // 8]
for i in range(200):
    gc.collect()
    junk = [bytearray(b"\\xff" * (50 + i)) for _ in range(40)]
    assert bytes(m.run(x)) == y and m.labels[0] == "class 0"
assert m.selftest()
print("survived")
"""
    assert run_text(program, folder, text) == "survived\n"


def test_natmod_refuses_a_run_inside_a_run(program, folder):
    """Two threads use one model until one finds it busy: nothing else may go wrong."""
    text = """
import _thread, time, attn8
from attn8.errors import ACTIONS, TEXTS
m = attn8.load("int16.a8")
window = open("int16.x", "rb").read()[:2 * m.n_steps * m.n_channels]
texts = []
def work():
    while not texts:
        try:
            m.run(window)
        except RuntimeError as e:
            texts.append(str(e))
for _ in range(2):
    _thread.start_new_thread(work, ())
end = time.time() + 60
while not texts and time.time() < end:
    time.sleep(0.01)
time.sleep(0.1)
name, what, action = TEXTS[32]
assert texts[0] == what + "; " + ACTIONS[action], texts
print("refused")
"""
    assert run_text(program, folder, text, heap_bytes=4 << 20) == "refused\n"


def test_natmod_refuses_a_buffer_of_the_same_length_elsewhere(program, folder):
    text = """
import attn8
data = bytearray(open("int16.a8", "rb").read())
n = len(data)
m = attn8.load(data)
wall = bytearray(64)  # the buffer cannot grow where it is
data.extend(bytes(40000))
data[n:] = b""
assert len(data) == n
try:
    m.run(bytes(2 * m.n_steps * m.n_channels))
except attn8.ModelError as e:
    print(e.code, str(e).split("got ")[1] == f"{n} bytes elsewhere, expected {n}; keep it, or load again")
"""
    assert run_text(program, folder, text) == "31 True\n"


def test_natmod_checker_returns_the_codes_of_the_reference(program, folder):
    files = list(mutants([random_model(seed) for seed in range(12)], 1000, seed=5))
    (folder / "files").write_bytes(b"".join(len(data).to_bytes(4, "little") + data for data in files))
    text = """
import attn8
out = open("codes", "wb")
with open("files", "rb") as f:
    while True:
        head = f.read(4)
        if not head:
            break
        data = f.read(int.from_bytes(head, "little"))
        code = attn8.check_model(data)
        try:
            m = attn8.load(data)
            m.run(bytes(m.n_steps * m.n_channels * (2 if m.input_type == "int16" else 1)))
            assert code == 0
        except attn8.ModelError as e:
            assert e.code == code, (e.code, code)
        except MemoryError:
            assert code == 0
        out.write(bytes([code]))
out.close()
"""
    run_text(program, folder, text, heap_bytes=4 << 20)
    assert list((folder / "codes").read_bytes()) == [reference.check_model(data) for data in files]


@pytest.mark.parametrize("name", BUDGETS)
def test_natmod_stays_within_its_size(name):
    """The whole file: code, tables, names and relocations."""
    arch, *portable = name.split()
    n = builds.natmod(arch, bool(portable)).stat().st_size
    assert 0.95 * BUDGETS[name] < n <= BUDGETS[name], "smaller: lower the budget"


def test_portable_natmod_of_small_boards_takes_at_most_16_kb():
    assert BUDGETS["armv6m portable"] <= 16 * 1024


def test_natmods_are_built_into_one_folder_each_with_their_sums(tmp_path, capsys):
    tree = need_micropython_tree()
    need("gcc", "arm-none-eabi-gcc")
    command = ["build-native", "--mpy-dir", str(tree), "--arch", "x64", "--arch", "armv7m", "--out", str(tmp_path)]
    cli.cli([*command, "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    version = native_build.open_tree(tree).version
    assert [m["file"] for m in found["modules"]] == [f"mpy-{a}_{version}/_attn8.mpy" for a in ("x64", "armv7m")]
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "SHA256SUMS").read_text().splitlines())
    files = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.glob("*/_attn8.mpy")}
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_natmod_command_of_the_readme_fills_the_cache_with_the_same_bytes_every_time(tmp_path):
    tree = need_micropython_tree()
    need("arm-none-eabi-gcc")
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"MICROPYTHON_DIR": str(tree), "XDG_CACHE_HOME": str(tmp_path), "PATH": beside}
    run("sh", "-ec", readme.command("native"), env=environment)
    folder = f"mpy-armv6m_{native_build.open_tree(tree).version}"
    made = tmp_path / "attn8" / "native" / folder / "_attn8.mpy"
    assert made.read_bytes() == builds.natmod("armv6m").read_bytes()


def test_natmod_build_says_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(native_build.NativeBuildError, match="is no MicroPython or CircuitPython source tree"):
        native_build.build(tmp_path, ["x64"])
    for member in ("py/dynruntime.mk", "tools/mpy_ld.py"):
        (tmp_path / member).parent.mkdir(exist_ok=True)
        (tmp_path / member).write_text("$(error this tree is a sham)\n")
    (tmp_path / "py" / "persistentcode.h").write_text("#define MPY_VERSION 6\n#define MPY_SUB_VERSION 9\n")
    assert native_build.open_tree(tmp_path).version == "6.9"
    need("make", "gcc")
    with pytest.raises(native_build.NativeBuildError, match="this tree is a sham"):
        native_build.build(tmp_path, ["x64"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(native_build.NativeBuildError, match="unknown architecture 'z80'; expected one of: x64, "):
        native_build.build(tmp_path, ["z80"])
    monkeypatch.setitem(native_build.COMPILERS, "x64", ("no-such-gcc", "apt-get install no-such-gcc"))
    with pytest.raises(ToolMissingError, match="no program no-such-gcc on PATH, which x64 needs: apt-get install no"):
        native_build.build(tmp_path, ["x64"])


def test_tree_of_circuitpython_is_told_apart(tmp_path):
    for member in ("py/dynruntime.mk", "tools/mpy_ld.py"):
        (tmp_path / member).parent.mkdir(exist_ok=True)
        (tmp_path / member).touch()
    (tmp_path / "py" / "persistentcode.h").write_text("#define MPY_VERSION 6\n#define MPY_SUB_VERSION 3\n")
    assert native_build.open_tree(tmp_path).implementation == "mpy"
    (tmp_path / "shared-bindings").mkdir()
    assert native_build.open_tree(tmp_path).implementation == "cp"


def test_natmod_refuses_a_window_that_moved_between_steps(program, folder):
    """An int8 model reads the window in place; one that went away altogether is kept for it."""
    text = """
import gc, attn8
m = attn8.load("int8.a8")
x, y = open("int8.x", "rb").read(), open("int8.y", "rb").read()
n = len(x) // 8
m.start(bytearray(x[:n]))
while m.step():
    gc.collect()
    junk = [bytearray(b"\\xff" * n) for _ in range(50)]
assert bytes(m.output) == y[:5]
window = bytearray(x[:n])
m.start(window)
m.step()
wall = bytearray(64)  # the buffer cannot grow where it is
window.extend(bytes(40000))
for length in (n + 40000, n):
    window[length:] = b""
    try:
        m.step()
    except attn8.ModelError as e:
        print(e.code, str(e).split("got ")[1].split(",")[0])
"""
    assert run_text(program, folder, text).splitlines() == [
        "34 40034 values",
        "34 a buffer that moved since start",
    ]


def test_natmod_refuses_a_state_of_another_size_or_alignment(program, folder):
    """And whatever stands in one, push stays inside its buffers and gives numbers."""
    text = """
import attn8, random
m = attn8.load("stream_a.a8")
x = open("stream_a.x", "rb").read()[:6 * 40]
out = bytearray(m.n_outputs)
state = m._stream_state(3, True)
for bad in (state[:-1], state[:3], b"", bytearray(), memoryview(bytearray(len(state) + 8))[1:]):
    for call in (lambda: m._push(bad, x, out), lambda: m._stream_reset(bad)):
        try:
            print(call())
        except attn8.ModelError as e:
            print(e.code)
        except TypeError:
            print("TypeError")
random.seed(1)
for _ in range(300):
    for i in range(8, len(state)):
        state[i] = random.getrandbits(8)
    assert m._push(state, x, out) == 6
    m._stream_reset(state)
    assert bytes(state) == bytes(m._stream_state(3, True))
print("survived")
"""
    codes = [33, 33, 33, 33, "TypeError", "TypeError", 33, 33, 30, 30]
    assert run_text(program, folder, text).split() == [*map(str, codes), "survived"]
