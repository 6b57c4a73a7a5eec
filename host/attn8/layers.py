"""The torch modules of the network. Tensors are (N, T, D): windows, tokens, features."""

import math

import torch
from torch import nn
from torch.nn import functional

NORM_EPS = 1e-5


def activation(name):
    """The activation module of a configuration name."""
    return {"relu": nn.ReLU, "gelu": nn.GELU}[name]()


class TokenBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the features of (N, T, D); it vanishes into the linear that follows."""

    def forward(self, x):
        return super().forward(x.flatten(0, 1)).view_as(x)


def token_norm(name, d_model):
    """The norm in front of a branch: TokenBatchNorm, nn.LayerNorm or nn.RMSNorm."""
    if name == "batch":
        return TokenBatchNorm(d_model, eps=NORM_EPS)
    return {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[name](d_model, eps=NORM_EPS)


class ConvStage(nn.Module):
    """Strided convolution, BatchNorm, activation: (N, T_in, C_in) to (N, ceil(T_in / stride), C_out).

    Zero padding ``pad_left``, ``pad_right``; all of it on the left in a causal model, so that no output
    sees a later sample.
    """

    def __init__(self, n_in, stage, length, causal, activation_name):
        super().__init__()
        self.n_tokens = math.ceil(length / stage.stride)
        padding = max(0, (self.n_tokens - 1) * stage.stride + stage.kernel - length)
        self.pad_left = padding if causal else padding // 2
        self.pad_right = padding - self.pad_left
        self.conv = nn.Conv1d(n_in, stage.channels, stage.kernel, stage.stride)
        self.norm = nn.BatchNorm1d(stage.channels, eps=NORM_EPS)
        self.activation = activation(activation_name)

    def forward(self, x):
        x = functional.pad(x.transpose(1, 2), (self.pad_left, self.pad_right))
        return self.activation(self.norm(self.conv(x))).transpose(1, 2)


def attention_window(span, n_tokens, causal):
    """Keys that query i sees, as (left, right): i - left .. i + right.

    Args:
        span: keys a query sees, itself included; 0 = all.
        n_tokens: T; a window never reaches farther than T - 1.
        causal: True puts the whole window on the left.
    """
    farthest = n_tokens - 1
    if span == 0:
        return farthest, 0 if causal else farthest
    left = span - 1 if causal else span // 2
    return min(left, farthest), min(span - 1 - left, farthest)


class Attention(nn.Module):
    """Windowed softmax attention with a relative bias: (N, T, D) to (N, T, D).

    Query i sees keys i - left .. i + right inside the window of tokens; ``relative_bias[h, j - i + left]`` is
    added to its score of key j.
    """

    def __init__(self, d_model, heads, span, n_tokens, causal):
        super().__init__()
        self.heads, self.head_dim, self.causal = heads, d_model // heads, causal
        self.left, self.right = attention_window(span, n_tokens, causal)
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)
        self.relative_bias = nn.Parameter(torch.zeros(heads, self.left + self.right + 1))
        offset = torch.arange(n_tokens)[None, :] - torch.arange(n_tokens)[:, None]
        self.register_buffer("outside", (offset < -self.left) | (offset > self.right), persistent=False)
        self.register_buffer("bias_index", (offset + self.left).clamp(0, self.left + self.right), persistent=False)

    def forward(self, x):
        mixed = self.weights(x) @ self.split_heads(self.value(x))
        return self.out(mixed.transpose(1, 2).flatten(2))

    def weights(self, x):
        """How query i weighs key j: (N, T, D) to (N, H, T, T), 0 outside the window, rows that add up to 1."""
        query, key = self.split_heads(self.query(x)), self.split_heads(self.key(x))
        scores = query @ key.transpose(2, 3) / math.sqrt(self.head_dim) + self.relative_bias[:, self.bias_index]
        return scores.masked_fill(self.outside, -math.inf).softmax(3)

    def split_heads(self, x):
        """(N, T, D) to (N, H, T, D / H)."""
        return x.unflatten(2, (self.heads, self.head_dim)).transpose(1, 2)


class Block(nn.Module):
    """Attention and feed-forward, each normalised first and added to what came in."""

    def __init__(self, model, n_tokens):
        super().__init__()
        self.norm1 = token_norm(model.norm, model.d_model)
        self.attention = Attention(model.d_model, model.heads, model.span, n_tokens, model.causal)
        self.norm2 = token_norm(model.norm, model.d_model)
        self.fc1 = nn.Linear(model.d_model, model.ff)
        self.activation = activation(model.activation)
        self.fc2 = nn.Linear(model.ff, model.d_model)
        self.dropout = nn.Dropout(model.dropout)

    def forward(self, x):
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.fc2(self.activation(self.fc1(self.norm2(x)))))
