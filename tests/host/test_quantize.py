"""From float to integers: folding is exact, and the quantized model is the packed file, bit by bit."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn8.config import Config, ModelConfig, QuantizationConfig, Stage
from attn8.data import Windows, split_windows
from attn8.errors import QuantizeError, RunError
from attn8.pack import pack
from attn8.reference import Reference

torch = pytest.importorskip("torch")

from attn8 import quantize  # noqa: E402
from attn8.model import Attn8Net  # noqa: E402
from attn8.run_folder import save_weights  # noqa: E402

T, C, N_CLASSES = 32, 3, 4
SETTINGS = QuantizationConfig(calibration_windows=48)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def model_config(norm="batch", activation="relu", causal=False, span=0, layers=1, stages=1):
    stem = [Stage(8, 4, 2), Stage(8, 3, 2)][-stages:]
    return ModelConfig(
        stem=stem, d_model=8, heads=2, ff=12, norm=norm, activation=activation, causal=causal, span=span, layers=layers
    )


ARCHITECTURES = st.builds(
    model_config,
    norm=st.sampled_from(["batch", "layer", "rms"]),
    activation=st.sampled_from(["relu", "gelu"]),
    causal=st.booleans(),
    span=st.sampled_from([0, 1, 4, 5, 40]),
    layers=st.integers(1, 3),
    stages=st.integers(1, 2),
)


def sensor_windows(rng, n=160):
    """Smooth int16 counts (n, T, C) around different offsets."""
    walk = np.cumsum(rng.normal(0, 300, (n, T, C)), 1) + rng.normal(0, 500, (n, 1, C))
    return np.clip(np.rint(walk + np.array([0, 4000, -900])), -32768, 32767).astype(np.int16)


def extreme_windows(rng, n=12):
    """Noise over the whole range, its ends, and constants."""
    noise = rng.integers(-32768, 32768, (n, T, C))
    ends = rng.choice([-32768, 32767], (n, T, C))
    constant = np.repeat(rng.integers(-32768, 32768, (n, 1, C)), T, 1)
    return np.concatenate([noise, ends, constant]).astype(np.int16)


def trained_looking(config, x, seed=0):
    """An Attn8Net whose norms, biases and relative biases are not those of a fresh one."""
    torch.manual_seed(seed)
    net = Attn8Net(config, T, C, N_CLASSES)
    net.set_input_statistics(x)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.3, 3)
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.LayerNorm | torch.nn.RMSNorm):
            module.weight.data.uniform_(-1.5, 1.5)
        if isinstance(getattr(module, "bias", None), torch.nn.Parameter):
            module.bias.data.normal_(0, 0.3)
    for block in net.blocks:
        block.attention.relative_bias.data.normal_(0, 1)
    return net.eval()


def meta(n_classes=N_CLASSES):
    return {
        "labels": [f"class {i}" for i in range(n_classes)], "channels": ["ax", "ay", "az"], "units": ["g"] * C,
        "counts_per_unit": [8192.0] * C, "hop": 16, "sample_rate_hz": 50.0,
    }  # fmt: skip


def packed(net, config):
    return Reference(pack(quantize.to_graph(net, replace(Config(), model=config), meta())))


def assert_same_bits(net, model, x):
    """Every int8 tensor of the fake quantization is that of the file, and so are the logits."""
    with torch.no_grad():
        values, integers = net.tensors(torch.from_numpy(x).float())
        logits = net(torch.from_numpy(x).float())
    expected = model.tensors(x)
    assert len(integers) == len(expected)
    for ours, theirs in zip(integers, expected, strict=True):
        assert np.array_equal(ours, theirs)
    step = float(net.scales[-1])
    assert torch.equal(logits, torch.from_numpy(expected[-1][:, 0] * step).float())
    for value, integer, scale in zip(values, integers, net.scales.tolist(), strict=True):
        assert torch.allclose(value, torch.from_numpy(integer * scale).float())


# ---- folding --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(ARCHITECTURES, st.integers(0, 1000))
def test_folding_reproduces_the_logits(config, seed):
    rng = np.random.default_rng(seed)
    x = sensor_windows(rng, 32)
    net = trained_looking(config, x, seed)
    folded = quantize.fold(net, np.abs(x - net.input_mean.numpy()).reshape(-1, C).max(0))
    counts = torch.from_numpy(x).float()
    with torch.no_grad():
        expected, found = net(counts), folded.float_tensors(counts)[-1].squeeze(1)
    assert (expected - found).abs().max() <= 1e-4 * max(1, expected.abs().max())
    assert expected.std() > 0.01


def test_folding_leaves_the_model_alone_and_no_batch_norm():
    x = sensor_windows(np.random.default_rng(0), 32)
    net = trained_looking(model_config(), x)
    before = copy.deepcopy(net.state_dict())
    folded = quantize.fold(net)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    kinds = [type(op).__name__ for op in folded.ops]
    branch = ["FoldedLinear"] * 3 + ["FoldedAttention", "FoldedLinear", "FoldedAdd"]
    assert kinds == ["FoldedLinear", *branch, "FoldedLinear", "FoldedLinear", "FoldedAdd", "FoldedPool", "FoldedLinear"]


def test_the_first_layer_has_weights_of_usual_size():
    """One learning rate serves all layers only if the counts of a sensor do not end up in the weights."""
    x = sensor_windows(np.random.default_rng(0), 64)
    net = trained_looking(model_config(), x)
    folded = quantize.fold(net, np.abs(x - net.input_mean.numpy()).reshape(-1, C).max(0))
    first = folded.ops[0].weight.detach().abs().mean(dim=(1, 2))
    gain = (net.stem[0].norm.weight / (net.stem[0].norm.running_var + 1e-5).sqrt()).abs().detach()
    usual = gain * net.stem[0].conv.weight.detach().abs().mean(dim=(1, 2))
    assert ((first / usual).log().abs() < np.log(1.5)).all()


# ---- the same integers ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(ARCHITECTURES, st.integers(0, 1000))
def test_the_quantized_model_is_the_packed_file(config, seed):
    rng = np.random.default_rng(seed)
    x = sensor_windows(rng)
    net, report = quantize.calibrate(trained_looking(config, x, seed), x, SETTINGS)
    model = packed(net, config)
    model.selftest()
    assert_same_bits(net, model, np.concatenate([x[:40], extreme_windows(rng)]))
    assert report["observer"] in ("absmax", "quantile") and max(report["sqnr_db"].values()) > 8


def test_the_value_passes_to_the_last_bit_and_the_gradient_to_the_float_side():
    real = torch.tensor([1e8, -3.0, 0.1], requires_grad=True)
    value = torch.tensor([0.1, 1e-9, -7.7])
    found = quantize._through(real, value)
    (found * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert torch.equal(found, value) and real.grad.tolist() == [1, 2, 3]


def test_equal_integer_logits_stay_equal():
    x = sensor_windows(np.random.default_rng(0))
    model = trained_looking(model_config(), x)
    model.head.weight.data[1] = model.head.weight.data[0] * (1 + 1e-6)
    model.head.bias.data[1] = model.head.bias.data[0]
    net, _ = quantize.calibrate(model, x, SETTINGS)
    for training in (False, True):
        values, integers = net.train(training).tensors(torch.from_numpy(x).float())
        logits, (first, second) = values[-1].squeeze(1), torch.from_numpy(integers[-1][:, 0, :2].T)
        same = first == second
        assert same.float().mean() > 0.5
        assert torch.equal(logits[same, 0], logits[same, 1])


def dead_channels(net, x):
    net.stem[0].conv.weight.data[0] = 0
    net.stem[0].norm.bias.data[1] = -1e4
    net.blocks[0].fc1.weight.data[:3] = 0
    net.blocks[0].fc1.bias.data[:3] = -1
    net.blocks[0].attention.value.weight.data[:] = 0
    net.blocks[0].attention.value.bias.data[:] = 0


def constant_channels(net, x):
    x[:, :, 1] = 123
    net.set_input_statistics(x)


def huge_weights(net, x):
    net.blocks[0].fc1.weight.data *= 1000
    net.blocks[0].attention.query.weight.data *= 30


def tiny_weights(net, x):
    net.blocks[0].fc2.weight.data *= 1e-6
    net.blocks[0].fc2.bias.data *= 0
    net.blocks[0].attention.key.weight.data *= 1e-2


def uneven_channels(net, x):
    net.stem[0].conv.weight.data *= torch.logspace(-6, 2, 8)[:, None, None]
    net.head.weight.data *= torch.logspace(-4, 1, N_CLASSES)[:, None]


@pytest.mark.parametrize("spoil", [dead_channels, constant_channels, huge_weights, tiny_weights, uneven_channels])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_unusual_weights_and_data_give_a_file_with_the_same_bits(spoil, norm):
    rng = np.random.default_rng(1)
    config, x = model_config(norm), sensor_windows(rng)
    model = trained_looking(config, x)
    spoil(model, x)
    net, _ = quantize.calibrate(model, x, SETTINGS)
    assert_same_bits(net, packed(net, config), np.concatenate([x[:40], extreme_windows(rng)]))


def test_few_calibration_windows_are_enough_for_a_file():
    config, x = model_config(), sensor_windows(np.random.default_rng(0), 1)
    net, _ = quantize.calibrate(trained_looking(config, x), x, SETTINGS)
    assert_same_bits(net, packed(net, config), x)


@pytest.mark.parametrize("observer", ["absmax", "quantile"])
def test_a_chosen_observer_is_used(observer):
    x = sensor_windows(np.random.default_rng(0))
    model = trained_looking(model_config(), x)
    _, report = quantize.calibrate(model, x, replace(SETTINGS, observer=observer, quantile=0.95))
    assert report["observer"] == observer and list(report["sqnr_db"]) == [observer]


def test_auto_takes_the_better_observer():
    x = sensor_windows(np.random.default_rng(0))
    model = trained_looking(model_config(), x)
    net, report = quantize.calibrate(model, x, replace(SETTINGS, quantile=0.9))
    assert report["observer"] == max(report["sqnr_db"], key=report["sqnr_db"].get) == "absmax"
    same, _ = quantize.calibrate(model, x, replace(SETTINGS, observer="absmax"))
    assert torch.equal(net.scales, same.scales)


def test_a_model_that_is_not_calibrated_says_so():
    x = sensor_windows(np.random.default_rng(0), 8)
    net = quantize.fold(trained_looking(model_config(), x))
    with pytest.raises(QuantizeError, match="not calibrated; run: attn8 quantize"):
        net(torch.from_numpy(x).float())


# ---- the run folder -------------------------------------------------------------------------------------------------


def test_a_saved_quantized_model_loads_with_the_same_bits(tmp_path):
    config, x = model_config("layer", "gelu", stages=2), sensor_windows(np.random.default_rng(0))
    model = trained_looking(config, x)
    net, _ = quantize.calibrate(model, x, SETTINGS)
    net.temperature.fill_(1.7)
    save_weights(model.state_dict(), tmp_path, "")
    quantize.save_quantized(net, tmp_path)
    loaded = quantize.load_quantized(model, tmp_path)
    assert packed(loaded, config).model.data == packed(net, config).model.data
    assert float(loaded.temperature) == pytest.approx(1.7)


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 64])
def test_a_damaged_quantized_model_is_a_run_error(tmp_path, content):
    model = trained_looking(model_config(), sensor_windows(np.random.default_rng(0), 8))
    if content is not None:
        (tmp_path / quantize.QUANTIZED).write_bytes(content)
    with pytest.raises(RunError, match="run: attn8 quantize"):
        quantize.load_quantized(model, tmp_path)


def test_a_quantized_model_of_other_weights_is_a_run_error(tmp_path):
    x = sensor_windows(np.random.default_rng(0))
    model = trained_looking(model_config(), x)
    net, _ = quantize.calibrate(model, x, SETTINGS)
    save_weights(model.state_dict(), tmp_path, "")
    quantize.save_quantized(net, tmp_path)
    with torch.no_grad():
        model.head.bias += 1
    save_weights(model.state_dict(), tmp_path, "")
    with pytest.raises(RunError, match="other float weights"):
        quantize.load_quantized(model, tmp_path)


def test_a_quantized_model_of_another_shape_is_a_run_error(tmp_path):
    x = sensor_windows(np.random.default_rng(0))
    net, _ = quantize.calibrate(trained_looking(model_config(), x), x, SETTINGS)
    save_weights(net.state_dict(), tmp_path, "")
    quantize.save_quantized(net, tmp_path)
    with pytest.raises(RunError, match=quantize.QUANTIZED):
        quantize.load_quantized(trained_looking(model_config(layers=2), x), tmp_path)


# ---- temperature ----------------------------------------------------------------------------------------------------


def test_temperature_follows_how_sure_the_labels_allow_the_model_to_be():
    rng = np.random.default_rng(0)
    x = sensor_windows(rng)
    net, _ = quantize.calibrate(trained_looking(model_config(), x), x, SETTINGS)
    with torch.no_grad():
        predicted = net(torch.from_numpy(x).float()).argmax(1).numpy()
    quantize.fit_temperature(net, x, predicted)
    sure = float(net.temperature)
    quantize.fit_temperature(net, x, rng.integers(0, N_CLASSES, len(x)))
    assert sure == pytest.approx(0.5) and float(net.temperature) == pytest.approx(4.0)


# ---- training with integers -----------------------------------------------------------------------------------------


def calibrated(config=None, seed=0):
    x = sensor_windows(np.random.default_rng(seed))
    return quantize.calibrate(trained_looking(config or model_config(), x, seed), x, SETTINGS)[0], x


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_gradient_reaches_every_weight(norm):
    net, x = calibrated(model_config(norm, "gelu"))
    net.train()(torch.from_numpy(x).float()).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        assert torch.isfinite(parameter.grad).all()


def test_gradient_is_that_of_the_float_model_where_rounding_is_fine():
    net, x = calibrated()
    counts = torch.from_numpy(x).float()
    target = torch.arange(len(x)) % N_CLASSES
    torch.nn.functional.cross_entropy(net.train()(counts), target).backward()
    found = torch.cat([p.grad.flatten() for p in net.parameters()])
    net.zero_grad()
    torch.nn.functional.cross_entropy(net.float_tensors(counts)[-1].squeeze(1), target).backward()
    expected = torch.cat([p.grad.flatten() for p in net.parameters()])
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.98


def test_no_gradient_passes_outside_the_range():
    net, x = calibrated()
    net.scales[-1] *= 1e-3  # nearly every logit is cut
    logits = net.train()(torch.from_numpy(x).float())
    real = net.float_tensors(torch.from_numpy(x).float())[-1].squeeze(1)
    cut = real.abs() > 200 * net.scales[-1]
    assert cut.float().mean() > 0.9
    logits[cut].sum().backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in net.parameters())


def labelled_windows(n=240):
    """Classes that differ in frequency, from six people."""
    rng = np.random.default_rng(0)
    y, group = np.arange(n) % N_CLASSES, np.arange(n) // N_CLASSES % 6
    time = np.arange(T)[None, :, None]
    wave = np.sin(time * 0.3 * (1 + y[:, None, None]) + rng.uniform(0, 6.28, (n, 1, C))) * 900
    x = np.rint(wave + rng.normal(0, 60, wave.shape) + [0, 500, -90]).astype(np.int16)
    people = [f"person {i}" for i in range(6)]
    m = meta()
    return Windows(
        x,
        y,
        group,
        None,
        m["labels"],
        m["channels"],
        m["units"],
        np.full(C, 8192, np.float32),
        50.0,
        16,
        "waves",
        people,
    )


@pytest.mark.parametrize(("norm", "activation"), [("batch", "relu"), ("layer", "gelu")])
def test_training_lowers_the_loss_and_keeps_the_bits(norm, activation):
    windows, model_part = labelled_windows(), model_config(norm, activation)
    config = Config(model=model_part, quantization=replace(SETTINGS, qat_epochs=6, qat_learning_rate=3e-3))
    split = split_windows(windows, config.data)
    net, _ = quantize.calibrate(trained_looking(model_part, windows.x), windows.x[split.train], SETTINGS)
    before = net.scales.clone()
    history = quantize.train_quantized(net, config, windows, split, progress=False)
    assert [line["epoch"] for line in history] == list(range(1, 7))
    assert history[-1]["loss"] < history[0]["loss"] - 0.05
    assert not net.training and torch.equal(net.scales, before)
    rng = np.random.default_rng(0)
    assert_same_bits(net, packed(net, model_part), np.concatenate([windows.x[:60], extreme_windows(rng)]))


def dead_query(net, x):
    net.blocks[0].attention.query.weight.data[:] = 0
    net.blocks[0].attention.query.bias.data[:] = 0


def faint_query(net, x):
    net.blocks[0].attention.query.weight.data *= 1e-6
    net.blocks[0].attention.query.bias.data *= 1e-6


def dead_feed_forward(net, x):
    net.blocks[0].fc1.weight.data[:] = 0
    net.blocks[0].fc1.bias.data[:] = -1


def dead_stem(net, x):
    net.stem[0].norm.bias.data[:] = -1e4


@pytest.mark.parametrize("kill", [dead_query, faint_query, dead_feed_forward, dead_stem])
def test_a_dead_branch_still_gives_a_file_with_the_same_bits(kill):
    rng = np.random.default_rng(2)
    config, x = model_config(), sensor_windows(rng)
    model = trained_looking(config, x)
    kill(model, x)
    net, _ = quantize.calibrate(model, x, SETTINGS)
    assert_same_bits(net, packed(net, config), x[:20])
