"""What a build can leave out: it compiles, runs what it still has, and refuses the rest with one clear error."""

import json
import re
import struct

import numpy as np
import pytest
from xtensa import WRAPPER

import faulty
import micropython_builds as builds
from attn8 import cli, micropython, native_build, reference, spec
from attn8.errors import Attn8Error
from attn8.native_build import PARTS
from tools import CORE, ROOT, STRICT, core_program, core_sources, need, need_micropython_tree, run, scratch

BARE, USERMOD = (ROOT / "native_modules" / name for name in ("bare", "usermod"))
LEFT_OUT = spec.ERROR_CODES["LEFT_OUT"]
OPS = {
    "linear": [faulty.LINEAR],
    "conv1d": [faulty.conv1d(0, 2, 2, kernel=2, left=1)],
    "attention": [*faulty.WITH_ATTENTION, faulty.attention(1, 2, 3, left=0, right=0)],
    "norm": [faulty.linear(0, 2, 8), faulty.layer_norm(1), faulty.linear(2, 8, 2)],
    "add": [faulty.LINEAR, faulty.add(0, 1)],
    "pool": [faulty.mean_pool(0)],
    "table": [faulty.table(0)],
}
FILES = {name: faulty.model(ops, steps=1) for name, ops in OPS.items()}
SINGLE = [(part,) for part in PARTS]
READY = """
import attn8
for name in {names}:
    try:
        m = attn8.load(name + ".a8")
        print(name, m.kernels, list(m.run(bytes(2))))
        m.stream()
        print("streams")
    except attn8.ModelError as e:
        print(name, e.code, e)
print(attn8.check_model(open("conv1d.a8", "rb").read()))
"""


def flags(without):
    return [f"-DA8_WITHOUT_{part.upper()}" for part in without]


def identifier(without):
    return "+".join(without)


def test_every_op_but_linear_can_be_left_out():
    assert set(OPS) == {"linear", *PARTS} - {"stream"}
    found = {name: {r.name for r, _, _ in reference.parse(data).records} for name, data in FILES.items()}
    assert set().union(*found.values()) == {r.name for r in spec.RECORDS}
    assert all("LINEAR_S8" in ops or len(ops) == 5 for ops in found.values())
    make, cmake = (path.read_text(encoding="utf-8") for path in (CORE / "parts.mk", USERMOD / "micropython.cmake"))
    assert re.search(r"ATTN8_KNOWN := (.*)", make)[1].split() == list(PARTS)
    assert re.search(r"\^\((\S+)\)\$", cmake)[1].split("|") == list(PARTS)


@pytest.mark.parametrize("without", [*SINGLE, PARTS], ids=identifier)
def test_build_without_a_part_refuses_its_op_and_runs_the_others(without):
    program = core_program("native/core_test", "-O1", "-Wall", "-Wextra", "-Werror", *flags(without))
    listed, folder = scratch() / "parts.list", scratch()
    listed.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in FILES.values()))
    codes = dict(zip(FILES, map(int, run(program, "codes", listed).split()), strict=True))
    assert codes == {name: LEFT_OUT if name in without else 0 for name in FILES}
    x = np.array([[[-128, 127]], [[5, -6]]], np.int8)
    (folder / "x").write_bytes(x.tobytes())
    for name in (name for name, code in codes.items() if code == 0):
        (folder / "m.a8").write_bytes(FILES[name])
        run(program, "run", folder / "m.a8", folder / "x", folder / "y")
        assert (folder / "y").read_bytes() == reference.Reference(FILES[name]).run(x).tobytes(), name


BARE_HEADERS = ("-ffreestanding", "-isystem", BARE)
ARM = ("arm-none-eabi-gcc", "-mthumb", *STRICT)
RISCV = ("riscv64-unknown-elf-gcc", "-march=rv32imc_zicsr", "-mabi=ilp32", *BARE_HEADERS, *STRICT)
TARGETS = {
    "m0plus": (*ARM, "-mcpu=cortex-m0plus"),
    "portable": (*ARM, "-mcpu=cortex-m0plus", "-DA8_PORTABLE"),
    "m33": (*ARM, "-mcpu=cortex-m33"),
    "rv32": RISCV,
    "xtensa": (*WRAPPER, *BARE_HEADERS, "-DA8_XTENSA_MAC16"),
}
KERNELS = {
    "conv1d": ["a8_conv1d_s8"],
    "attention": ["a8_windowed_attention_s8", "a8_attention_s", "a8_attention_values"],
    "norm": ["a8_layer_norm_s8"],
    "add": ["a8_add_s8"],
    "pool": ["a8_mean_pool_s8", "a8_pool_"],
    "table": ["a8_table_s8"],
    "stream": ["a8_stream_"],
}
ONE_FOR_BOTH = {"m0plus", "m33", "rv32", "xtensa"}  # linear is their conv1d of one tap


# What other targets bring of their own are products and attention.
BUILDS = [(target, part) for target in ("m0plus", "portable") for part in (*SINGLE, PARTS)]
BUILDS += [(target, part) for target in ("m33", "rv32", "xtensa") for part in (("attention",), PARTS)]


@pytest.mark.parametrize("target, without", BUILDS, ids=[f"{target} {identifier(part)}" for target, part in BUILDS])
def test_build_without_a_part_has_none_of_its_kernels_and_links(target, without, tmp_path):
    """No object may ask for a function that went with the part."""
    compiler, *options = TARGETS[target]
    need("xtensa-lx106-elf-gcc" if target == "xtensa" else compiler)
    for source in (s for s in (*core_sources(), *CORE.glob("a8_*.S")) if s.stem not in ("a8_host", "a8_golden")):
        command = (compiler, *options, "-std=c99", "-Os", *flags(without), "-c", source)
        run(*command, "-o", tmp_path / f"{source.name}.o")
    listed = run(need("arm-none-eabi-nm"), *tmp_path.glob("*.o"))
    defined, wanted = (set(re.findall(rf" [{kind}] (a8_\w+)", listed)) for kind in ("TW", "U"))
    assert wanted <= defined
    gone = [name for part in without if (part, target in ONE_FOR_BOTH) != ("conv1d", True) for name in KERNELS[part]]
    assert not [name for name in defined if name.startswith(tuple(gone))]


def _said(program, module):
    """Returns what a MicroPython prints of every file."""
    with micropython.workspace() as folder:
        builds.fill_folder(folder, module)
        for name, data in FILES.items():
            (folder / f"{name}.a8").write_bytes(data)
        (folder / "script.py").write_text(READY.format(names=list(FILES)), encoding="utf-8")
        return builds.run_unix(program, folder, "script.py").splitlines()


def test_natmod_names_what_was_left_out_and_says_what_to_do(tmp_path, capsys):
    program, tree = need("micropython"), need_micropython_tree()
    need("gcc")
    command = ["build-native", "--mpy-dir", str(tree), "--arch", "x64", "--without", "conv1d", "--without", "stream"]
    cli.cli([*command, "--portable", "--out", str(tmp_path), "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    said = _said(program, tmp_path / found["modules"][0]["file"])
    name, what, action = "LEFT_OUT", *next((e.what, e.action) for e in spec.ERRORS if e.code == LEFT_OUT)
    text = f"{what} ({name}): got no {{}}, expected a native module that has it; {action}"
    stream = "linear {} stream: " + text.format("streams")
    assert said[0].startswith("linear native x64 portable [")
    assert said[1] == stream.format(LEFT_OUT)
    assert said[2] == f"conv1d {LEFT_OUT} model: " + text.format("conv1d_s8")
    assert said[-1] == str(LEFT_OUT)
    assert not [line for line in said[3:-1] if "native" not in line and "streams" not in line]
    assert found["modules"][0]["bytes"] < builds.natmod("x64").stat().st_size


def test_python_runs_what_the_native_module_leaves_out():
    said = _said(need("micropython"), None)
    assert said[-1] == "0"
    assert len([line for line in said if "streams" in line]) == len(FILES)


def test_unknown_part_is_refused(tmp_path):
    with pytest.raises(Attn8Error, match="without: got linear, expected some of: conv1d, attention, norm, "):
        native_build.build(tmp_path, ["x64"], without=["linear"])
    need("make")
    tree, makefile = need_micropython_tree(), ROOT / "native_modules" / "natmod" / "Makefile"
    with pytest.raises(pytest.fail.Exception, match="WITHOUT: got pooling, expected some of: conv1d attention norm"):
        run("make", "-f", makefile, "WITHOUT=pool pooling", f"MPY_DIR={tree}", f"BUILD_ROOT={tmp_path}", cwd=tmp_path)


def test_user_module_takes_the_same_parts(tmp_path):
    port = f"USERMOD_DIR = {USERMOD}\ninclude {USERMOD}/micropython.mk\nsay:;@echo $(CFLAGS_USERMOD)\n"
    (tmp_path / "Makefile").write_text(port, encoding="utf-8")
    said = run(need("make"), "-s", "-C", tmp_path, "say", "WITHOUT=conv1d stream", "PORTABLE=1")
    assert set(re.findall(r"-D(\w+)", said)) == {"A8_WITHOUT_CONV1D", "A8_WITHOUT_STREAM", "A8_PORTABLE"}
    assert "-D" not in run(need("make"), "-s", "-C", tmp_path, "say")
