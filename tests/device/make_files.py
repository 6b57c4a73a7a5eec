"""Writes the files of the device tests on the host: models, windows, and the outputs of the reference."""

import tempfile
import zlib
from pathlib import Path

import numpy as np

from attn8.pack import pack
from attn8.reference import Reference
from models import Shape, build_graph, windows_for

SHAPES = {
    "int16": Shape(norm="layer", activation="gelu", n_outputs=3),
    "int8": Shape(n_steps=17, n_channels=2, norm="rms", heads=3, head_size=5, right=0, n_outputs=5, int16=False),
}
N_WINDOWS = 8
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
    graph = build_graph(SHAPES["int16"], seed=1)
    graph.thresholds = np.full_like(graph.thresholds, 100)
    _write(folder, "strict.a8", pack(graph))
    _write(folder, "wrong_golden.a8", wrong_golden(Path(folder, "int16.a8").read_bytes()))
    return str(folder)


def _write(folder, name, data):
    Path(folder, name).write_bytes(data)
