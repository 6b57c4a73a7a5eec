"""Fine-tuning: which weights of another run are taken over, which are not, and what is said about it."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from attn8.errors import ConfigError, RunError
from trainings import small_config, tones

torch = pytest.importorskip("torch")

from attn8 import fine_tune, quantize  # noqa: E402
from attn8.data import split_windows  # noqa: E402
from attn8.train import load_run, new_model, new_state, resume, train  # noqa: E402


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A trained run with a network in which no two weights are equal."""
    folder = tmp_path_factory.mktemp("fine_tune") / "base"
    train(small_config("training.epochs=2", "training.learning_rate=0.02"), tones(), folder, progress=False)
    return folder


def tuning(base, *overrides):
    return small_config(f"training.init={json.dumps(str(base))}", "training.seed=5", *overrides)


def started(base, windows, *overrides):
    """(new network before its first epoch, that of the base, what was said)."""
    config, said = tuning(base, *overrides), []
    model = new_model(config, windows, split_windows(windows, config.data), said.append)
    return model.state_dict(), load_run(base)[1].state_dict(), said


def fresh(windows, *overrides):
    """The network that no other run had a part in."""
    config = small_config("training.seed=5", *overrides)
    return new_model(config, windows, split_windows(windows, config.data)).state_dict()


def differing(a, b):
    return {name for name in a if not torch.equal(a[name], b[name])}


def test_the_same_kind_of_data_takes_everything_and_says_nothing(base):
    new, old, said = started(base, tones())
    assert not differing(new, old) and said == []
    assert len(differing(fresh(tones()), old)) > 20


def test_input_statistics_are_kept_for_the_same_sensor(base):
    windows = tones()
    windows.x += 100
    new, old, _ = started(base, windows)
    assert not differing(new, old) and differing(new, fresh(windows)) >= {"input_mean"}


def test_another_scale_brings_its_own_statistics(base):
    windows = tones()
    windows.counts_per_unit[1] = 500
    new, old, said = started(base, windows)
    assert differing(new, old) <= {"input_mean", "input_std"}
    assert new["input_mean"].equal(fresh(windows)["input_mean"])
    assert said == ["fine-tuning: input mean and deviation taken from the new training windows"]


def test_other_labels_replace_the_head(base):
    windows = replace(tones(), labels=["slow", "mid", "hop"])
    new, old, said = started(base, windows)
    assert differing(new, old) == {"head.weight", "head.bias"} == differing(new, old) - differing(new, fresh(windows))
    assert len(said) == 1
    assert said[0] == f"fine-tuning: head replaced, classes slow, mid, hop where {base} has slow, mid, fast"


def test_more_classes_replace_the_head(base):
    windows = tones()
    windows.y = np.arange(len(windows)) % 4
    windows.labels = ["slow", "mid", "fast", "still"]
    new, old, said = started(base, windows)
    assert new["head.bias"].shape == (4,) and "head replaced" in said[0]
    assert differing(new, {**old, **{name: new[name] for name in ("head.weight", "head.bias")}}) == set()


def test_the_same_labels_in_another_order_permute_the_head(base):
    windows = tones()
    windows.labels = ["fast", "slow", "mid"]
    new, old, said = started(base, windows)
    assert new["head.weight"].equal(old["head.weight"][[2, 0, 1]])
    assert new["head.bias"].equal(old["head.bias"][[2, 0, 1]])
    assert differing(new, old) == {"head.weight", "head.bias"} and "order" in said[0]


def test_another_number_of_channels_replaces_the_first_layer(base):
    windows = tones()
    windows.x = np.ascontiguousarray(windows.x[:, :, :2])
    windows.channels, windows.units = ["ax", "ay"], ["g", "g"]
    windows.counts_per_unit = windows.counts_per_unit[:2]
    new, old, said = started(base, windows)
    ours = {name for name in new if name.startswith(("stem.0.", "input_"))}
    expected = {**old, **{name: fresh(windows)[name] for name in ours}}
    assert not differing(new, expected)
    assert said[0] == f"fine-tuning: first layer replaced, 2 channels where {base} has 3"
    with pytest.raises(ConfigError, match=r"training\.freeze: got front_end with 2 channels, expected the 3"):
        started(base, windows, "training.freeze=front_end")


def test_other_channel_names_keep_the_first_layer_and_are_said(base):
    windows = replace(tones(), channels=["bx", "by", "bz"])
    new, old, said = started(base, windows)
    assert differing(new, old) <= {"input_mean", "input_std"}
    assert said[0] == "fine-tuning: first layer kept, channels bx, by, bz take the place of ax, ay, az"


def test_another_sample_rate_is_said(base):
    _, _, said = started(base, replace(tones(), sample_rate_hz=100.0))
    assert said == [f"fine-tuning: samples at 100 Hz, where {base} has 50 Hz"]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [16, 64])
def test_another_window_fits_the_relative_bias_about_its_centre(tmp_path, length, causal):
    causal = f"model.causal={str(causal).lower()}"
    base = tmp_path / "base"
    train(small_config("training.epochs=2", causal), tones(), base, progress=False)
    new, old, said = started(base, tones(length=length), causal)
    name = "blocks.0.attention.relative_bias"
    assert differing({**new, name: 0 * old[name]}, {**old, name: 0 * old[name]}) == set()
    n_old, n_new = 8, length // 4
    centre_old, centre_new = n_old - 1, n_new - 1
    for distance in range(-n_new + 1, 1 if causal == "model.causal=true" else n_new):
        known = max(-centre_old, min(distance, old[name].shape[1] - 1 - centre_old))
        assert new[name][:, centre_new + distance].equal(old[name][:, centre_old + known])
    assert len(said) == 1 and f"windows of {length} samples ({n_new} tokens) where {base} has 32 (8)" in said[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.ff=16", "model.ff: got 16, expected 8 as in"),
        ("model.stem=[{channels=8, kernel=5, stride=4}]", "model.stem.0.kernel: got 5, expected 4 as in"),
        ("model.span=4", "model.span: got 4, expected 0 as in"),
        ("model.norm=layer", "model.norm: got layer, expected batch as in"),
    ],
)
def test_another_network_is_a_config_error_that_names_the_first_difference(base, tmp_path, override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        train(tuning(base, override), tones(), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_name_version_threshold_and_dropout_may_differ(base):
    _, _, said = started(base, tones(), "model.name=b", 'model.version="2"', "model.threshold=9", "model.dropout=0.3")
    assert said == []


def test_what_is_no_run_is_a_run_error(tmp_path):
    with pytest.raises(RunError, match="no such folder"):
        train(tuning(tmp_path / "none"), tones(), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_overwrite_the_one_that_it_starts_from(base, tmp_path):
    shutil.copytree(base, tmp_path / "run")
    with pytest.raises(ConfigError, match="choose another --out"):
        train(tuning(tmp_path / "run"), tones(), tmp_path / "here" / ".." / "run", progress=False)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_a_frozen_front_end_keeps_every_bit(base, tmp_path):
    windows = tones()
    windows.x[:] = np.clip(windows.x.astype(int) * 2 + 300, -32768, 32767)  # other statistics
    for freeze, moved in (("front_end", False), ("none", True)):
        config = tuning(base, f"training.freeze={freeze}")
        train(config, windows, tmp_path / freeze, progress=False)
        new, old = (load_run(folder)[1].state_dict() for folder in (tmp_path / freeze, base))
        changed = differing(new, old)
        assert any(name.startswith("stem.") for name in changed) is moved
        assert {"stem.0.norm.running_mean", "stem.0.conv.weight"} <= changed or not moved
        assert {"head.weight", "blocks.0.fc1.weight", "norm.running_mean"} <= changed


def test_the_optimizer_does_not_hold_a_frozen_front_end(base):
    windows = tones()
    config = tuning(base, "training.freeze=front_end")
    split = split_windows(windows, config.data)
    model = new_model(config, windows, split)
    held = {id(p) for group in new_state(model, config, windows, split).optimizer.param_groups for p in group["params"]}
    assert not held & {id(p) for p in model.stem.parameters()}
    assert held == {id(p) for p in model.parameters()} - {id(p) for p in model.stem.parameters()}


@pytest.mark.parametrize("kind", ["relu", "gelu"])
def test_quantization_aware_training_leaves_a_frozen_front_end_alone(base, tmp_path, kind):
    activation = f"model.activation={kind}"
    train(small_config("training.epochs=1", activation), tones(), tmp_path, progress=False)
    windows, config = tones(), tuning(tmp_path, activation, "training.freeze=front_end", "quantization.qat_epochs=1")
    split = split_windows(windows, config.data)
    net, _ = quantize.calibrate(load_run(tmp_path)[1], windows.x[split.train], config.quantization)
    before = {name: values.clone() for name, values in net.state_dict().items()}
    quantize.train_quantized(net, config, windows, split, progress=False)
    changed = differing(before, net.state_dict())
    assert changed and not [name for name in changed if name.startswith("ops.0.")]
    assert [name for name in changed if name.startswith(f"ops.{2 if kind == 'gelu' else 1}.")]


def test_fine_tuning_that_was_stopped_ends_the_same_without_the_other_run(base, tmp_path, monkeypatch):
    from attn8 import train as module

    shutil.copytree(base, tmp_path / "base")
    config = tuning(tmp_path / "base", "training.freeze=front_end")
    train(config, tones(), tmp_path / "whole", progress=False)
    real = module.keep_epoch

    def interrupted(state, *rest):
        if len(state.history) == 1:
            raise KeyboardInterrupt
        return real(state, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "keep_epoch", interrupted)
        assert train(config, tones(), tmp_path / "run", progress=False).interrupted
    shutil.rmtree(tmp_path / "base")
    resume(tmp_path / "run", tones(), progress=False)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_fine_tuned_network_of_the_caller_trains_like_one_made_here(base, tmp_path):
    config, windows = tuning(base, "model.dropout=0.5"), tones()
    train(config, windows, tmp_path / "a", progress=False)
    model = new_model(config, windows, split_windows(windows, config.data))
    train(config, windows, tmp_path / "b", progress=False, model=model)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert first == second


def test_float_data_are_brought_to_the_scale_of_the_run(base):
    assert fine_tune.scale_of(base, 3).tolist() == [1000, 1000, 1000]
    assert fine_tune.scale_of(base, 2) is None
