"""Writes the files of the device tests on the host: models, windows, and the outputs of the reference."""

import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from attn8.pack import pack
from attn8.random_models import Shape, build_graph, recording_for, windows_for
from attn8.reference import Reference

SHAPES = {
    "int16": Shape(norm="layer", activation="gelu", n_outputs=3),
    "int8": Shape(n_steps=17, n_channels=2, norm="rms", heads=3, head_size=5, right=0, n_outputs=5, int16=False),
}
# Kernels longer and shorter than the stride, spans from one token to all, hops that are and are no multiple of it.
STREAMS = {
    "stream_a": Shape(norm="layer", activation="gelu").causal(hop=5),
    "stream_b": Shape(16, 2, 3, 1, 2, left=15, heads=3, head_size=3, ff=5, layers=2, norm="rms", int16=False).causal(
        hop=1
    ),
    "stream_c": Shape(20, 1, 2, 3, 0, left=0, heads=1, layers=3, ff=5, n_outputs=2).causal(hop=6),
    "stream_d": Shape(18, 6, 7, 3, 4, left=2, heads=1, head_size=9, ff=5, n_outputs=4).causal(hop=7),
}
N_WINDOWS = 8
STREAM_WINDOWS = 10  # samples of a recording, in windows
_KEPT = []  # the temporary folder lives as long as the process


def repaired(data):
    """Returns the file with its length and CRC put right."""
    body = bytes(data[:8]) + len(data).to_bytes(4, "little")
    crc = zlib.crc32(bytes(data[16:]), zlib.crc32(body))
    return body + crc.to_bytes(4, "little") + bytes(data[16:])


def records(data):
    """Returns (offset, payload bytes) of each record of a valid file."""
    at, found = 24, []
    while at < len(data):
        n = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((at, n))
        at += 8 + n
    return found


def wrong_golden(data):
    """Returns the file with one expected output changed."""
    broken = bytearray(data)
    at, _ = records(data)[-1]
    n_channels = int.from_bytes(data[records(data)[1][0] + 10 :][:2], "little")
    broken[at + 8 + 4 + 4 * n_channels + 8 * data[at + 8]] ^= 1
    return repaired(broken)


def make_files(folder=None):
    """Writes the files, into a temporary folder if none is given, and returns the folder's path."""
    if folder is None:
        _KEPT.append(tempfile.TemporaryDirectory(prefix="attn8_"))
        folder = _KEPT[-1].name
    for name, shape in SHAPES.items():
        graph = build_graph(shape, seed=1)
        data = pack(graph)
        x = windows_for(data, N_WINDOWS, seed=2)
        _write(folder, f"{name}.a8", data)
        _write(folder, f"{name}.x", x.tobytes())
        _write(folder, f"{name}.y", Reference(data).run(x).tobytes())
    for name, shape in STREAMS.items():
        data = pack(build_graph(shape, seed=1))
        x = recording_for(data, STREAM_WINDOWS * shape.n_steps, seed=3)
        _write(folder, f"{name}.a8", data)
        _write(folder, f"{name}.x", x.tobytes())
        _write(folder, f"{name}.y", Reference(data).run_recording(x).tobytes())
    graph = build_graph(SHAPES["int16"], seed=1)
    graph.thresholds = np.full_like(graph.thresholds, 100)
    _write(folder, "strict.a8", pack(graph))
    _write(folder, "looks_ahead.a8", pack(build_graph(replace(SHAPES["int16"], pad_right=0), seed=1)))
    graph = build_graph(STREAMS["stream_a"], seed=1)
    graph.counts_per_unit[1] = 0
    _write(folder, "no_scale.a8", pack(graph))
    _write(folder, "wrong_golden.a8", wrong_golden(Path(folder, "int16.a8").read_bytes()))
    return str(folder)


def _write(folder, name, data):
    Path(folder, name).write_bytes(data)
