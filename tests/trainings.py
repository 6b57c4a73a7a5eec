"""A training small enough to be run many times: three classes of tones, a network of one block."""

from dataclasses import replace

import numpy as np

from attn8.config import AugmentationConfig, Config, apply_overrides
from attn8.data import Windows

SMALL = [
    "training.epochs=3",
    "training.batch_size=16",
    "model.layers=1",
    "model.d_model=8",
    "model.heads=2",
    "model.ff=8",
    "model.stem=[{channels=8, kernel=4, stride=4}]",
    "data.validation_groups=1",
]


def small_config(*overrides):
    config = apply_overrides(Config(), [*SMALL, *overrides])
    quiet = AugmentationConfig(rotation_rad=0.2, time_warp=0.1, crop=0.0, scale=0.1, noise=0.1, channel_dropout=0.0)
    return replace(config, training=replace(config.training, augmentation=quiet))


def tones(n=161, length=32):
    """Three classes that differ in frequency, from seven people of different strength."""
    rng = np.random.default_rng(0)
    y, group = np.arange(n) % 3, np.arange(n) // 3 % 7
    time = np.arange(length)[None, :, None]
    phase = rng.uniform(0, 6.28, (n, 1, 3))
    wave = np.sin(time * 0.4 * (1 + y[:, None, None]) + phase) * (600 + 50 * group[:, None, None])
    x = np.rint(wave + rng.normal(0, 30, wave.shape) + [0, 500, -90]).astype(np.int16)
    names = [f"person {i}" for i in range(7)]
    return Windows(
        x, y, group, None, ["slow", "mid", "fast"], ["ax", "ay", "az"], ["g"] * 3,
        np.full(3, 1000, np.float32), 50.0, 16, "tones", names,
    )  # fmt: skip
