"""The float network. ``forward`` reads like the diagram in the README."""

import torch
from torch import nn

from .errors import ConfigError
from .layers import Block, ConvStage, token_norm

MAX_TOKENS = 1024  # training holds (N, H, T, T) scores: more would exhaust the memory of a laptop


class Attn8Net(nn.Module):
    """Windows of sensor counts to class logits.

    Args:
        model: attn8.config.ModelConfig.
        window: T, samples of a window.
        n_channels: C.
        n_outputs: classes.

    Buffers ``input_mean`` (whole numbers) and ``input_std`` (at least 1), both float (C,) in counts, belong to
    the training windows; ``set_input_statistics`` fills them. Raises ConfigError where the stem leaves more than
    MAX_TOKENS tokens.
    """

    def __init__(self, model, window, n_channels, n_outputs):
        super().__init__()
        self.register_buffer("input_mean", torch.zeros(n_channels))
        self.register_buffer("input_std", torch.ones(n_channels))
        self.window, self.n_channels, self.n_outputs = window, n_channels, n_outputs
        self.stem = nn.ModuleList()
        n_features, n_tokens = n_channels, window
        for stage in model.stem:
            self.stem.append(ConvStage(n_features, stage, n_tokens, model.causal, model.activation))
            n_features, n_tokens = stage.channels, self.stem[-1].n_tokens
        if n_tokens > MAX_TOKENS:
            raise ConfigError(
                f"model.stem: got {n_tokens} tokens for windows of {window} samples, expected at most {MAX_TOKENS}; "
                "raise a stride"
            )
        self.n_tokens = n_tokens
        self.blocks = nn.ModuleList(Block(model, n_tokens) for _ in range(model.layers))
        self.norm = token_norm(model.norm, model.d_model)
        self.head = nn.Linear(model.d_model, n_outputs)
        self.scores_per_window = model.heads * n_tokens**2  # of one layer's attention

    def forward(self, x):
        """x float (N, T, C) in counts -> logits float (N, n_outputs)."""
        x = self.normalise(x)
        for stage in self.stem:
            x = stage(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        x = x.mean(dim=1)
        return self.head(x)

    def normalise(self, x):
        """Counts to zero mean and unit standard deviation per channel."""
        return (x - self.input_mean) / self.input_std

    def set_input_statistics(self, x):
        """Take mean and standard deviation per channel from training windows.

        Args:
            x: int16 numpy array or tensor (N, T, C), counts.
        The mean is rounded: the integer model subtracts a whole number of counts.
        """
        x = torch.as_tensor(x).double().flatten(0, 1)
        self.input_mean.copy_(x.mean(0).round())
        self.input_std.copy_(x.std(0, correction=0).clamp_min(1.0))


def count_parameters(model):
    """Trainable numbers of a module."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
