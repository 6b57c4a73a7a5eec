"""The float network: attention against a plain loop, causality, shapes, input statistics."""

import math
from dataclasses import replace

import numpy as np
import pytest

from attn8.config import ModelConfig, Stage
from attn8.errors import ConfigError

torch = pytest.importorskip("torch")

from attn8.layers import Attention, ConvStage, TokenBatchNorm, attention_window  # noqa: E402
from attn8.model import Attn8Net, count_parameters  # noqa: E402


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def naive_attention(attention, x):
    """Attention of one window (T, D), one query and one head at a time."""
    query, key, value = (linear(x) for linear in (attention.query, attention.key, attention.value))
    mixed = torch.zeros_like(x)
    for head in range(attention.heads):
        part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
        for i in range(len(x)):
            seen = [j for j in range(len(x)) if i - attention.left <= j <= i + attention.right]
            scores = [
                query[i, part] @ key[j, part] / math.sqrt(attention.head_dim)
                + attention.relative_bias[head, j - i + attention.left]
                for j in seen
            ]
            weights = torch.stack(scores).softmax(0)
            mixed[i, part] = sum(weight * value[j, part] for weight, j in zip(weights, seen, strict=True))
    return attention.out(mixed)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("span", "n_tokens"), [(0, 7), (1, 5), (2, 6), (3, 9), (4, 9), (5, 4), (100, 6), (0, 1)])
def test_windowed_attention_equals_a_loop_over_queries(causal, span, n_tokens):
    attention = Attention(d_model=8, heads=2, span=span, n_tokens=n_tokens, causal=causal)
    torch.nn.init.normal_(attention.relative_bias)
    x = torch.randn(3, n_tokens, 8)
    expected = torch.stack([naive_attention(attention, window) for window in x])
    assert attention(x).allclose(expected, atol=1e-5)


def test_attention_window_holds_span_keys():
    assert attention_window(0, 10, False) == (9, 9)
    assert attention_window(0, 10, True) == (9, 0)
    for span in range(1, 11):
        assert attention_window(span, 10, True) == (span - 1, 0)
        left, right = attention_window(span, 10, False)
        assert left + right + 1 == span and left - right in (0, 1)


def model_config(**changes):
    return ModelConfig(**{"d_model": 16, "heads": 2, "ff": 24, "stem": [Stage(16, 8, 4)], **changes})


def make_net(config, window=64, n_channels=3, n_outputs=5):
    net = Attn8Net(config, window, n_channels, n_outputs)
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    for name, parameter in net.named_parameters():
        if name.endswith("relative_bias"):
            torch.nn.init.normal_(parameter)
    return net.eval()


def tokens_of(net, x):
    x = net.normalise(x)
    for stage in net.stem:
        x = stage(x)
    for block in net.blocks:
        x = block(x)
    return x


@pytest.mark.parametrize("norm", ["batch", "layer", "rms"])
@pytest.mark.parametrize("span", [0, 3])
def test_causal_token_sees_no_later_sample(norm, span):
    stem = [Stage(8, 5, 2), Stage(16, 3, 2)]
    net = make_net(model_config(causal=True, norm=norm, span=span, stem=stem))
    x = torch.randn(2, 64, 3) * 100
    changed = x.clone()
    changed[:, 40:] = torch.randn(2, 24, 3) * 100
    before, after = tokens_of(net, x), tokens_of(net, changed)
    assert before.shape == (2, 16, 16)
    assert before[:, :10].allclose(after[:, :10], atol=1e-5)  # token 9 ends with sample 39
    assert not before[:, 10].allclose(after[:, 10], atol=1e-3)  # token 10 takes sample 40 in


def test_bidirectional_token_sees_later_samples():
    net = make_net(model_config())
    x = torch.randn(1, 64, 3)
    changed = x.clone()
    changed[:, 60:] += 1
    assert not tokens_of(net, x)[:, 0].allclose(tokens_of(net, changed)[:, 0], atol=1e-4)


def test_span_bounds_what_a_token_sees():
    net = make_net(model_config(span=3, layers=1, stem=[Stage(16, 4, 4)]))
    x = torch.randn(1, 64, 3)
    changed = x.clone()
    changed[:, 32:] += 1
    before, after = tokens_of(net, x), tokens_of(net, changed)
    assert before[:, :7].allclose(after[:, :7], atol=1e-6) and not before[:, 7].allclose(after[:, 7], atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("length", "kernel", "stride"), [(128, 8, 4), (49, 3, 2), (10, 1, 4), (7, 9, 3), (1, 4, 4)])
def test_stem_makes_one_token_a_stride(causal, length, kernel, stride):
    stage = ConvStage(3, Stage(16, kernel, stride), length, causal, "relu")
    assert stage(torch.randn(2, length, 3)).shape == (2, math.ceil(length / stride), 16)
    assert stage.n_tokens == math.ceil(length / stride)
    assert stage.pad_right == 0 if causal else stage.pad_right - stage.pad_left in (0, 1)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["batch", "layer", "rms"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_variant_gives_logits_and_gradients(activation, norm, layers):
    net = Attn8Net(model_config(activation=activation, norm=norm, layers=layers), 64, 3, 5).train()
    logits = net(torch.randn(4, 64, 3))
    assert logits.shape == (4, 5) and len(net.blocks) == layers
    logits.square().sum().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None]
    assert not without


def test_batch_norm_over_tokens_equals_batch_norm_over_channels():
    norm, x = TokenBatchNorm(6), torch.randn(4, 9, 6)
    expected = torch.nn.BatchNorm1d(6)(x.transpose(1, 2)).transpose(1, 2)
    assert norm(x).allclose(expected, atol=1e-5)


def test_input_statistics_are_whole_means_and_never_zero():
    net = make_net(model_config())
    x = np.random.default_rng(0).normal([100.4, -7, 5], [50, 3, 0], (40, 64, 3)).astype(np.int16)
    net.set_input_statistics(x)
    flat = x.reshape(-1, 3).astype(float)
    assert net.input_mean.tolist() == np.rint(flat.mean(0)).tolist()
    assert np.allclose(net.input_std, np.maximum(flat.std(0), 1))
    assert net.input_std[2] == 1
    assert {"input_mean", "input_std"} <= set(net.state_dict())


def test_too_many_tokens_are_a_config_error():
    with pytest.raises(ConfigError, match="raise a stride"):
        Attn8Net(model_config(), 16000, 1, 2)


def test_parameters_are_counted():
    config = replace(model_config(), layers=1, span=5)
    d, ff, heads = 16, 24, 2
    block = 4 * (d * d + d) + heads * 5 + 2 * 2 * d + d * ff + ff + ff * d + d
    stem, tail = 16 * 3 * 8 + 16 + 2 * 16, 2 * d + d * 5 + 5
    assert count_parameters(Attn8Net(config, 64, 3, 5)) == stem + block + tail
