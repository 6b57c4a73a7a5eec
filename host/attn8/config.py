"""Settings of a run: dataclasses filled from TOML, every field with its unit and range.

A configuration is untrusted input: whatever the bytes are, only ``ConfigError`` leaves this module.
It imports neither torch nor numpy, so that ``--help`` stays quick.
"""

import dataclasses
import difflib
import importlib.resources
import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from .atomic import read_bytes
from .errors import ConfigError
from .terminal import one_line

# ruff: noqa: RUF009  (option() returns a dataclass field)

MAX_CONFIG_BYTES = 1 << 17
MAX_STAGES = 4
MAX_AXES = 64
MAX_TEXTS = 256  # classes or channels
MAX_NAME_BYTES = 32  # the name and version fields of a model file
SHIPPED = "shoulder_exercises"
CLASS_WEIGHTS = ("none", "balanced")


def option(default, doc, *, unit="", low=None, high=None, choices=None, max_bytes=None, table=None, texts=False):
    """Declare one setting: its default, its doc text, and the values it accepts."""
    metadata = {"doc": doc, "unit": unit, "low": low, "high": high, "choices": choices}
    metadata |= {"max_bytes": max_bytes, "table": table, "texts": texts}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


class Settings:
    """Base of the tables below: checks each field when an instance is made."""

    where = ""  # the TOML table, for messages

    def __post_init__(self):
        for item in fields(self):
            _check_value(f"{self.where}.{item.name}", item, getattr(self, item.name))
        self._check_together()

    def _check_together(self):
        """Check rules that tie several fields to each other."""


@dataclass(frozen=True)
class DataConfig(Settings):
    """``[data]``: which windows, and how they are split."""

    where = "data"
    name: str = option(SHIPPED, "bundled data set; not used when `file` is given", max_bytes=64)
    file: str = option(
        "", "your own data, relative to this file: an .npz of windows or a folder of CSV or WAV", max_bytes=4096
    )
    function: str = option("", '"module:function" that returns the data; runs only with --trust-code', max_bytes=4096)
    pattern: str = option(
        "auto", 'names of a folder\'s files, as in "{label}/{group}_*"; auto = label by folder', max_bytes=256
    )
    labels: list = option(list, "class names in order; empty = all that there are, sorted", texts=True)
    channels: list = option(list, "channels of a CSV folder in order; empty = all that there are", texts=True)
    sample_rate_hz: float = option(
        0.0, "rate that recordings are brought to; 0 = their own", unit="Hz", low=0.0, high=1e6
    )
    max_gap: int = option(3, "missing samples that are filled in; a longer gap cuts", unit="samples", low=0, high=1000)
    strict: bool = option(False, "stop at a recording that cannot be used, instead of leaving it out")
    window: int = option(128, "length of a window; a .npz brings its own", unit="samples", low=4, high=32767)
    hop: int = option(64, "step from one window to the next", unit="samples", low=1, high=32767)
    folds: int = option(5, "number of parts the groups are dealt into; each is the test part once", low=2, high=1000)
    fold: int = option(0, "the part that is the test part of this run", low=0, high=999)
    validation_groups: int = option(0, "groups of the training part held back for choosing settings", low=0, high=1000)
    split_seed: int = option(0, "deals the groups into folds; apart from training.seed", low=0, high=2**31 - 1)
    axes: str | list = option(
        "auto", '[x, y, z] channel triples that rotate together; "auto" = by channel names ending in x, y, z'
    )

    def _check_together(self):
        if self.file and self.function:
            _fail("data.function", self.function, "data.file or data.function, not both", "leave one of them out")
        if self.fold >= self.folds:
            _fail("data.fold", self.fold, f"0..{self.folds - 1} (data.folds = {self.folds})", "choose a smaller fold")


@dataclass(frozen=True)
class Stage(Settings):
    """One entry of ``model.stem``: a strided convolution with BatchNorm and activation."""

    where = "model.stem"
    channels: int = option(32, "output channels", low=1, high=256)
    kernel: int = option(8, "kernel size", unit="samples of its input", low=1, high=64)
    stride: int = option(4, "stride", unit="samples of its input", low=1, high=64)


@dataclass(frozen=True)
class ModelConfig(Settings):
    """``[model]``: the shape of the network."""

    where = "model"
    name: str = option(SHIPPED, "name inside the model file", max_bytes=MAX_NAME_BYTES)
    version: str = option("1", "version text inside the model file", max_bytes=MAX_NAME_BYTES)
    threshold: int = option(0, "score below which `predict` reports no class", unit="percent", low=0, high=100)
    stem: list = option(lambda: [Stage()], "convolutions that turn samples into tokens", table=Stage)
    causal: bool = option(False, "no token sees a later sample")
    d_model: int = option(32, "features of a token (D)", low=8, high=256)
    heads: int = option(4, "attention heads (H)", low=1, high=32)
    span: int = option(0, "keys a query sees (W), itself included; 0 = all", unit="tokens", low=0, high=32767)
    layers: int = option(2, "blocks of attention and feed-forward", low=1, high=3)
    ff: int = option(64, "hidden features of the feed-forward", low=1, high=1024)
    norm: str = option("batch", "normalisation in front of each branch", choices=("batch", "layer", "rms"))
    activation: str = option("relu", "activation of stem and feed-forward", choices=("relu", "gelu"))
    dropout: float = option(0.1, "dropout on each branch while training", low=0.0, high=0.9)

    def _check_together(self):
        if self.d_model % self.heads:
            _fail("model.heads", self.heads, f"a divisor of model.d_model = {self.d_model}", "change one of the two")
        channels = self.stem[-1].channels
        if channels != self.d_model:
            where = f"model.stem.{len(self.stem) - 1}.channels"
            _fail(where, channels, f"model.d_model = {self.d_model}", "the last stage makes the tokens: set it equal")


@dataclass(frozen=True)
class AugmentationConfig(Settings):
    """``[training.augmentation]``: how training windows are varied; 0 switches a variation off."""

    where = "training.augmentation"
    rotation_rad: float = option(0.5, "rotation of the x, y, z axes, standard deviation", unit="rad", low=0.0, high=3.2)
    time_warp: float = option(0.2, "change of speed, largest fraction", low=0.0, high=0.9)
    crop: float = option(0.1, "shift in time, largest fraction of the window", low=0.0, high=0.5)
    scale: float = option(0.3, "factor per channel, standard deviation around 1", low=0.0, high=1.0)
    noise: float = option(0.1, "white noise, in standard deviations of the channel", low=0.0, high=2.0)
    channel_dropout: float = option(0.1, "probability that a channel is replaced by its mean", low=0.0, high=0.9)


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """``[training]``: the float training loop (AdamW, OneCycle)."""

    where = "training"
    epochs: int = option(20, "passes over the training windows", low=1, high=10000)
    batch_size: int = option(64, "windows a step", low=2, high=65536)
    learning_rate: float = option(3e-3, "peak of the OneCycle schedule", low=1e-7, high=1.0)
    weight_decay: float = option(0.02, "AdamW weight decay, on matrices only", low=0.0, high=10.0)
    label_smoothing: float = option(0.05, "share of the target spread over all classes", low=0.0, high=0.9)
    clip: float = option(1.0, "largest norm of the gradient", low=1e-6, high=1e6)
    class_weights: str | list = option("none", "weight of each class in the loss; balanced = rare classes weigh more")
    patience: int = option(
        0, "epochs without a better validation macro-F1 until it stops and keeps the best; 0 = never", low=0, high=10000
    )
    init: str = option("", "run folder whose weights are the start, relative to this file", max_bytes=4096)
    freeze: str = option("none", "part of the network that keeps the weights of `init`", choices=("none", "front_end"))
    seed: int = option(0, "initial weights, order, dropout and augmentation", low=0, high=2**31 - 1)
    threads: int = option(1, "torch threads; more than 1 makes small models slower", low=1, high=256)
    augmentation: AugmentationConfig = option(AugmentationConfig, "variation of the training windows")

    def _check_together(self):
        if self.freeze != "none" and not self.init:
            _fail("training.freeze", self.freeze, "none without training.init", "name the run to start from")


@dataclass(frozen=True)
class QuantizationConfig(Settings):
    """``[quantization]``: calibration and quantization-aware training."""

    where = "quantization"
    calibration_windows: int = option(512, "training windows that set the ranges", unit="windows", low=1, high=1 << 20)
    observer: str = option(
        "auto", "range of an activation; auto = the better logit SQNR", choices=("auto", "absmax", "quantile")
    )
    quantile: float = option(0.9999, "share of the values inside the range of `quantile`", low=0.9, high=1.0)
    qat_epochs: int = option(3, "passes of `quantize --mode train`", low=0, high=1000)
    qat_learning_rate: float = option(1e-4, "peak learning rate of `quantize --mode train`", low=1e-8, high=0.1)
    golden_vectors: int = option(8, "test vectors inside the model file", low=4, high=64)


@dataclass(frozen=True)
class Config(Settings):
    """All settings of a run."""

    data: DataConfig = option(DataConfig, "windows and splits")
    model: ModelConfig = option(ModelConfig, "shape of the network")
    training: TrainingConfig = option(TrainingConfig, "training loop")
    quantization: QuantizationConfig = option(QuantizationConfig, "INT8")


# ---- reading -------------------------------------------------------------------------------------------------------


def load_config(path):
    """Read a configuration file.

    Args:
        path: a TOML file of at most 128 kB. paths inside it (``data.file``, ``training.init``, a .py in
            ``data.function``) are relative to its folder.
    Returns:
        Config, with these paths made absolute.
    Raises:
        ConfigError: whatever is wrong with the file.
    """
    path = Path(path)
    try:
        raw = read_bytes(path, MAX_CONFIG_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"config {path}: cannot be read ({error}); expected a TOML file; check the path") from None
    config = parse_config(raw, source=str(path))
    folder = path.absolute().parent
    if config.data.file:
        config = replace(config, data=replace(config.data, file=str(folder / config.data.file)))
    if config.data.function.partition(":")[0].endswith(".py"):
        config = replace(config, data=replace(config.data, function=str(folder / config.data.function)))
    if config.training.init:
        config = replace(config, training=replace(config.training, init=str(folder / config.training.init)))
    return config


# The parser of Python takes time and memory that grow with the square of the parts of a dotted key.
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_DEEP_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{32}}", re.ASCII)


def _parse_toml(text):
    deep = _DEEP_KEY.search(text)
    if deep:
        raise ValueError(f"a key of more than 32 parts at character {deep.start()}")
    return tomllib.loads(text)


def parse_config(text, source="config"):
    """Turn TOML, as text or UTF-8 bytes, into a Config; ``source`` names it in messages."""
    try:
        table = _parse_toml(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: is not TOML ({_short(error)}); correct that line") from None
    return config_from_dict(table)


def config_from_dict(table):
    """Turn nested dicts into a Config; absent keys keep their defaults."""
    return _build(Config, table, "")


def apply_overrides(config, overrides):
    """Apply ``--set`` texts.

    Args:
        config: Config.
        overrides: texts "table.key=value"; the value is a TOML value, a bare word is a string. An entry
            of ``model.stem`` is named by its number: "model.stem.0.kernel=9".
    Returns:
        a new Config, checked as a whole after the last override.
    """
    values = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set: got {_short(text)!r}, expected table.key=value, as in training.epochs=30")
        text = value.strip()
        value = _parse_value(text)
        is_text = isinstance(value, int | float) and key.strip() in TEXT_SETTINGS
        values.append((key.strip(), text if is_text else value))
    return override(config, values)


def override(config, values):
    """Change settings.

    Args:
        config: Config.
        values: dict, or list of pairs, of "table.key" to a value.
    Returns:
        a new Config, checked as a whole after the last change.
    """
    table = dataclasses.asdict(config)
    for key, value in values.items() if isinstance(values, dict) else values:
        _set_key(table, key, value)
    return config_from_dict(table)


def shipped_config_path(name=SHIPPED):
    """Path of a shipped configuration: in an installed wheel, else in the source tree."""
    try:
        installed = importlib.resources.files("attn8.shipped")
        candidates = [installed / "config.toml", installed / name / "config.toml"]
    except ModuleNotFoundError:
        candidates = []
    candidates.append(Path(__file__).resolve().parents[2] / "models" / name / "config.toml")
    for candidate in candidates:
        if candidate.is_file():
            return Path(str(candidate))
    raise ConfigError(f"config: got no shipped {name}/config.toml, expected one beside the package; reinstall attn8")


def shipped_model_path():
    """The path of the shipped model file, beside the shipped configuration."""
    return Path(shipped_config_path()).with_name("model.a8")


def shipped_config():
    """The configuration that ``attn8 demo`` and ``attn8 train`` without CONFIG use."""
    return load_config(shipped_config_path())


def with_init(config, run_dir, freeze=None):
    """Settings that start from the weights of a run.

    Args:
        config: Config, or None for that of the run itself.
        run_dir: run folder.    freeze: "front_end", or None to train everything.
    """
    run_dir = Path(run_dir).absolute()
    if config is None:
        config = load_config(run_dir / "config.toml")
    return replace(config, training=replace(config.training, init=str(run_dir), freeze=freeze or "none"))


TEXT_SETTINGS = ("model.name", "model.version")  # of which a number is a text too


def fit_name(text):
    """A model name of at most 32 UTF-8 bytes from any text."""
    text = "".join(c for c in text if c.isprintable())
    return text.encode("utf-8", "ignore")[:MAX_NAME_BYTES].decode("utf-8", "ignore") or "model"


AUDIO_RATE_HZ = 16000


def for_audio(config):
    """The settings for waveforms: windows of a second, three strided convolutions that leave 63 tokens."""
    stem = [{"channels": 32, "kernel": 64, "stride": 16}, *[{"channels": 32, "kernel": 8, "stride": 4}] * 2]
    data = {"data.window": AUDIO_RATE_HZ, "data.hop": AUDIO_RATE_HZ // 2, "data.sample_rate_hz": float(AUDIO_RATE_HZ)}
    return override(config, data | {"model.stem": stem})


# ---- writing -------------------------------------------------------------------------------------------------------


def to_toml(config):
    """Write a Config as commented TOML; ``parse_config`` gives back an equal Config."""
    lines = []
    for item in fields(config):
        _write_table(lines, getattr(config, item.name))
    return "\n".join(lines).lstrip() + "\n"


def describe(item):
    """One line on a dataclass field: what it is, its unit and the values it accepts."""
    meta = item.metadata
    unit = f" [{meta['unit']}]" if meta["unit"] else ""
    return f"{meta['doc']}{unit} ({_expected(item)})"


def _write_table(lines, table):
    lines += ["", f"[{table.where}]"]
    nested = []
    for item in fields(table):
        value = getattr(table, item.name)
        if isinstance(value, Settings):
            nested.append(value)
        else:
            lines.append(f"{item.name} = {_toml_value(value)}  # {describe(item)}")
    for value in nested:
        _write_table(lines, value)


def _toml_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'  # printable, as checked
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, Settings):
        pairs = (f"{item.name} = {_toml_value(getattr(value, item.name))}" for item in fields(value))
        return "{" + ", ".join(pairs) + "}"
    return repr(value)


# ---- building and checking -----------------------------------------------------------------------------------------


def _build(cls, table, where):
    if not isinstance(table, dict):
        _fail(where or "config", table, "a table", "write it as [table] with key = value lines")
    known = {item.name: item for item in fields(cls)}
    for key in table:
        if key not in known:
            raise ConfigError(_unknown_key(where, key, known))
    values = {key: _convert(known[key], value, f"{where}.{key}".lstrip(".")) for key, value in table.items()}
    return cls(**values)


def _convert(item, value, where):
    """Bring a TOML value to the type of its field where that loses nothing; the rest is left to the check."""
    if dataclasses.is_dataclass(item.type):
        return _build(item.type, value, where)
    if item.metadata["table"] and isinstance(value, list):
        return [_build(item.metadata["table"], entry, f"{where}.{i}") for i, entry in enumerate(value)]
    if item.type is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    return value


def _check_value(where, item, value):
    meta = item.metadata
    if dataclasses.is_dataclass(item.type):
        ok = isinstance(value, item.type)
    elif meta["table"]:
        ok = _is_list_of(value, meta["table"], MAX_STAGES) and len(value) > 0
    elif meta["texts"]:
        ok = _is_list_of(value, str, MAX_TEXTS) and len(set(value)) == len(value)
        ok = ok and all(text and _fits(text, MAX_NAME_BYTES) for text in value)
    elif item.name == "axes":
        ok = value == "auto" or _is_axes(value)
    elif item.name == "class_weights":
        ok = value in CLASS_WEIGHTS or _is_weights(value)
    elif item.type is str:
        ok = isinstance(value, str) and "\0" not in value and (not meta["max_bytes"] or _fits(value, meta["max_bytes"]))
        ok = ok and (not meta["choices"] or value in meta["choices"]) and (value != "" or item.default == "")
    else:
        ok = type(value) is item.type and (item.type is bool or _in_range(value, meta))
    if not ok:
        _fail(where, value, _expected(item), f"it is the {meta['doc']}" if meta["doc"] else "correct it")


def _in_range(value, meta):
    return meta["low"] <= value <= meta["high"]  # nan and inf fail here; integers of any size do not overflow


def _fits(text, n_bytes):
    return text.isprintable() and len(text.encode()) <= n_bytes


def _is_list_of(value, kind, most):
    return isinstance(value, list) and len(value) <= most and all(isinstance(entry, kind) for entry in value)


def _is_axes(value):
    if not _is_list_of(value, list, MAX_AXES):
        return False
    indices = [index for triple in value for index in triple]
    return (
        all(len(triple) == 3 for triple in value)
        and all(type(index) is int and 0 <= index < 32767 for index in indices)
        and len(set(indices)) == len(indices)
    )


def _is_weights(value):
    return _is_list_of(value, int | float, MAX_TEXTS) and all(
        type(weight) is not bool and 0 < weight <= 1e6 for weight in value
    )


def _expected(item):
    meta = item.metadata
    if dataclasses.is_dataclass(item.type):
        return "a table"
    if meta["table"]:
        keys = ", ".join(entry.name for entry in fields(meta["table"]))
        return f"a list of 1..{MAX_STAGES} tables {{{keys}}}"
    if meta["texts"]:
        return f"a list of different texts of at most {MAX_NAME_BYTES} bytes"
    if item.name == "class_weights":
        return '"none", "balanced" or a list of one number > 0 a class'
    if item.name == "axes":
        return '"auto" or a list of [x, y, z] channel numbers, each used once'
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    if item.type is str:
        return f"printable text of at most {meta['max_bytes']} bytes"
    if item.type is bool:
        return "true or false"
    return f"{'an integer' if item.type is int else 'a number'} in {meta['low']}..{meta['high']}"


def _unknown_key(where, key, known):
    nearest = difflib.get_close_matches(key[:64], known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else "remove it"
    return f"{where or 'config'}: got the unknown key {_short(key)!r}, expected one of {', '.join(known)}; {hint}"


def _fail(where, got, expected, advice):
    raise ConfigError(f"{where}: got {_short(got)}, expected {expected}; {advice}")


def _short(value):
    """Text of a value, cut where it is long; an integer too long to print is only sized."""
    if type(value) is int and value.bit_length() > 200:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = value if isinstance(value, str) else str(value) if isinstance(value, Exception) else repr(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__} too large to print"
    text = one_line(text.replace("\n", " "))
    return text if len(text) <= 120 else text[:117] + "..."


# ---- overrides -----------------------------------------------------------------------------------------------------


def _parse_value(text):
    try:
        table = _parse_toml("value = " + text)
    except (ValueError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text


def _set_key(table, key, value):
    *path, last = key.split(".")
    node = table
    for part in path:
        node = _step(node, part, key)
    _step(node, last, key, absent_ok=True)
    node[int(last) if isinstance(node, list) else last] = value


def _step(node, part, key, absent_ok=False):
    if isinstance(node, list) and part.isascii() and part.isdigit() and int(part[:9]) < len(node):
        return node[int(part)]
    if isinstance(node, dict) and part in node:
        return node[part]
    if isinstance(node, dict) and absent_ok:  # the check of the whole Config words the unknown key
        return None
    nearest = difflib.get_close_matches(part[:64], node, n=1) if isinstance(node, dict) else []
    hint = f"did you mean {nearest[0]}?" if nearest else "see the shipped config.toml for the keys"
    raise ConfigError(f"{_short(key)}: got the unknown part {_short(part)!r}, expected a table; {hint}")
