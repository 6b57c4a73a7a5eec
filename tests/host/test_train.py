"""Training: what a run leaves, that it repeats, survives Ctrl-C, and what a damaged run says."""

import itertools
import json

import numpy as np
import pytest

from attn8.errors import ConfigError, RunError
from attn8.evaluate import accuracy, confusion_matrix, evaluate_float, macro_f1, per_group, predict_float
from trainings import small_config, tones

torch = pytest.importorskip("torch")

from attn8 import checkpoint  # noqa: E402
from attn8 import train as module  # noqa: E402
from attn8.atomic import write_atomic  # noqa: E402
from attn8.data import split_windows  # noqa: E402
from attn8.train import load_run, make_optimizer, new_model, train  # noqa: E402


def test_training_learns_and_leaves_a_run_that_loads(tmp_path):
    windows = tones(483)
    result = train(small_config("training.epochs=12", "training.learning_rate=0.02"), windows, tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == result.history and [line["epoch"] for line in lines] == list(range(1, 13))
    parts = ("train_accuracy", "train_macro_f1", "validation_accuracy", "validation_macro_f1", "validation_loss")
    assert {"loss", *parts} <= set(lines[0]) and lines[-1]["validation_loss"] < lines[0]["validation_loss"]
    assert lines[-1]["loss"] < lines[0]["loss"]
    scores = evaluate_float(result.model, windows, result.split.test)
    assert scores["accuracy"] > 0.8 and scores["macro_f1"] > 0.8

    config, model, meta = load_run(tmp_path)
    assert config == result.config and not model.training
    assert np.array_equal(predict_float(model, windows.x), predict_float(result.model, windows.x))
    assert meta["labels"] == ["slow", "mid", "fast"] and meta["test_groups"] == result.split.test_groups
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_progress_goes_to_stderr_only(tmp_path, capsys):
    train(small_config("training.epochs=1"), tones(), tmp_path, progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and "training" in shown.err
    train(small_config("training.epochs=1"), tones(), tmp_path, progress=False)
    assert capsys.readouterr() == ("", "")


def test_same_seed_same_weights_other_seed_other_weights(tmp_path):
    results = [train(small_config(), tones(), tmp_path / str(i), seed, False) for i, seed in enumerate((5, 5, 6))]
    first, second, third = ((result.out_dir / "model.safetensors").read_bytes() for result in results)
    assert first == second != third
    assert results[0].config.training.seed == 5


def test_input_statistics_come_from_training_windows_only(tmp_path):
    windows = tones()
    result = train(small_config("training.epochs=1"), windows, tmp_path, progress=False)
    expected = np.rint(windows.x[result.split.train].reshape(-1, 3).astype(float).mean(0))
    assert result.model.input_mean.tolist() == expected.tolist()


def test_test_windows_do_not_reach_the_weights(tmp_path):
    windows, garbled = tones(), tones()
    first = train(small_config(), windows, tmp_path / "a", progress=False)
    garbled.x[first.split.test] = 31000
    garbled.y[first.split.test] = 0
    second = train(small_config(), garbled, tmp_path / "b", progress=False)
    assert all(a.equal(b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))


def test_interrupt_leaves_the_last_finished_epoch(tmp_path, monkeypatch):
    windows, real, calls = tones(), module.epoch_metrics, itertools.count(1)

    def interrupted(*arguments):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "epoch_metrics", interrupted)
    result = train(small_config(), windows, tmp_path, progress=False)
    assert result.interrupted and len(result.history) == 2
    _, tensors = checkpoint.read(tmp_path)  # of the end of epoch 2; the third had trained when it was stopped
    assert all(values.equal(tensors[f"model.{name}"]) for name, values in result.model.state_dict().items())
    _, model, _ = load_run(tmp_path)
    assert np.array_equal(predict_float(model, windows.x), predict_float(result.model, windows.x))


def test_interrupt_before_the_first_epoch_goes_on_to_the_caller(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "epoch_metrics", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(small_config(), tones(), tmp_path, progress=False)
    with pytest.raises(RunError, match=r"model\.safetensors"):
        load_run(tmp_path)


def test_a_new_run_drops_the_results_of_the_old_one(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    train(small_config("training.epochs=1"), tones(), tmp_path, progress=False)
    train(small_config("training.epochs=1"), tones(), tmp_path, progress=False)
    assert not (tmp_path / "metrics.json").exists()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_batch_never_holds_a_single_window(tmp_path):
    one_token = ["training.epochs=1", "model.stem=[{channels=8, kernel=32, stride=32}]"]
    n_train = len(train(small_config(*one_token), tones(), tmp_path, progress=False).split.train)
    # BatchNorm refuses a batch of one value a channel: one window of one token.
    train(small_config(*one_token, f"training.batch_size={n_train - 1}"), tones(), tmp_path, progress=False)


def test_one_step_is_enough_for_a_run(tmp_path):
    result = train(small_config("training.epochs=1", "training.batch_size=4096"), tones(), tmp_path, progress=False)
    assert len(result.history) == 1


def test_only_matrices_decay():
    net = module.Attn8Net(small_config().model, 32, 3, 3)
    decayed, others = make_optimizer(net, 1e-3, 0.02).param_groups
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert all(names[id(p)].endswith("weight") and p.ndim >= 2 for p in decayed["params"])
    assert {names[id(p)] for p in others["params"]} >= {"blocks.0.attention.relative_bias", "head.bias", "norm.weight"}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.02, 0.0)
    assert len(decayed["params"]) + len(others["params"]) == len(list(net.parameters()))


def test_a_network_of_the_caller_is_trained_in_place_of_a_new_one(tmp_path):
    config, windows = small_config(), tones()
    split = split_windows(windows, config.data)
    model = new_model(config, windows, split)
    same = train(config, windows, tmp_path / "a", progress=False, model=model)
    assert same.model is model
    weights = (tmp_path / "a" / "model.safetensors").read_bytes()
    train(config, windows, tmp_path / "b", progress=False)
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == weights
    model = new_model(config, windows, split)
    model.head.bias.data += 1
    train(config, windows, tmp_path / "b", progress=False, model=model)
    assert (tmp_path / "b" / "model.safetensors").read_bytes() != weights


def test_a_network_that_the_run_could_not_rebuild_is_refused(tmp_path):
    windows = tones()
    for overrides in (["model.ff=16"], ["model.causal=true"], ["model.activation=gelu"], ["model.norm=layer"]):
        other = small_config(*overrides)
        model = new_model(other, windows, split_windows(windows, other.data))
        with pytest.raises(ConfigError, match="new_model"):
            train(small_config(), windows, tmp_path, progress=False, model=model)
    assert not list(tmp_path.iterdir())


# ---- early stop


def stops_early(*overrides):
    """Settings under which the validation score of the tones is best well before the last epoch."""
    settings = ["training.epochs=30", "training.patience=3", "training.learning_rate=0.03", *overrides]
    return small_config(*settings)


def test_patience_stops_and_keeps_the_best_epoch(tmp_path):
    windows, said = tones(), []
    result = train(stops_early(), windows, tmp_path, progress=False, say=said.append)
    history, keys = result.history, [(line["validation_macro_f1"], -line["validation_loss"]) for line in result.history]
    best = keys.index(max(keys))
    assert len(history) < 30 and len(history) == best + 1 + 3
    assert history[-1]["best_epoch"] == best + 1
    assert len(said) == 1 and f"kept epoch {best + 1}" in said[0] and f"stopped after epoch {len(history)}" in said[0]
    found = evaluate_float(load_run(tmp_path)[1], windows, result.split.validation)
    assert found["macro_f1"] == keys[best][0] and found["accuracy"] == history[best]["validation_accuracy"]
    assert np.array_equal(predict_float(load_run(tmp_path)[1], windows.x), predict_float(result.model, windows.x))


def test_the_kept_weights_are_those_of_that_epoch(tmp_path):
    windows, config = tones(), stops_early()
    stopped = train(config, windows, tmp_path / "a", progress=False)
    best, seen = stopped.history[-1]["best_epoch"], {}
    real = module.keep_epoch

    def spied(state, metrics, settings):
        seen[metrics["loss"]] = {name: values.clone() for name, values in state.model.state_dict().items()}
        return real(state, metrics, settings)

    module.keep_epoch = spied
    try:
        train(config, windows, tmp_path / "b", progress=False)
    finally:
        module.keep_epoch = real
    expected = seen[stopped.history[best - 1]["loss"]]
    assert all(values.equal(expected[name]) for name, values in load_run(tmp_path / "a")[1].state_dict().items())


def test_the_best_epoch_is_kept_too_when_all_epochs_ran(tmp_path):
    windows, said = tones(), []
    result = train(stops_early("training.patience=30"), windows, tmp_path, progress=False, say=said.append)
    best = result.history[-1]["best_epoch"]
    assert len(result.history) == 30 and best < 30 and f"all epochs are done; kept epoch {best}" in said[0]
    found = evaluate_float(load_run(tmp_path)[1], windows, result.split.validation)
    assert found["accuracy"] == result.history[best - 1]["validation_accuracy"]


def test_ties_of_macro_f1_go_to_the_lower_loss_then_to_the_earlier_epoch():
    def line(epoch, f1, loss):
        return {"epoch": epoch, "validation_macro_f1": f1, "validation_loss": loss}

    assert module.best_epoch([line(1, 0.5, 0.1), line(2, 0.9, 0.4), line(3, 0.9, 0.3), line(4, 0.9, 0.3)]) == 3


def test_patience_without_validation_groups_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"training\.patience.*data\.validation_groups"):
        train(stops_early("data.validation_groups=0"), tones(), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


# ---- class weights


def test_balanced_weights_are_n_over_k_times_n_of_the_class():
    y = torch.tensor([0] * 6 + [1] * 3 + [2])
    found = module.class_weights("balanced", y, ["a", "b", "c"])
    assert found.tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert module.class_weights("none", y, ["a", "b", "c"]) is None
    assert module.class_weights([1, 2.5, 3], y, ["a", "b", "c"]).tolist() == [1, 2.5, 3]


def test_a_wrong_number_of_weights_names_the_classes(tmp_path):
    with pytest.raises(ConfigError, match="got 2 numbers, expected 3, one for each of slow, mid, fast"):
        train(small_config("training.class_weights=[1.0, 2.0]"), tones(), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_heavy_class_is_found_more_often(tmp_path):
    windows = tones()
    windows.x[:] = np.random.default_rng(0).normal(0, 300, windows.x.shape)  # nothing to tell the classes apart
    shares = []
    for number, weights in enumerate(("[1, 1, 1]", "[1, 1, 20]")):
        config = small_config(f"training.class_weights={weights}", "training.epochs=12")
        model = train(config, windows, tmp_path / str(number), progress=False).model
        shares.append(np.mean(predict_float(model, windows.x).argmax(1) == 2))
    assert shares[0] < 0.6 and shares[1] > 0.8, shares


def test_class_weights_reach_quantization_aware_training(tmp_path):
    from attn8 import quantize

    windows, losses = tones(), []
    for weights in ("none", "[1, 1, 8]"):
        config = small_config("training.epochs=1", "quantization.qat_epochs=1", f"training.class_weights={weights}")
        split = split_windows(windows, config.data)
        model = new_model(config, windows, split)
        net, _ = quantize.calibrate(model, windows.x[split.train], config.quantization)
        losses.append(quantize.train_quantized(net, config, windows, split, progress=False)[0]["loss"])
    assert losses[0] != losses[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(small_config("training.epochs=1"), tones(), folder, progress=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.toml", None),
        ("config.toml", b"[model]\nheads = 7\n"),
        ("config.toml", b""),  # the default network, which these weights do not fit
        ("meta.json", None),
        ("meta.json", b"{"),
        ("meta.json", b"[]"),
        ("meta.json", b'{"version": 1}'),
        ("model.safetensors", None),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 100),
    ],
)
def test_a_damaged_run_is_a_run_error(tmp_path, finished, name, content):
    for file, raw in {**finished, name: content}.items():
        if raw is not None:
            (tmp_path / file).write_bytes(raw)
    with pytest.raises(RunError) as caught:
        load_run(tmp_path)
    assert "train it again" in str(caught.value) and "\n" not in str(caught.value)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    write_atomic(tmp_path / "a", b"old")
    with pytest.raises(TypeError):
        write_atomic(tmp_path / "a", "not bytes")
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_run_folder_that_cannot_be_made_is_a_run_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--out"):
        train(small_config(), tones(), tmp_path / "file" / "run", progress=False)


# ---- figures


def test_confusion_matrix_counts_rows_by_true_class():
    assert confusion_matrix([0, 0, 1, 2], [0, 1, 1, 0], 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_macro_f1_is_the_mean_over_classes_that_occur():
    y, predicted = [0, 0, 0, 1], [0, 0, 1, 1]
    assert macro_f1(y, predicted, 2) == pytest.approx((0.8 + 2 / 3) / 2)
    assert macro_f1(y, predicted, 5) == macro_f1(y, predicted, 2)
    assert macro_f1([0, 0], [1, 1], 2) == 0
    assert accuracy(y, predicted) == 0.75


def test_per_group_scores_add_up():
    y, predicted, group = np.array([0, 1, 0, 1]), np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
    scores = per_group(y, predicted, group, ["a", "b"], 2)
    assert scores["a"]["accuracy"] == 1 and scores["b"] == {"n": 2, "accuracy": 0.5, "macro_f1": pytest.approx(1 / 3)}


def test_prediction_does_not_depend_on_the_batch_and_keeps_the_mode():
    net = module.Attn8Net(small_config().model, 32, 3, 3).train()
    x = tones().x[:20]
    assert np.allclose(predict_float(net, x, batch=7), predict_float(net, x), atol=1e-5)
    assert net.training and predict_float(net, x[:0]).shape == (0, 3)
