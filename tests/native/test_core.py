"""Promises of the C core: the code of every fault, its memory, its stack, and what it is built from."""

import json
import re
import struct

import pytest

import faulty
import models
from attn8 import arena, reference, runtime, spec
from attn8.boards import sizes
from faulty import FAULTS
from tools import CORE, ROOT, SANITIZE, STRICT, compiles, core_program, core_sources, missing, need, run, scratch

ARM = ("-std=c99", "-O2", "-mcpu=cortex-m0plus", "-mthumb")
BUDGETS = json.loads((ROOT / "tests" / "budgets.json").read_text())["core_bytes"]
CODES = {"OK": 0, **spec.ERROR_CODES}
CHECKED = [e.name for e in spec.ERRORS if e.code < 30]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of random models of many shapes."""
    folder = tmp_path_factory.mktemp("models")
    for seed in range(24):
        (folder / f"{seed:02}.a8").write_bytes(models.random_model(seed))
    wide = models.random_model(99, heads=4, head_size=64, norm="layer", n_steps=8, layers=1)
    (folder / "wide.a8").write_bytes(wide)
    return sorted(folder.iterdir())


def test_every_code_of_check_model_is_provoked():
    assert {name for _, name, _ in FAULTS} == {"OK", *CHECKED}


@pytest.mark.parametrize("name", ["OK", *CHECKED])
def test_c_and_numpy_give_the_code_of_every_fault(name):
    need("cc")
    for label, expected, data in FAULTS:
        if expected == name:
            got = (runtime.check_model_c(data), reference.check_model(data))
            assert got == (CODES[name], CODES[name]), label


def test_largest_file_is_accepted():
    need("cc")
    room = (1 << 24) - len(faulty.GOOD) - 8
    data = faulty.chain(faulty.LINEAR, tail=faulty.record(200, bytes(room), 1))
    assert len(data) == 1 << 24
    assert runtime.check_model_c(data) == reference.check_model(data) == 0


def test_no_fault_makes_the_checker_read_outside_the_file():
    listed = scratch() / "faults.list"
    listed.write_bytes(b"".join(struct.pack("<I", len(data)) + data for _, _, data in FAULTS))
    codes = run(core_program("native/core_test", "-O1", *SANITIZE), "codes", listed).split()
    assert [int(c) for c in codes] == [CODES[name] for _, name, _ in FAULTS]


def test_load_and_run_refuse_what_they_cannot_use(files):
    run(core_program("native/core_test", "-O1", *SANITIZE), "api", *files)


def test_arena_is_exact(files):
    lines = run(core_program("native/core_test", "-O2"), "arena", *files).splitlines()
    for path, line in zip(files, lines, strict=True):
        arena_bytes, live_bytes, high_water = map(int, line.split())
        model = reference.parse(path.read_bytes())
        assert (arena_bytes, live_bytes) == (model.arena_bytes, model.live_bytes), path.name
        assert arena_bytes <= 1.1 * live_bytes, path.name
        assert high_water >= 0.9 * arena_bytes, path.name


@pytest.mark.parametrize("target", [arena.M0PLUS, arena.BLOCKED])
def test_c_and_numpy_plan_the_same_arena_for_a_target(target, files):
    program = core_program("native/core_test", "-O2", f"-DA8_SCRATCH_{target.upper()}")
    found = [tuple(map(int, line.split()[:2])) for line in run(program, "arena", *files).splitlines()]
    models_ = [reference.parse(path.read_bytes()) for path in files]
    assert found == [reference.plan(model, target)[1:] for model in models_]
    more = [bytes_ - model.arena_bytes for (bytes_, _), model in zip(found, models_, strict=True)]
    assert min(more) >= 0
    assert sum(n > 0 for n in more) > len(more) // 2


def test_scratch_of_more_than_256_kb_is_planned_whole(tmp_path):
    shape = models.Shape(256, 1, 1, 1, 0, 0, heads=1, head_size=255, left=255, right=0, ff=4, int16=False)
    path = tmp_path / "large.a8"
    path.write_bytes(models.build_model(shape))
    program = core_program("native/core_test", "-O2", "-DA8_SCRATCH_M0PLUS")
    planned = reference.plan(reference.parse(path.read_bytes()), arena.M0PLUS)[1:]
    assert tuple(map(int, run(program, "arena", path).split()[:2])) == planned
    assert planned[0] > 1 << 18


def test_c_and_numpy_plan_the_same_arena_for_any_graph():
    need("cc")
    sizes = [_plan_of(seed) for seed in range(200)]
    assert all(c == numpy for c, numpy in sizes)
    assert sum(arena > live for (arena, live), _ in sizes) > 5, "no graph needed a second order: the test is too easy"


def _plan_of(seed):
    """Returns (arena_bytes, live_bytes) of C and of NumPy for a random graph of linears and adds."""
    data = faulty.random_graph(seed)
    c, numpy = runtime.CModel(data), reference.parse(data)
    return (c.arena_bytes, c.live_bytes), (numpy.arena_bytes, numpy.live_bytes)


@pytest.mark.parametrize("flags", ["-O0", "-Os", "-O2", "-O3", "-O2 -m32", "clang -O2", "-O2 -fno-jump-tables"])
def test_every_build_gives_the_same_outputs(flags, files, tmp_path):
    compiler = "clang" if flags.startswith("clang") else "gcc"
    options = flags.replace("clang", "").split()
    if "-m32" in options and not compiles(need("gcc"), "-m32"):
        missing("a 32-bit C library", "apt-get install lib32gcc-12-dev libc6-dev-i386")
    program = core_program("native/core_test", *options, compiler=compiler)
    for path in files[:10]:
        data = path.read_bytes()
        x = models.windows_for(data, 32, seed=5)
        (tmp_path / "x").write_bytes(x.tobytes())
        run(program, "run", path, tmp_path / "x", tmp_path / "y")
        assert (tmp_path / "y").read_bytes() == reference.Reference(data).run(x).tobytes(), path.name


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
def test_core_compiles_without_a_warning(compiler, tmp_path):
    strict = STRICT if compiler != "clang" else [f for f in STRICT if "conversion" not in f]
    for source in core_sources():
        run(need(compiler), "-std=c99", "-O2", *strict, "-c", source, "-o", tmp_path / "x.o")


KERNELS = {
    "LINEAR": {"a8_linear_s8"},
    "CONV1D": {"a8_conv1d_s8"},
    "ATTENTION": {"a8_windowed_attention_s8", "a8_attention_step_s8", "a8_attention_scores", "a8_attention_values"},
    "PRODUCTS": {"a8_attention_scores", "a8_attention_values"},
    "NORM": {"a8_layer_norm_s8"},
    "ADD": {"a8_add_s8"},
    "POOL": {"a8_mean_pool_s8", "a8_pool_push_s8", "a8_pool_sums_s8"},
    "TABLE": {"a8_table_s8"},
    "INPUT": {"a8_requantize_s16"},
}


@pytest.mark.parametrize("name", KERNELS)
def test_target_can_bring_its_own_kernel(name, tmp_path):
    """With -DA8_KERNELS_<NAME>_EXTERNAL the portable file leaves exactly that kernel out."""
    left_out = ("-DA8_PORTABLE", f"-DA8_KERNELS_{name}_EXTERNAL")
    run(need("arm-none-eabi-gcc"), *ARM, *STRICT, *left_out, "-c", CORE / "a8_kernels.c", "-o", tmp_path / "x.o")
    defined = set(re.findall(r" T (\S+)", run(need("arm-none-eabi-nm"), tmp_path / "x.o")))
    assert defined == {*set().union(*KERNELS.values()), "a8_softmax_exp", "a8_exp_table"} - KERNELS[name]


# Registers and frames of the assembly; the tests of these kernels paint the stack.
ASSEMBLY_FRAMES = {
    **dict.fromkeys(("a8_m0plus_rows", "a8_packed_token_s8"), 36 + 204 + 8),
    **{"a8_m0plus_token": 36 + 20 + 8, "a8_m0plus_pack": 24},
    **{"a8_m0plus_attend": 36 + 68, "a8_m0plus_pack_column": 36},
    **{"a8_layer_norm_s8": 36 + 24, "a8_add_s8": 24, "a8_table_s8": 8, "a8_requantize_s16": 36 + 20 + 8},
}
DIVISION = {"__aeabi_idiv", "__aeabi_uidiv", "__aeabi_idivmod", "__aeabi_uidivmod"}
FROM_OUTSIDE = DIVISION | {"memcpy", "memset", "memmove"}
OF_TILES = {"a8_m0plus_rows", "pack_tile"}  # a stream runs one token at a time


def _arm_objects(tmp_path, *flags):
    for source in [*core_sources(), *CORE.glob("a8_*.S")]:
        run(need("arm-none-eabi-gcc"), *ARM, *flags, "-c", source, "-o", tmp_path / f"{source.stem}.o")
    return sorted(tmp_path.glob("*.o"))


def test_core_needs_no_float_no_64_bit_and_no_libc(tmp_path):
    """32-bit division, memcpy, memset and memmove are all that it takes from outside."""
    listed = run(need("arm-none-eabi-nm"), "-u", *_arm_objects(tmp_path))
    wanted = {name for name in re.findall(r"U (\S+)", listed) if not name.startswith("a8_")}
    assert wanted <= FROM_OUTSIDE


def test_core_has_no_writable_data(tmp_path):
    table = run(need("arm-none-eabi-size"), *_arm_objects(tmp_path)).splitlines()[1:]
    assert [line.split()[1:3] for line in table] == [["0", "0"]] * len(table)


def test_core_takes_at_most_14_kb_on_armv6m():
    """As natmods are compiled, without what only hosts need; each part has a budget."""
    need(sizes.COMPILER, "arm-none-eabi-size")
    found = dict(sizes.sizes())
    assert found["all"] <= BUDGETS["all"] == 14 * 1024
    assert sum(found.values()) == 2 * found["all"]
    assert list(found) == list(BUDGETS)
    assert {what: n for what, n in found.items() if n > BUDGETS[what]} == {}
    least = {what: 0.9 * n - 32 for what, n in BUDGETS.items() if what != "several ops"}  # what remains, not a part
    assert {what: n for what, n in least.items() if found[what] < n} == {}, "smaller: lower the budget"


@pytest.mark.parametrize("level", ["-O2", "-Os"])
def test_worst_case_stack_is_at_most_512_bytes(level, tmp_path):
    _arm_objects(tmp_path, level, "-fcallgraph-info=su")
    frames, calls = _call_graph(tmp_path)
    frames |= ASSEMBLY_FRAMES
    frames["a8_linear_s8"], calls["a8_linear_s8"] = 0, {"a8_conv1d_s8"}  # its other name
    assert set().union(*calls.values()) - set(frames) <= FROM_OUTSIDE
    of_token = {name: callees - OF_TILES for name, callees in calls.items()}
    depth = {
        name: _depth(name, frames, of_token if name.startswith("a8_stream") else calls, ())
        for name in frames
        if name.startswith("a8_")
    }
    deepest = max(depth, key=depth.get)
    assert {"a8_load", "a8_run", "a8_selftest"} <= set(depth)
    assert depth[deepest] <= 512, f"{deepest}: {depth[deepest]} bytes"


def _call_graph(folder):
    """Returns ({function: frame bytes}, {function: functions it calls}) of gcc's call graphs."""
    frames, calls = {}, {}
    for graph in folder.glob("*.ci"):
        text = graph.read_text()
        for name, size, kind in re.findall(r'title: "([^"]*)" label: "[^"]*\\n(\d+) bytes \((\w+)\)', text):
            assert kind == "static", f"{name} has a frame of {kind} size"
            frames[name] = int(size)
        for source, target in re.findall(r'sourcename: "([^"]*)" targetname: "([^"]*)"', text):
            calls.setdefault(source, set()).add(target)
    return frames, calls


def _depth(name, frames, calls, above):
    """Returns the largest stack in bytes below and with a function; what libgcc and libc take is counted as 32."""
    assert name not in above, f"{name} is recursive"
    below = [_depth(c, frames, calls, (*above, name)) for c in calls.get(name, ())]
    return frames.get(name, 32) + max(below, default=0)
