"""What only the 32-bit build shows: big intermediates allocate, and the device package makes none.

This build collects no garbage while a script runs, so gc.mem_alloc() counts every block that was ever taken.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attn8 import backends
from attn8 import micropython as mp
from attn8 import micropython_wasm as wasm
from attn8.errors import ToolMissingError
from attn8.reference import Reference, parse
from models import Shape, build_model, random_model, windows_for
from tools import need, need_wasm

N_WINDOWS = 200
SMALL = Shape(n_steps=16, n_channels=3, heads=2, head_size=4, ff=8, norm="layer", activation="gelu", n_outputs=4)

COUNT = """
import gc, sys, attn8
N = int(sys.argv[1])

def pair(window):
    return window, 1

def growth(function, x):
    before = gc.mem_alloc()
    for _ in range(N):
        function(x)
    return gc.mem_alloc() - before

for name in sys.argv[2:]:
    m = attn8.load(name + ".a8")
    x = open(name + ".x", "rb").read()
    n = m.n_steps * m.n_channels * (2 if m.input_type == "int16" else 1)
    for i in range(len(x) // n):
        window = x[i * n : i * n + n]
        print(name, growth(m.run, window), growth(m.predict, window) - growth(pair, window))
"""


@pytest.fixture(autouse=True)
def installed(request):
    if "search" not in request.node.name:
        need_wasm()


def run_text(text, *arguments, interpreter=wasm.WASM, change=None, files=(), **options):
    """Runs the text of a script in a workspace and returns its stdout; ``change`` may edit the package before."""
    with mp.workspace() as folder:
        (folder / "script.py").write_text(text, encoding="utf-8")
        for name, data in dict(files).items():
            (folder / name).write_bytes(data)
        if change:
            change(folder / "attn8")
        return interpreter.run_script(folder, "script.py", *arguments, **options)


def model_files(models):
    """Returns the files NAME.a8 and NAME.x of models: eight windows each, one of them extreme."""
    files = {}
    for name, data in models.items():
        files[f"{name}.a8"], files[f"{name}.x"] = data, windows_for(data, 8).tobytes()
    return files


def allocations(models, **options):
    """Returns the (bytes of run, bytes of predict beyond its pair) of each model and window."""
    lines = run_text(COUNT, 2, *models, files=model_files(models), **options).splitlines()
    assert len(lines) == 8 * len(models)
    return [tuple(map(int, line.split()[1:])) for line in lines]


def test_200_windows_give_the_outputs_of_the_reference():
    data = build_model(SMALL)
    x = windows_for(data, N_WINDOWS)
    model = backends.open_backend("micropython-wasm", data)
    assert model.name == "micropython-wasm"
    np.testing.assert_array_equal(model.run(x), Reference(data).run(x))


def test_run_and_predict_allocate_nothing():
    models = {f"random{seed}": random_model(seed) for seed in range(3)} | {"small": build_model(SMALL)}
    models["int8"] = build_model(replace(SMALL, norm="rms", int16=False, right=0))
    kinds = {type(op).__name__ for data in models.values() for op in parse(data).graph.ops}
    assert kinds == {"Linear", "Conv1d", "WindowedAttention", "LayerNorm", "Add", "MeanPool", "Table"}
    assert {parse(data).graph.input_requantize is None for data in models.values()} == {True, False}
    assert set(allocations(models)) == {(0, 0)}


def rounding_without_the_last_shift(package):
    """The textbook form of the rounding shift: the same number, through an intermediate of up to 2^30."""
    (package / "_viper.py").unlink()
    path = package / "_python.py"
    text = path.read_text(encoding="utf-8")
    old = "((v * multiplier[j] >> half_post[j]) + 1) >> 1"
    assert old in text
    new = "(v * multiplier[j] * 2 + (2 << half_post[j])) >> (half_post[j] + 2)"
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_kernel_that_leaves_31_bits_is_noticed_here_and_not_on_64_bits():
    models = {"small": build_model(SMALL)}
    assert max(run for run, _ in allocations(models, change=rounding_without_the_last_shift)) > 0
    need("micropython")
    with_64_bits = allocations(models, change=rounding_without_the_last_shift, interpreter=mp.UNIX)
    assert {run for run, _ in with_64_bits} == {0}


def test_small_ints_have_31_bits():
    text = """
import gc
def allocated(v, w):
    before = gc.mem_alloc()
    v + w
    return gc.mem_alloc() - before
print(allocated((1 << 29) - 1, 1 << 29), allocated(1 << 29, 1 << 29) > 0)
print(allocated(-(1 << 29), -(1 << 29)), allocated(-(1 << 29), -(1 << 29) - 1) > 0)
"""
    assert run_text(text).split() == ["0", "True", "0", "True"]
    need("micropython")
    assert run_text(text, interpreter=mp.UNIX).split() == ["0", "False", "0", "False"]


@pytest.mark.parametrize("n_bytes", [100, 20000])
def test_heap_is_fixed(n_bytes):
    """Also garbage of small blocks, up to the last one, ends in MemoryError: the child neither grows nor hangs."""
    text = f"for i in range(1 << 20): x = bytearray({n_bytes})"
    with pytest.raises(mp.MicroPythonError, match=r"micropython-wasm exited with 1: MemoryError"):
        run_text(text, heap_bytes=1 << 18, timeout_s=60)


def test_heap_holds_what_was_asked_for():
    text = "x = [bytearray(10000) for _ in range(90)]\nprint(len(x))"
    assert run_text(text, heap_bytes=1 << 20) == "90\n"
    with pytest.raises(mp.MicroPythonError, match="MemoryError"):
        run_text(text, heap_bytes=1 << 19)


def test_exit_codes_and_exceptions_are_those_of_the_unix_program():
    scripts = {
        "import sys; sys.exit(3)": "exited with 3: no message",
        "print('out'); raise ValueError('wrong')": "exited with 1: ValueError: wrong",
        "import nope": "exited with 1: ImportError: no module named 'nope'",
        "1 +": "exited with 1: SyntaxError: invalid syntax",
    }
    need("micropython")
    for text, expected in scripts.items():
        lines = []
        for interpreter in (mp.UNIX, wasm.WASM):
            with pytest.raises(mp.MicroPythonError) as e:
                run_text(text, interpreter=interpreter)
            lines.append(str(e.value).replace("micropython-wasm", "micropython"))
        assert lines == [f"micropython {expected}"] * 2
    assert run_text("import sys; print(*sys.argv[1:]); sys.exit()", "a b", "ü\"'\\") == "a b ü\"'\\\n"


def test_files_that_a_script_writes_come_back(tmp_path):
    Path(tmp_path, "old").write_bytes(b"old")
    text = "import os\nos.mkdir('sub')\nopen('sub/new', 'wb').write(bytes(range(256)))\nopen('old', 'w').write('new')"
    Path(tmp_path, "script.py").write_text(text, encoding="utf-8")
    wasm.WASM.run_script(tmp_path, "script.py")
    assert Path(tmp_path, "sub", "new").read_bytes() == bytes(range(256))
    assert Path(tmp_path, "old").read_bytes() == b"new"


def package_in(folder):
    path = folder / "node_modules" / wasm.PACKAGE / "micropython.mjs"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_search_takes_the_named_package_or_the_cache_and_never_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ATTN8_MICROPYTHON_WASM", raising=False)
    (tmp_path / "work" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "sub")
    package_in(tmp_path / "work")
    with pytest.raises(ToolMissingError) as e:
        wasm.find_package()
    folder = tmp_path / "cache" / "attn8" / "npm"
    assert str(e.value) == f"no WebAssembly MicroPython: npm install --prefix {folder} {wasm.PACKAGE}"
    cached = package_in(folder)
    assert wasm.find_package() == cached
    for named in (cached, cached.parent):
        monkeypatch.setenv("ATTN8_MICROPYTHON_WASM", str(named))
        assert wasm.find_package() == cached
    monkeypatch.setenv("ATTN8_MICROPYTHON_WASM", str(tmp_path))
    with pytest.raises(ToolMissingError, match=r"ATTN8_MICROPYTHON_WASM is .* correct it"):
        wasm.find_package()


def test_search_names_node_where_it_is_missing(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ToolMissingError, match="apt-get install nodejs npm"):
        wasm.MicroPythonWasmModel(build_model(SMALL))


class Fake(mp.Interpreter):
    """A program that ends without an error, whatever it wrote."""

    name = "fake"

    def __init__(self, program):
        self.program = program

    def command(self, heap_bytes):
        return [sys.executable, "-c", self.program]


@pytest.mark.parametrize(
    "program, text",
    [("pass", "wrote no outputs"), ("open('outputs', 'wb').write(b'123')", "gave 3 outputs, expected 2 x")],
)
def test_program_that_writes_too_little_is_one_sentence(program, text, monkeypatch):
    monkeypatch.setattr(wasm.MicroPythonWasmModel, "interpreter", Fake(program))
    data = random_model(1)
    with pytest.raises(mp.MicroPythonError, match=text):
        wasm.MicroPythonWasmModel(data).run(windows_for(data, 2))
