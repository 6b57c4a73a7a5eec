"""The C core on emulated ESP32, ESP32-S3 and ESP32-C3: compiled for their processors, without an operating system.

The Xtensa ones run what xtensa_windowed.py makes of Debian's compiler.
"""

import os
import shlex
import sys

import labwired_chips as chips
import numpy as np
import pytest

from attn8 import native_build, reference, spec
from attn8.boards import xtensa_windowed
from models import Shape, build_model, recording_for
from tools import ROOT, missing, need, need_micropython_tree

sys.path.insert(0, str(ROOT / "tests" / "device"))

from make_files import repaired

SMALL = {
    "conv and batch norm": Shape(),
    "layer norm and GELU, int8 input": Shape(norm="layer", activation="gelu", int16=False, left=20, right=20),
    "RMS norm, one head, odd sizes": Shape(n_steps=31, n_channels=5, norm="rms", heads=1, head_size=9, layers=2, ff=13),
}
NATMOD_BYTES = 20 * 1024
XTENSAWIN = 10  # MicroPython's number of the architecture
SELFTEST_FAILED = -next(e.code for e in spec.ERRORS if e.name == "SELFTEST")


@pytest.fixture(params=chips.CHIPS)
def chip(request):
    try:
        import labwired  # noqa: F401
    except ImportError:
        missing("the package labwired", "pip install labwired")
    return request.param


def check_golden_outputs(chip, data):
    expected = reference.parse(data).golden_outputs
    report = chips.start(chip, data)
    assert (report.load, report.result) == (0, 0)
    assert report.outputs[: expected.shape[1]] == expected[-1].tobytes()


@pytest.mark.parametrize("kind", SMALL)
def test_small_models_give_their_golden_outputs(chip, kind):
    check_golden_outputs(chip, build_model(SMALL[kind], seed=7))


def test_shipped_model_gives_its_golden_outputs(chip):
    check_golden_outputs(chip, (ROOT / "models" / "shoulder_exercises" / "model.a8").read_bytes())


def test_wrong_expected_output_is_found(chip):
    data = bytearray(build_model(Shape()))
    last = reference.parse(bytes(data)).golden_outputs[-1].tobytes()
    at = bytes(data).rindex(last)
    data[at] ^= 1
    report = chips.start(chip, repaired(data))
    assert (report.load, report.result) == (0, SELFTEST_FAILED)


@pytest.mark.parametrize("block", [1, 5])
def test_stream_gives_the_outputs_of_the_reference_at_every_hop(chip, block):
    shape = Shape(n_steps=32, n_channels=3, stride=2, layers=2, left=7).causal(hop=5)
    data = build_model(shape, seed=3)
    x = recording_for(data, 150)
    expected = reference.Reference(data).run_recording(x)
    report = chips.start(chip, data, x.tobytes(), block * x[0].nbytes, shape.hop)
    assert (report.load, report.result) == (0, len(expected))
    assert len(expected) > 20
    got = np.frombuffer(report.outputs, np.int8)[: expected.size].reshape(expected.shape)
    np.testing.assert_array_equal(got, expected)


def test_xtensa_instructions_that_the_assembler_lacks_become_their_words():
    text = "\tentry\tsp, 48\n\tcallx8\ta9\n\tadd.n\ta2, a3, a4\n\tretw.n"
    expected = "\t.byte 0x36, 0x61, 0x00\n\t.byte 0xe0, 0x09, 0x00\n\tadd.n\ta2, a3, a4\n\t.byte 0x1d, 0xf0"
    assert xtensa_windowed.translated(text) == expected


@pytest.fixture
def espressif_gcc(tmp_path, monkeypatch):
    """Puts a program on PATH that compiles as Espressif's does, with the C library's headers beside it."""
    need("xtensa-lx106-elf-gcc")
    headers = "/usr/include/newlib"
    if not os.path.isdir(headers):
        missing("newlib", "apt-get install libnewlib-dev")
    command = [sys.executable, xtensa_windowed.__file__, "-isystem", headers]
    program = tmp_path / "bin" / native_build.COMPILERS["xtensawin"][0]
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_natmod_of_the_esp32_links_and_stays_within_its_size(tmp_path, espressif_gcc):
    """It is never run here: there is no ESP32 with MicroPython to load it."""
    found = native_build.build(need_micropython_tree(), ["xtensawin"], tmp_path)
    data = (tmp_path / found["modules"][0]["file"]).read_bytes()
    assert data[2] >> 2 & 15 == XTENSAWIN
    assert 0.85 * NATMOD_BYTES < len(data) <= NATMOD_BYTES, "smaller: lower the budget"
