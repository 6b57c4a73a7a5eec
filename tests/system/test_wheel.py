"""The built wheel works away from the clone: data, device files, C sources and the shipped config travel in it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import random_model, windows_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with nothing but the wheel's contents."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("host", "device", "native_modules", "models", "tests/device"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    options = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *options, "-w", source / "dist", source], check=True, timeout=300)
    (wheel,) = (source / "dist").glob("*.whl")
    subprocess.run([*pip, "install", *options, "--target", target, wheel], check=True, timeout=300)
    shutil.rmtree(source)
    return target


def python(installed, *arguments, cwd):
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_is_what_runs(installed, tmp_path):
    code = "import attn8, attn8.device; print(attn8.__file__); print(attn8.device.__file__)"
    where = python(installed, "-c", code, cwd=tmp_path)
    assert all(line.startswith(str(installed)) for line in where.splitlines())


def test_bundled_data_and_shipped_config_travel(installed, tmp_path):
    code = (
        "from attn8.config import shipped_config; from attn8.data import load_windows; "
        "w = load_windows(shipped_config().data); print(w.x.shape[1:], len(w.labels))"
    )
    assert python(installed, "-c", code, cwd=tmp_path).strip() == "(128, 6) 7"


def test_code_that_runs_on_boards_travels(installed, tmp_path):
    code = "from attn8.boards.board_code import board_code; print('def _finish' in board_code('updating'))"
    assert python(installed, "-c", code, cwd=tmp_path).strip() == "True"


def test_tables_of_boards_and_sensors_travel(installed, tmp_path):
    code = "from attn8.boards import boards, sensors; print('pico' in boards(), 'mpu6050' in sensors.tables())"
    assert python(installed, "-c", code, cwd=tmp_path).strip() == "True True"


@pytest.mark.parametrize("backend", ["reference", "c", "python", "micropython"])
def test_every_back_end_runs(installed, tmp_path, backend):
    from tools import need

    need(*{"c": ["cc"], "micropython": ["micropython"]}.get(backend, []))
    data = random_model(3)
    (tmp_path / "m.a8").write_bytes(data)
    np.savez(tmp_path / "x.npz", x=windows_for(data, 3))
    found = json.loads(
        python(installed, "-m", "attn8.cli", "run", "m.a8", "x.npz", "--backend", backend, "--json", cwd=tmp_path)
    )
    assert found["backend"] == backend


def test_cycles_are_counted(installed, tmp_path):
    from tools import need

    need("arm-none-eabi-gcc")
    (tmp_path / "m.a8").write_bytes(random_model(3))
    found = json.loads(python(installed, "-m", "attn8.cli", "bench", "m.a8", "--json", cwd=tmp_path))
    assert found["cycles"] > 0
    assert found["outputs_equal"] is True


def test_sources_of_the_native_module_travel(installed, tmp_path):
    code = "from attn8.native_build import source_folder as f; print(*[f(n) for n in ('core', 'binding', 'natmod')])"
    folders = python(installed, "-c", code, cwd=tmp_path).split()
    assert [Path(folder).name for folder in folders] == ["native", "native_binding", "native_natmod"]
    assert all(folder.startswith(str(installed)) for folder in folders)
    assert (installed / "attn8" / "native_usermod" / "micropython.cmake").is_file()
    assert (installed / "attn8" / "examples" / "attn8_simpletest.py").is_file()


def test_device_tests_travel(installed, tmp_path):
    code = (
        "from attn8.boards.testing import _make_files, device_tests_folder as f; import os; "
        "_make_files(f())('.'); print(f(), os.path.exists('stream_a.a8'))"
    )
    folder, made = python(installed, "-c", code, cwd=tmp_path).split()
    assert folder == str(installed / "attn8" / "device_tests")
    assert made == "True"
