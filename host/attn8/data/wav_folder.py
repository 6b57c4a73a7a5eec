"""A folder of WAV files, one clip a file; needs the extra ``audio`` (libsndfile and soxr)."""

import io
import struct
from collections import Counter

import numpy as np

from ..errors import ConfigError, DataError, ToolMissingError
from .files import read_bytes
from .recordings import FileFault, Recording, shown

MIN_HZ, MAX_HZ = 8000, 48000
MIN_TARGET_HZ = 1000  # of the set
FULL_SCALE = 32768  # counts of a sample of 1.0
MAX_WAV_CHANNELS = 64
MAX_SET_SAMPLES = 256 << 20
MAX_CHUNKS = 1000
BLOCK = 1 << 16  # frames
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
ENCODINGS = {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32)}
CHANNEL = "audio"


def read_wav_files(entries, data_config, reading):
    """Read the files of a folder.

    Args:
        entries: list of files.Entry.    data_config: attn8.config.DataConfig.    reading: recordings.Reading.
    Returns:
        (recordings, channels, units, counts_per_unit float32 (1,), sample_rate_hz); samples are int16 counts.
    Raises:
        DataError: if the files are too large together, or for the first fault where the settings are strict.
        ToolMissingError: without the extra ``audio``.    ConfigError: for a rate no clip can be brought to.
    """
    _check_settings(data_config)
    clips, n_samples = [], 0
    for entry in entries:
        try:
            samples, rate = read_wav(entry, reading)
        except FileFault as fault:
            reading.add_fault(entry.name, fault)
            continue
        n_samples += len(samples)
        _check_size(reading, n_samples)
        clips.append((entry, samples, rate))
    target = data_config.sample_rate_hz or _most_common([rate for _, _, rate in clips])
    _check_size(reading, sum(len(samples) * target / rate for _, samples, rate in clips))
    clips.reverse()
    recordings = []
    while clips:  # each clip is let go before the next one grows to the rate of the set
        recordings.append(_recording(*clips.pop(), target, data_config.window, reading))
    return recordings, data_config.channels or [CHANNEL], [""], np.full(1, FULL_SCALE, np.float32), float(target)


def _check_size(reading, n_samples):
    if n_samples > MAX_SET_SAMPLES:
        expected = f"at most {MAX_SET_SAMPLES}; split the folder"
        raise DataError(f"{reading.folder}: got {n_samples:.0f} samples, expected {expected}")


def _check_settings(data_config):
    if len(data_config.channels) > 1:
        got = ", ".join(data_config.channels)
        raise ConfigError(f"data.channels: got {got}, expected one channel for WAV files; leave it out")
    rate = data_config.sample_rate_hz
    if rate and not MIN_TARGET_HZ <= rate <= MAX_HZ:
        expected = f"{MIN_TARGET_HZ}..{MAX_HZ} Hz for WAV files"
        raise ConfigError(f"data.sample_rate_hz: got {rate:g}, expected {expected}; choose 16000")


def _most_common(rates):
    return Counter(rates).most_common(1)[0][0] if rates else 0


def _import(name):
    try:
        return __import__(name)
    except (ImportError, OSError):  # OSError: the library behind the package is absent
        raise ToolMissingError(f"{name}, which WAV files need, is not installed; pip install 'attn8[audio]'") from None


# ---- one file ------------------------------------------------------------------------------------------------------


def read_wav(entry, reading):
    """Read the first channel of a WAV file.

    Args:
        entry: files.Entry.    reading: recordings.Reading.
    Returns:
        float32 (S,) in -1..1, and the rate in Hz.
    Raises:
        FileFault: if it is damaged, of another kind, or there twice.
    """
    raw = read_bytes(entry.path)
    digest = reading.check_new(raw)
    n_channels, rate, n_frames = check_wav(raw)
    soundfile = _import("soundfile")
    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            if file.format not in ("WAV", "WAVEX") or (file.samplerate, file.channels) != (rate, n_channels):
                got = f"{file.format} at {file.samplerate} Hz"
                raise FileFault("header", "", got, "a plain WAV", "export it again")
            blocks = [block[:, 0].copy() for block in file.blocks(BLOCK, dtype="float32", always_2d=True)]
    except FileFault:
        raise
    # libsndfile and its wrapper fail in many ways on damaged bytes.
    except Exception as error:
        got = f"a file that libsndfile cannot read ({shown(str(error), 100)})"
        raise FileFault("unreadable", "", got, "a WAV file", "export it again") from None
    samples = np.concatenate([np.empty(0, np.float32), *blocks])
    if len(samples) != n_frames:
        expected = f"{n_frames}, as its header says"
        raise FileFault("unreadable", "", f"{len(samples)} samples", expected, "export it again")
    if not np.isfinite(samples).all():
        raise FileFault("value", "", "NaN or inf", "finite samples", "export it as 16-bit PCM")
    if n_channels > 1:
        reading.count("more than one channel, only the first is used")
    reading.remember(digest, entry.name)
    return samples, rate


def check_wav(raw):
    """Channels, rate in Hz and frames of a WAV file, all compared with its size.

    Raises:
        FileFault: naming what the header says.
    """
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        got = "an empty file" if not raw else f"a file that starts with {raw[:4].hex(' ')}"
        raise FileFault("unreadable", "", got, "a RIFF/WAVE file", "convert it to WAV")
    chunks = _chunks(raw)
    if b"fmt " not in chunks or b"data" not in chunks:
        missing = "fmt" if b"fmt " not in chunks else "data"
        raise FileFault("header", "", f"no chunk {missing}", "a WAV with fmt and data", "record or export it again")
    start, size = chunks[b"fmt "]
    n_channels, rate, frame_bytes = _format(raw[start : start + size])
    start, size = chunks[b"data"]
    if size > len(raw) - start:
        expected = f"{size}, as its header says"
        advice = "it is cut short: record or export it again"
        raise FileFault("unreadable", "", f"{len(raw) - start} bytes of samples", expected, advice)
    if size < frame_bytes:
        raise FileFault("unreadable", "", "no samples", "one or more", "record it again")
    return n_channels, rate, size // frame_bytes


def _chunks(raw):
    """Start and size of the first chunk of each name; sizes are what the header says."""
    chunks, at = {}, 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(raw):
            break
        name, size = struct.unpack_from("<4sI", raw, at)
        chunks.setdefault(name, (at + 8, size))
        if name == b"data":
            break
        at += 8 + size + size % 2
    return chunks


def _format(fmt):
    """Channels, rate and bytes of a frame."""
    if len(fmt) < 16:
        raise FileFault("header", "", f"a chunk fmt of {len(fmt)} bytes", "16 or more", "export it again")
    kind, n_channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", fmt)
    if kind == EXTENSIBLE and len(fmt) >= 26:
        (kind,) = struct.unpack_from("<H", fmt, 24)
    if (kind, bits) not in ENCODINGS:
        got = {PCM: "PCM", FLOAT: "float"}.get(kind, f"encoding {kind}")
        expected = "PCM of 8, 16, 24 or 32 bits, or float of 32"
        raise FileFault("header", "", f"{got} of {bits} bits", expected, "export it as 16-bit PCM")
    if not MIN_HZ <= rate <= MAX_HZ:
        raise FileFault("rate", "", f"{rate} Hz", f"{MIN_HZ}..{MAX_HZ} Hz", "export it at another rate")
    if not 1 <= n_channels <= MAX_WAV_CHANNELS or frame_bytes != n_channels * bits // 8:
        got = f"{n_channels} channels in frames of {frame_bytes} bytes"
        raise FileFault("header", "", got, "frames that hold one sample a channel", "export it again")
    return n_channels, rate, frame_bytes


# ---- all files -----------------------------------------------------------------------------------------------------


def _recording(entry, samples, rate, target, window, reading):
    """One clip at the rate of the set, with zeros behind it where that makes it one window long."""
    counts = _counts(samples, rate, target)
    if rate != target:
        reading.count(f"recorded at {rate} Hz, brought to {target:g} Hz")
    missing = window - len(counts)
    if 0 < missing <= window // 2:
        counts = np.pad(counts, (0, missing))
        reading.count(f"shorter than a window of {window} samples, filled up with zeros at the end")
    return Recording(
        name=entry.name,
        label=entry.label,
        group=entry.group,
        samples=counts[:, None],
        part=entry.part,
        filled=max(missing, 0) if len(counts) == window else 0,
        file=entry.name,
    )


def _counts(samples, rate, target):
    """Samples as int16 counts at the rate of the set, made in blocks."""
    starts = range(0, len(samples), BLOCK)
    blocks = (samples[start : start + BLOCK] for start in starts)
    if rate != target:
        stream = _import("soxr").ResampleStream(rate, target, 1, dtype="float32")
        blocks = (stream.resample_chunk(samples[at : at + BLOCK], last=at + BLOCK >= len(samples)) for at in starts)
    return np.concatenate([_rounded(block) for block in blocks])


def _rounded(block):
    block = np.clip(block, -1, 1)  # a float file may hold 1e38, which times the full scale is inf
    return np.minimum(np.rint(block * np.float32(FULL_SCALE)), 32767).astype(np.int16)
