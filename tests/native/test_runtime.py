"""The C core on this machine: what a user sees when something is missing or wrong."""

import os

import numpy as np
import pytest
from attn8.device import ModelError

import models
from attn8 import reference, runtime
from attn8.errors import Attn8Error, DataError, ToolMissingError
from tools import CORE, need


@pytest.fixture
def data():
    need("cc")
    return models.random_model(4)


def test_sources_are_those_of_the_core():
    found = runtime.find_core_sources()
    assert found == {p.name: p.read_bytes() for p in sorted(CORE.glob("a8_*.[ch]"))}


def test_missing_compiler_is_one_line_with_the_command_that_brings_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ToolMissingError, match="C compiler") as error:
        runtime.build_core()
    assert "\n" not in str(error.value)
    assert "install" in str(error.value)


def test_cc_names_the_compiler(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -O1")
    with pytest.raises(ToolMissingError, match="no-such-compiler"):
        runtime.compiler()


def test_compiler_that_fails_is_named(monkeypatch, tmp_path):
    need("false")
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ToolMissingError, match="false cannot build the C core"):
        runtime.build_core()


def test_core_is_built_once_into_the_cache(monkeypatch, tmp_path):
    need("cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = runtime.build_core()
    made = first.stat().st_mtime_ns
    assert tmp_path in first.parents
    assert [p.name for p in first.parent.iterdir()] == ["core.so"]
    assert runtime.build_core() == first
    assert first.stat().st_mtime_ns == made


def test_cache_that_cannot_be_written_is_an_error_of_one_line(monkeypatch, tmp_path):
    need("cc")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(Attn8Error, match="XDG_CACHE_HOME"):
        runtime.build_core()


def test_faulty_file_is_a_model_error(data):
    with pytest.raises(ModelError, match="CRC") as error:
        runtime.CModel(data[:-1] + bytes([data[-1] ^ 1]))
    assert error.value.code == 5
    for n in (0, 23):
        with pytest.raises(ModelError, match="TRUNCATED"):
            runtime.CModel(data[:n])
        assert runtime.check_model_c(data[:n]) == 1


def test_description_is_that_of_the_reference(data):
    c, numpy = runtime.CModel(data), reference.parse(data)
    g = numpy.graph
    assert (c.n_steps, c.n_channels, c.n_outputs, c.n_ops) == (g.n_steps, g.n_channels, len(g.labels), len(g.ops))
    assert (c.arena_bytes, c.live_bytes, c.macs) == (numpy.arena_bytes, numpy.live_bytes, numpy.macs)
    assert c.n_golden == len(g.golden.vectors)
    assert c.dtype == reference.Reference(data).dtype


def test_wrong_windows_are_refused(data):
    c = runtime.CModel(data)
    x = models.windows_for(data, 3)
    for wrong in (x.astype(np.float32), x[:, 1:], x[0, 0], x[None], x.astype(np.int32)):
        with pytest.raises(ModelError, match="INPUT"):
            c.run(wrong)


def test_windows_may_be_none_or_strided(data):
    c = runtime.CModel(data)
    x = models.windows_for(data, 6)
    y = c.run(x)
    assert np.array_equal(c.run(x[2:3]), y[2:3])
    assert np.array_equal(c.run(x[::2]), y[::2])
    assert np.array_equal(c.run(np.asfortranarray(x)), y)
    assert c.run(x[:0]).shape == (0, c.n_outputs)


def test_score_is_that_of_the_reference(data):
    from attn8 import arithmetic

    c, softmax = runtime.CModel(data), reference.parse(data).graph.score
    outputs = np.random.default_rng(0).integers(-128, 128, (300, c.n_outputs)).astype(np.int8)
    best, score = arithmetic.score(outputs, softmax)
    assert [c.score(y) for y in outputs] == list(zip(best.tolist(), score.tolist(), strict=True))
    with pytest.raises(DataError):
        c.score(outputs[0][:-1])


def test_golden_vector_that_does_not_exist_is_refused(data):
    c = runtime.CModel(data)
    with pytest.raises(ModelError, match="INPUT"):
        c.golden_input(c.n_golden)


def test_selftest_finds_a_wrong_golden_output(data):
    import struct

    from attn8.pack import seal

    n_ops = struct.unpack_from("<H", data, 6)[0]
    n_outputs = len(reference.parse(data).graph.labels)
    at = len(data) - 4 * n_outputs - (-4 * n_outputs % 4)
    body = bytearray(data[24:])
    body[at - 24] ^= 1
    with pytest.raises(ModelError, match="SELFTEST"):
        runtime.CModel(seal(bytes(body), n_ops)).selftest()
    runtime.CModel(data).selftest()


def test_core_loads_where_it_was_built_read_only(data, monkeypatch, tmp_path):
    """A second process finds the library without writing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = runtime.build_core()
    os.chmod(library.parent, 0o500)
    try:
        assert runtime.build_core() == library
    finally:
        os.chmod(library.parent, 0o700)


def test_a_damaged_library_in_the_cache_is_built_again(monkeypatch, tmp_path):
    need("cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = runtime.build_core()
    library.write_bytes(b"")
    runtime._core.cache_clear()
    assert runtime.CModel(models.random_model(1)).n_ops > 0
    assert library.stat().st_size > 0


def test_a_library_that_others_could_have_written_is_built_again(monkeypatch, tmp_path):
    need("cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = runtime.build_core()
    library.write_bytes(b"planted")
    library.chmod(0o777)
    assert runtime.build_core().read_bytes() != b"planted"


def test_a_cache_folder_that_others_can_write_is_refused(monkeypatch, tmp_path):
    need("cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runtime.build_core().parent.chmod(0o777)
    with pytest.raises(ToolMissingError, match="others can write"):
        runtime.build_core()
