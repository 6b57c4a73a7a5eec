"""Variation of training windows: what another person, another strap or another day would change."""

import torch


class Augment:
    """Vary a batch of windows at random.

    In this order: rotation of x, y, z triples (one rotation a window, shared by all triples, as for a turned
    sensor), change of speed with a shift in time, factor per channel, noise, channel dropout. Axes are never
    mirrored: a mirrored movement is another movement.

    Args:
        config: attn8.config.AugmentationConfig.
        axes: list of (x, y, z) channel numbers that rotate together.
        n_channels: C.
        mean, std: float (C,) of the training windows in counts; None = 0 and 1.
        seed: the same seed varies the same batches in the same way.
    """

    def __init__(self, config, axes, n_channels, mean=None, std=None, seed=0):
        self.config = config
        self.axes = [list(triple) for triple in axes]
        self.mean = torch.zeros(n_channels) if mean is None else torch.as_tensor(mean, dtype=torch.float32)
        self.std = torch.ones(n_channels) if std is None else torch.as_tensor(std, dtype=torch.float32)
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, x):
        """Return a varied copy of x, float (N, T, C) in counts."""
        config = self.config
        if config.rotation_rad and self.axes:
            x = self.rotate(x)
        if config.time_warp or config.crop:
            x = self.warp_time(x)
        if config.scale:
            x = x * (1 + config.scale * self.normal(len(x), 1, x.shape[2]))
        if config.noise:
            x = x + config.noise * self.std * self.normal(*x.shape)
        if config.channel_dropout:
            dropped = self.uniform(len(x), 1, x.shape[2]) < config.channel_dropout
            x = torch.where(dropped, self.mean, x)
        return x

    def rotate(self, x):
        """Turn every triple of a window about one random axis by one random angle."""
        angle = self.config.rotation_rad * self.normal(len(x))
        matrices = rotation_matrices(self.normal(len(x), 3), angle)
        x = x.clone()
        for triple in self.axes:
            x[:, :, triple] = x[:, :, triple] @ matrices
        return x

    def warp_time(self, x):
        """Change speed and position in time by linear interpolation; the ends are reflected."""
        n, length, _ = x.shape
        speed = 1 + self.config.time_warp * self.symmetric(n, 1)
        shift = self.config.crop * length * self.symmetric(n, 1)
        centre = (length - 1) / 2
        position = (torch.arange(length) - centre) * speed + centre + shift
        return interpolate(x, reflect(position, length))

    def normal(self, *shape):
        return torch.randn(shape, generator=self.generator)

    def uniform(self, *shape):
        return torch.rand(shape, generator=self.generator)

    def symmetric(self, *shape):
        return 2 * self.uniform(*shape) - 1


def rotation_matrices(axis, angle):
    """Rotation matrices (N, 3, 3) from axes (N, 3) of any length and angles (N,) in rad (Rodrigues)."""
    axis = axis / axis.norm(dim=1, keepdim=True).clamp_min(1e-9)
    x, y, z = axis.unbind(1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    sine, cosine = angle.sin().view(-1, 1, 1), angle.cos().view(-1, 1, 1)
    return torch.eye(3) + sine * cross + (1 - cosine) * cross @ cross


def reflect(position, length):
    """Fold positions outside [0, length - 1] back at the ends."""
    if length == 1:
        return torch.zeros_like(position)
    period = 2 * (length - 1)
    position = torch.remainder(position, period)
    return torch.minimum(position, period - position)


def interpolate(x, position):
    """Values of x (N, T, C) at fractional positions (N, T) in [0, T - 1]."""
    left = position.floor().long().clamp(0, x.shape[1] - 1)
    right = (left + 1).clamp_max(x.shape[1] - 1)
    fraction = (position - left)[:, :, None]
    rows = torch.arange(len(x))[:, None]
    return torch.lerp(x[rows, left], x[rows, right], fraction)
