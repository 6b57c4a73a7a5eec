"""WAV clips: encodings, rates and padding; damaged headers are one sentence each."""

import builtins
import struct
import tracemalloc

import numpy as np
import pytest

from attn8.config import DataConfig
from attn8.data import load_recordings, load_windows, wav_folder
from attn8.errors import ConfigError, DataError, ToolMissingError

pytest.importorskip("soundfile")
pytest.importorskip("soxr")
RATE, N = 16000, 16000


def tone(hz=440, rate=RATE, n=N, seed=0):
    """Samples (n,) in -1..1."""
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(n) / rate + seed)


def wav(samples, rate=RATE, bits=16, channels=1, kind=1, extensible=False, changes=()):
    """A WAV file: ``samples`` (S,) go into the first channel, its negative into the others."""
    frames = np.stack([samples, *[-samples] * (channels - 1)], axis=1)
    if kind == 3:
        data = frames.astype("<f4").tobytes()
    elif bits == 8:
        data = np.rint(frames * 127 + 128).astype(np.uint8).tobytes()
    else:
        whole = np.rint(frames * (2.0 ** (bits - 1) - 1)).astype("<i8")
        data = whole.reshape(-1, 1).view(np.uint8).reshape(-1, 8)[:, : bits // 8].tobytes()
    size = channels * bits // 8
    fields = {"kind": 0xFFFE if extensible else kind, "channels": channels, "rate": rate, "size": size, "bits": bits}
    fields |= {"data": len(data)} | dict(changes)
    values = (fields["kind"], fields["channels"], fields["rate"], rate * size, fields["size"], fields["bits"])
    fmt = struct.pack("<HHIIHH", *values)
    if extensible:
        fmt += struct.pack("<HHIH", 22, bits, 0, kind) + bytes.fromhex("000000001000800000aa00389b71")
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"LIST" + struct.pack("<I", 3) + b"abc\0"
    body += b"data" + struct.pack("<I", fields["data"]) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def folder(tmp_path, first=None, **more):
    """Two labels and two speakers; ``first`` takes the place of one file."""
    clips = {f"{label}/{who}_1.wav": wav(tone(seed=i)) for i, (label, who) in enumerate(PEOPLE)}
    if first is not None:
        clips["yes/anna_1.wav"] = first
    for name, content in {**clips, **more}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


PEOPLE = [("yes", "anna"), ("yes", "ben"), ("no", "anna"), ("no", "ben")]


def config(**changes):
    return DataConfig(**{"window": N, "hop": N, **changes})


def first_of(set_):
    return next(r for r in set_.recordings if r.name == "yes/anna_1.wav")


def test_a_folder_of_clips_is_windows_of_counts(tmp_path):
    windows = load_windows(config(), folder(tmp_path))
    assert windows.x.shape == (4, N, 1) and windows.labels == ["no", "yes"] and windows.group_names == ["anna", "ben"]
    assert windows.channels == ["audio"] and windows.counts_per_unit.tolist() == [32768]
    assert windows.sample_rate_hz == RATE and windows.notes == ["read 4 of 4 files"]
    assert np.array_equal(windows.x[2, :, 0], np.rint(tone() * 32767))


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(("bits", "kind", "error"), [(8, 1, 260), (16, 1, 1), (24, 1, 2), (32, 1, 2), (32, 3, 1)])
def test_encodings_give_the_same_counts(tmp_path, bits, kind, error, extensible):
    set_ = load_recordings(config(), folder(tmp_path, wav(tone(), bits=bits, kind=kind, extensible=extensible)))
    assert not set_.faults
    found = first_of(set_).samples
    assert found.dtype == np.int16 and found.shape == (N, 1)
    assert np.abs(found[:, 0] - tone() * 32768).max() <= error


def test_the_first_channel_is_used(tmp_path):
    set_ = load_recordings(config(), folder(tmp_path, wav(tone(), channels=2)))
    assert np.array_equal(first_of(set_).samples[:, 0], np.rint(tone() * 32767))
    assert set_.notes == ["1 file: more than one channel, only the first is used"]


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_other_rates_are_brought_to_that_of_the_set(tmp_path, rate):
    set_ = load_recordings(config(), folder(tmp_path, wav(tone(rate=rate, n=rate), rate=rate)))
    found = first_of(set_).samples[:, 0]
    assert set_.sample_rate_hz == RATE and len(found) == N
    assert np.abs(found - tone() * 32768)[500:-500].max() < 40
    assert set_.notes == [f"1 file: recorded at {rate} Hz, brought to 16000 Hz"]


def test_the_configured_rate_wins_and_nothing_aliases(tmp_path):
    set_ = load_recordings(config(sample_rate_hz=8000.0, window=8000), folder(tmp_path, wav(tone(7000))))
    assert set_.sample_rate_hz == 8000 and {len(r.samples) for r in set_.recordings} == {8000}
    assert np.abs(first_of(set_).samples[100:-100]).max() < 20


def test_a_clip_of_half_a_window_is_padded_and_a_shorter_one_is_left_out(tmp_path):
    more = {"no/cleo_1.wav": wav(tone(n=N // 2 - 1))}
    set_ = load_recordings(config(), folder(tmp_path, wav(tone(n=N // 2)), **more))
    found = first_of(set_)
    assert found.samples.shape == (N, 1) and not found.samples[N // 2 :].any() and found.filled == N // 2
    assert set_.notes == ["1 file: shorter than a window of 16000 samples, filled up with zeros at the end"]
    assert "no/cleo_1.wav" in set_.faults[0].text and set_.faults[0].kind == "short" and len(set_.faults) == 1


def test_float_samples_beyond_full_scale_are_clipped(tmp_path):
    found = first_of(load_recordings(config(), folder(tmp_path, wav(tone() * 4, bits=32, kind=3)))).samples
    assert (found.min(), found.max()) == (-32768, 32767)


def nan():
    samples = tone()
    samples[5] = np.nan
    return wav(samples, bits=32, kind=3)


FAULTS = {
    "empty": (lambda: b"", "unreadable", "got an empty file, expected a RIFF/WAVE file"),
    "flac": (lambda: b"fLaC" + bytes(100), "unreadable", "a file that starts with 66 4c 61 43"),
    "rf64": (lambda: b"RF64" + wav(tone())[4:], "unreadable", "expected a RIFF/WAVE file"),
    "aiff": (lambda: b"FORM\0\0\0\x20AIFF" + bytes(40), "unreadable", "expected a RIFF/WAVE file"),
    "no_data": (lambda: wav(tone())[:40], "header", "no chunk data"),
    "no_fmt": (lambda: wav(tone()).replace(b"fmt ", b"junk"), "header", "no chunk fmt"),
    "cut": (lambda: wav(tone())[:-100], "unreadable", "got 31900 bytes of samples, expected 32000"),
    "claims": (lambda: wav(tone(), changes={"data": 0xFFFFFFF0}), "unreadable", "expected 4294967280"),
    "no_frames": (lambda: wav(tone(n=0)), "unreadable", "no samples"),
    "slow": (lambda: wav(tone(), rate=4000), "rate", "got 4000 Hz, expected 8000..48000 Hz"),
    "fast": (lambda: wav(tone(), rate=96000), "rate", "got 96000 Hz"),
    "mulaw": (lambda: wav(tone(), changes={"kind": 7}), "header", "got encoding 7 of 16 bits, expected PCM"),
    "double": (lambda: wav(tone(), changes={"kind": 3, "bits": 64}), "header", "got float of 64 bits"),
    "no_channel": (lambda: wav(tone(), changes={"channels": 0}), "header", "0 channels"),
    "frame": (lambda: wav(tone(), changes={"size": 3}), "header", "1 channels in frames of 3 bytes"),
    "nan": (nan, "value", "NaN or inf"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_leaves_one_file_out_in_one_sentence(tmp_path, name):
    make, kind, words = FAULTS[name]
    set_ = load_recordings(config(), folder(tmp_path, make()))
    (fault,) = set_.faults
    assert (fault.kind, fault.file) == (kind, "yes/anna_1.wav") and words in fault.text and "\n" not in fault.text
    assert set_.lines()[-2:] == [f"left out {fault.text}", "read 3 of 4 files"]
    with pytest.raises(DataError) as caught:
        load_recordings(config(strict=True), tmp_path)
    assert str(caught.value) == fault.text


def test_settings_that_do_not_go_with_clips_are_config_errors(tmp_path):
    folder(tmp_path)
    with pytest.raises(ConfigError, match=r"data\.sample_rate_hz: got 50, expected 1000\.\.48000 Hz"):
        load_windows(config(sample_rate_hz=50.0), tmp_path)
    with pytest.raises(ConfigError, match=r"data\.channels: got ax, ay, expected one channel"):
        load_windows(config(channels=["ax", "ay"]), tmp_path)


@pytest.mark.parametrize("package", ["soundfile", "soxr"])
def test_without_the_extra_the_command_that_brings_it_is_named(tmp_path, monkeypatch, package):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == package:
            raise ImportError(name)
        return real(name, *arguments, **options)

    folder(tmp_path, wav(tone(), rate=8000))
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ToolMissingError, match=rf"{package}, .* pip install 'attn8\[audio\]'"):
        load_windows(config(), tmp_path)


def test_a_clip_under_two_names_is_used_once(tmp_path):
    set_ = load_recordings(config(), folder(tmp_path, **{"yes/zed_1.wav": wav(tone(seed=1))}))
    assert len(set_.recordings) == 4 and [fault.kind for fault in set_.faults] == ["duplicate"]
    assert "yes/zed_1.wav: got the same bytes as yes/ben_1.wav" in set_.faults[0].text


def test_bringing_a_clip_to_a_higher_rate_takes_little_more_than_the_result(tmp_path):
    raw = wav(tone(rate=8000, n=8000 * 120), rate=8000, bits=8)
    folder(tmp_path, raw)
    tracemalloc.start()
    try:
        set_ = load_recordings(config(sample_rate_hz=48000.0), tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * sum(r.samples.nbytes for r in set_.recordings) + (8 << 20)


def test_blocks_make_no_difference(tmp_path, monkeypatch):
    folder(tmp_path, wav(tone(rate=44100, n=44100), rate=44100))
    expected = first_of(load_recordings(config(), tmp_path)).samples
    monkeypatch.setattr(wav_folder, "BLOCK", 1000)
    assert np.array_equal(first_of(load_recordings(config(), tmp_path)).samples, expected)
