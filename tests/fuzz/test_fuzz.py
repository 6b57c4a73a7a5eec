"""Malformed files: a million through the C checker, C against NumPy and the device checker, every branch taken."""

import json
import os
import struct
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from attn8.device import check_model as device_check_model

import models
from attn8 import reference, spec
from faulty import FAULTS, in_place, random_graph
from tools import CORE, ROOT, SANITIZE, core_program, core_sources, need, run, scratch

SMALL = {"n_steps": 8, "n_channels": 2, "kernel": 3, "stride": 2, "pad_left": 1, "pad_right": 1, "left": 2, "right": 2}
SMALL |= {"ff": 4, "layers": 1, "n_outputs": 2, "norm": "batch", "activation": "relu", "heads": 2, "head_size": 2}
SEEDS = (
    {},
    {"norm": "layer", "head_size": 4},
    {"norm": "rms", "heads": 1, "head_size": 8, "activation": "gelu"},
    {"int16": False, "right": 0, "pad_right": 0},
    {"heads": 3, "head_size": 3},
)
QUICK = {**os.environ, "ASAN_OPTIONS": "quarantine_size_mb=1"}  # freed blocks need not wait: none is kept
N_FILES = int(os.environ.get("ATTN8_FUZZ_FILES", 1_000_000))
N_MUTANTS = int(os.environ.get("ATTN8_FUZZ_MUTANTS", 100_000))
CHECKED = {e.code for e in spec.ERRORS if e.code < 30}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Paths of small models that between them hold every op."""
    folder = tmp_path_factory.mktemp("seeds")
    for i, fixed in enumerate(SEEDS):
        (folder / f"{i}.a8").write_bytes(models.random_model(i, **{**SMALL, **fixed}))
    return sorted(folder.iterdir())


def fuzz(*arguments, flags=("-O2", *SANITIZE)):
    """Runs the mutator and returns its report."""
    return json.loads(run(core_program("fuzz/fuzz_check", *flags), *arguments, env=QUICK))


def test_a_million_malformed_files_do_no_harm(seeds):
    report = fuzz("random", N_FILES, 1, 40_000, *seeds)
    assert report["files"] == N_FILES
    assert 0.4 < report["crc_repaired"] / N_FILES < 0.6
    assert report["run_changed"] == report["run"] > N_FILES // 20
    assert report["streams"] > N_FILES // 200
    assert {int(c) for c in report["codes"]} == {0, *CHECKED}


def test_every_byte_of_the_header_every_truncation_and_every_bit(seeds):
    report = fuzz("every", 1 << 31, seeds[0])
    n = seeds[0].stat().st_size
    assert report["files"] == 2 * 24 * 255 + 3 * n + 2 * 8 * n
    assert report["codes"]["0"] == report["accepted"] == report["run"]


def test_optimisation_changes_neither_codes_nor_outputs(seeds):
    hashes = {fuzz("random", 20_000, 3, 40_000, *seeds, flags=(level,))["hash"] for level in ("-O0", "-Os", "-O3")}
    assert hashes == {fuzz("random", 20_000, 3, 40_000, *seeds)["hash"]}


def mutants(count, seed, seeds):
    """Yields (bytes, code of the C checker) of mutants whose CRC is nearly always repaired."""
    path = scratch() / f"mutants-{seed}"
    fuzz("write", count, seed, path, *seeds)
    with path.open("rb") as file:
        while head := file.read(8):
            n_bytes, code = struct.unpack("<Ii", head)
            yield file.read(n_bytes), -code
    path.unlink()


def test_numpy_gives_the_code_of_c_on_mutants(seeds):
    counts = Counter()
    for data, code in mutants(N_MUTANTS, 7, seeds):
        assert reference.check_model(data) == code, saved(data)
        counts[code] += 1
    assert counts.total() == N_MUTANTS
    assert set(counts) >= CHECKED - {spec.ERROR_CODES["TOO_LARGE"]}


def test_device_checker_gives_the_code_of_c_on_mutants(seeds):
    for data, code in mutants(2_000, 11, seeds):
        assert device_check_model(data) == code, saved(data)


def saved(data):
    """Keeps a file on which two checkers disagree and says where."""
    path = Path(os.environ.get("ATTN8_FUZZ_KEEP", ".")) / "disagreement.a8"
    path.write_bytes(data)
    return f"the file is in {path}"


COVERED = ("a8_check.c", "a8_plan.c", "a8_model.c", "a8_kernels.c")


@pytest.fixture(scope="module")
def coverage(seeds):
    """Runs tests and mutator with counters; returns {source name: [lines with a branch that was never taken]}."""
    folder = scratch() / "coverage"
    folder.mkdir()
    objects = [_compile(source, folder, "--coverage", "-O0") for source in core_sources()]
    programs = {}
    for main in ("native/core_test", "fuzz/fuzz_check"):
        source = ROOT / "tests" / f"{main}.c"
        programs[source.stem] = folder / source.stem
        run(need("gcc"), "--coverage", _compile(source, folder), *objects, "-o", programs[source.stem])
    _exercise(programs, seeds, folder)
    return {source.name: _missed(source, folder) for source in core_sources() if source.name in COVERED}


def _compile(source, folder, *flags):
    target = folder / f"{source.stem}.o"
    run(need("gcc"), "-std=c99", *flags, f"-I{CORE}", "-c", source, "-o", target)
    return target


def _exercise(programs, seeds, folder):
    """What the other tests do, with fewer mutants: the API, every fault, large and small models."""
    wide = folder / "wide.a8"
    wide.write_bytes(models.random_model(99, heads=4, head_size=64, norm="layer", n_steps=8, layers=1))
    several = [folder / f"{seed}.a8" for seed in range(40)]
    for seed, path in enumerate(several):
        path.write_bytes(models.random_model(seed))
    listed = folder / "faults.list"
    listed.write_bytes(b"".join(struct.pack("<I", len(data)) + data for _, _, data in FAULTS))
    run(programs["core_test"], "api", *seeds, wide, *several)
    for seed, path in enumerate(several[:10]):
        path.write_bytes(models.random_model(seed, pad_right=0, right=0))
    run(programs["core_test"], "state", *several[:10])
    graphs = [*in_place(), *map(random_graph, range(60))]
    planned = [folder / f"graph{i}.a8" for i in range(len(graphs))]
    for path, data in zip(planned, graphs, strict=True):
        path.write_bytes(data)
    run(programs["core_test"], "arena", wide, *planned)
    run(programs["core_test"], "codes", listed)
    run(programs["fuzz_check"], "random", 50_000, 5, 100_000, *seeds)


def _missed(source, folder):
    need("gcov")
    text = subprocess.run(
        ["gcov", "--json-format", "--stdout", "-b", f"{source.stem}.gcda"], cwd=folder, capture_output=True, check=True
    ).stdout
    lines = [line for file in json.loads(text)["files"] for line in file["lines"] if Path(file["file"]).suffix == ".c"]
    assert lines
    return sorted({n["line_number"] for n in lines if not n["count"] or any(not b["count"] for b in n["branches"])})


@pytest.mark.parametrize("name", COVERED)
def test_every_branch_is_taken(name, coverage):
    assert coverage[name] == [], f"lines of {name} with a branch that no test takes"
