"""attn8 from Python: arrays, Datasets and functions in, run folders and model files out."""

import numpy as np
import pytest

import readme
from attn8 import api, reference
from attn8.config import Config, apply_overrides
from attn8.data import load_windows
from attn8.data.arrays import call_function, make_windows
from attn8.errors import ConfigError, DataError, RunError

SMALL = {"model__d_model": 16, "model__stem": [{"channels": 16, "kernel": 4, "stride": 4}], "training__epochs": 2}


def arrays(n=120, t=32, c=3):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    x = rng.normal(0, 100, (n, t, c)) + 400 * y[:, None, None]
    return x.astype(np.int16), y, np.array([f"p{i // (n // 6)}" for i in range(n)])


class Items:
    """A map-style Dataset without an IndexError at its end, as torch allows."""

    def __init__(self, x, y, group=None):
        import torch

        self.x, self.y, self.group = torch.from_numpy(x), y, group

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        i = i % len(self.y)
        return (self.x[i], int(self.y[i])) if self.group is None else (self.x[i], int(self.y[i]), self.group[i])


def test_readme_lines_go_from_arrays_to_a_model_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y, person = arrays()
    code = readme.block("code", "api")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    names = {"x": x, "y": y, "person": person}
    exec(code.replace("training__epochs=20", "training__epochs=2"), names)
    assert reference.parse((tmp_path / "mine.a8").read_bytes()).graph.labels == ["circle", "shake", "still"]
    assert (tmp_path / "runs" / "mine" / "report.html").exists()


def test_dataset_and_arrays_make_the_same_windows():
    x, y, person = arrays()
    whole = make_windows(x, y, group=person)
    items = make_windows(Items(x, y, person))
    assert whole.fingerprint() == items.fingerprint()
    pairs = make_windows(Items(x, y), group=person)
    assert pairs.fingerprint() == whole.fingerprint()
    assert make_windows(whole) is whole


def test_one_channel_may_be_given_without_an_axis():
    x, y, _ = arrays()
    assert make_windows(x[:, :, 0], y).x.shape == (120, 32, 1)


@pytest.mark.parametrize(
    "data, text",
    [
        ([], "no parts|no items"),
        ([1, 2], "expected items"),
        ([(1, 2, 3, 4)], "expected .x, y."),
        ([(np.zeros((4, 2)), 0), (np.zeros((5, 2)), 1)], "cut windows of one length"),
        ({"x": np.zeros((2, 4, 1)), "y": [0, 1], "subject": [0, 1]}, "unknown key 'subject'"),
        ({"x": [[1], [1, 2]], "y": [0, 1]}, "x: got"),
        (3, "expected items"),
        ({"x": np.zeros((2, 4, 1)), "y": ["a", "b"]}, "return_inverse"),
    ],
)
def test_data_of_another_form_is_one_sentence(data, text):
    with pytest.raises(DataError, match=text):
        make_windows(data)


def test_windows_survive_a_file(tmp_path):
    x, y, person = arrays()
    windows = make_windows(x, y, group=person, sample_rate_hz=50, channels=["a", "b", "c"], units=["g"] * 3)
    windows.save(tmp_path / "w.npz")
    again = load_windows(Config().data, tmp_path / "w.npz")
    assert again.fingerprint() == windows.fingerprint()


def test_run_of_arrays_goes_on_from_the_command_line_with_its_windows(tmp_path):
    from attn8 import workflow

    x, y, person = arrays()
    windows = api.windows(x, y, group=person)
    run = api.train(api.config(**SMALL), windows, tmp_path / "run")
    assert "INT8" in repr(run)
    assert repr(windows) == "Windows 'arrays': 120 windows of 32 x 3, 3 classes, 6 groups"
    assert run.pack(tmp_path / "m.a8")["name"] == "run"
    with pytest.raises(ConfigError, match="mode: got 'trian'"):
        run.quantize("trian")
    assert api.open_run(tmp_path / "run", windows).metrics | {"interrupted": False} == run.metrics
    with pytest.raises(RunError, match=r"save them with Windows\.save"):
        workflow.evaluate_run(tmp_path / "run")
    windows.save(tmp_path / "w.npz")
    assert workflow.evaluate_run(tmp_path / "run", str(tmp_path / "w.npz"))["n_test"] == run.metrics["n_test"]


def test_built_model_is_the_one_that_is_trained(tmp_path):
    x, y, person = arrays()
    windows, settings = api.windows(x, y, group=person), api.config(**SMALL)
    model = api.build(settings, windows)
    for parameter in model.head.parameters():
        parameter.requires_grad = False
    before = model.head.weight.clone()
    api.train(settings, windows, tmp_path / "run", model=model)
    assert (model.head.weight == before).all()
    assert not (model.stem[0].conv.weight == api.build(settings, windows).stem[0].conv.weight).all()


# ---- data.function -------------------------------------------------------------------------------------------------

MODULE = """
import numpy as np
def dict_of_arrays():
    return {"x": np.arange(48, dtype=np.int16).reshape(6, 4, 2), "y": [0, 1] * 3, "group": list("aabbcc")}
def pair():
    return np.zeros((6, 4, 2), np.int16), [0, 1] * 3
def triple():
    return np.zeros((6, 4, 2)), [0, 1] * 3, list("aabbcc")
def broken():
    raise KeyError("no such file")
raised = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "own_function_data.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "own_function_data.py"


def settings_of(text):
    return apply_overrides(Config(), [f'data.function="{text}"']).data


@pytest.mark.parametrize("name", ["dict_of_arrays", "pair", "triple"])
@pytest.mark.parametrize("where", ["own_function_data", "own_function_data.py"])
def test_function_of_a_module_or_a_file_gives_the_windows(module, where, name):
    windows = load_windows(settings_of(f"{where}:{name}"), trust_code=True)
    assert windows.x.shape == (6, 4, 2)
    assert windows.name == name


def test_function_is_never_imported_without_trust(module):
    module.write_text("open('imported', 'w')")
    with pytest.raises(ConfigError, match="--trust-code"):
        load_windows(settings_of("own_function_data:pair"))
    assert not (module.parent / "imported").exists()


@pytest.mark.parametrize(
    "text, error, match",
    [
        ("own_function_data:broken", DataError, "raised KeyError"),
        ("own_function_data:absent", ConfigError, "no attribute|AttributeError"),
        ("no_such_module_of_mine:f", ConfigError, "ModuleNotFoundError"),
        ("no_such_file.py:f", ConfigError, "FileNotFoundError"),
        ("own_function_data", ConfigError, "module:function"),
        ("own_function_data:raised", DataError, "TypeError"),
    ],
)
def test_fault_of_a_function_is_one_sentence(module, text, error, match):
    with pytest.raises(error, match=match):
        call_function(text, trust_code=True)


def test_config_names_a_file_of_functions_relative_to_itself(module):
    from attn8.config import load_config

    (module.parent / "c.toml").write_text('[data]\nfunction = "own_function_data.py:pair"\n')
    assert load_config(module.parent / "c.toml").data.function == f"{module.parent}/own_function_data.py:pair"


def test_file_and_function_exclude_each_other():
    with pytest.raises(ConfigError, match="not both"):
        apply_overrides(Config(), ['data.function="a:b"', 'data.file="x.npz"'])
