"""Configuration: what is accepted, what is refused, and how."""

import random
import subprocess
import sys
from dataclasses import replace

import pytest

from attn8 import config as module
from attn8.config import (
    Config,
    ModelConfig,
    Stage,
    apply_overrides,
    load_config,
    parse_config,
    shipped_config,
    shipped_config_path,
    to_toml,
)
from attn8.errors import ConfigError


def message_of(text):
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    return str(caught.value)


def test_import_needs_neither_torch_nor_numpy():
    code = "import sys, attn8.config; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_empty_file_is_the_defaults():
    assert parse_config("") == Config()


def test_shipped_config_loads_and_is_the_bundled_set():
    config = shipped_config()
    assert config.data.name == "shoulder_exercises"
    assert config.data.file == ""
    assert config.data.validation_groups == 0  # the final protocol trains on all training groups


OF_ONES_OWN_DATA = ("file", "function", "pattern", "labels", "channels", "sample_rate_hz", "max_gap", "strict")


def test_shipped_config_names_every_key():
    text = shipped_config_path().read_text()
    keys = [line.split(" = ")[0] for line in to_toml(Config()).splitlines() if " = " in line]
    optional = (*OF_ONES_OWN_DATA, "class_weights", "patience", "init", "freeze")
    missing = [key for key in keys if key not in optional and f"{key} = " not in text]
    assert not missing


def test_toml_round_trips():
    config = apply_overrides(
        Config(),
        [
            "model.name='tab\tquote\"back\\slash'".replace("\t", " "),
            "data.axes=[[0, 1, 2]]",
            "model.stem=[{channels=16, kernel=5, stride=2}, {channels=32, kernel=3, stride=2}]",
            "training.learning_rate=1e-05",
            "model.causal=true",
            "model.version='3 ü'",
        ],
    )
    assert parse_config(to_toml(config)) == config
    assert config.model.name == 'tab quote"back\\slash'


def test_overrides_take_toml_values_and_bare_words():
    config = apply_overrides(Config(), ["model.norm=layer", "training.epochs = 7", "model.stem.0.kernel=9"])
    assert (config.model.norm, config.training.epochs, config.model.stem[0].kernel) == ("layer", 7, 9)


def test_overrides_are_checked_together_at_the_end():
    config = apply_overrides(Config(), ["model.d_model=48", "model.stem.0.channels=48"])
    assert config.model.d_model == 48


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochs", "expected table.key=value"),
        ("trainin.epochs=3", "did you mean training?"),
        ("training.epoch=3", "did you mean epochs?"),
        ("training.epochs=many", "expected an integer in 1..10000"),
        ("training.epochs=0", "got 0"),
        ("training.epochs=3.0", "got 3.0"),
        ("training.epochs=true", "got True"),
        ("training.learning_rate=nan", "expected a number"),
        ("model.stem.7.kernel=3", "unknown part"),
        ("model.stem=[]", "a list of 1..4 tables"),
        ("model.d_model=48", "expected model.d_model = 48"),
        ("model.heads=5", "a divisor of model.d_model = 32"),
        ("model.norm=group", "one of batch, layer, rms"),
        ("model.name=" + "x" * 33, "at most 32 bytes"),
        ("model.name=''", "printable text"),
        ("data.fold=5", "0..4"),
        ("data.axes=[[0, 1]]", "[x, y, z]"),
        ("data.axes=[[0, 1, 1]]", "each used once"),
        ("training=3", "expected a table"),
        ("model.stem.0=3", "expected a table"),
        ("training.epochs=1\nx=2", "expected an integer"),
    ],
)
def test_bad_override_says_what_is_expected(override, words):
    with pytest.raises(ConfigError) as caught:
        apply_overrides(Config(), [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_key_suggests_the_nearest():
    assert "did you mean dropout?" in message_of("[model]\ndropuot = 0.1")


def test_settings_made_in_code_are_checked_too():
    with pytest.raises(ConfigError):
        ModelConfig(stem=[Stage(channels=32)], d_model=64)
    with pytest.raises(ConfigError):
        replace(Config().training, epochs=-1)


def test_data_file_is_relative_to_the_config_file(tmp_path):
    (tmp_path / "c.toml").write_text('[data]\nfile = "sub/x.npz"\n')
    assert load_config(tmp_path / "c.toml").data.file == str(tmp_path / "sub" / "x.npz")


def test_absent_and_oversized_files_are_config_errors(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config("nul\0byte")
    (tmp_path / "big.toml").write_bytes(b"#" * (module.MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="bytes, more than"):
        load_config(tmp_path / "big.toml")


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe",
        "a = " + "[" * 5000,
        "[model]\nlayers = " + "9" * 5000,
        "[model]\nlayers = 0x" + "f" * 5000,
        "[training]\nlearning_rate = " + "9" * 400,
        "model = 3",
        "[[model]]\n",
        "[model]\nstem = [[1]]",
        "[data]\naxes = " + "[" * 50 + "]" * 50,
        '[model]\nname = "\\u0000"',
        "[model]\nlayers = 1979-05-27",
    ],
)
def test_hostile_toml_is_a_config_error(text):
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert len(str(caught.value)) < 500


def mangle(rng, raw):
    """Damage a few places of a TOML file: bytes, lines, or values."""
    raw = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw))
        kind = rng.randrange(6)
        if kind == 0:
            raw[at] = rng.randrange(256)
        elif kind == 1:
            del raw[at : at + rng.randint(1, 40)]
        elif kind == 2:
            raw[at:at] = rng.choice([b"[", b"]", b"{", b"=", b"'", b'"""', b"\n", b".", b"-", b"1e999", b"nan"])
        elif kind == 3:
            raw[at:at] = raw[: rng.randint(1, 60)]
        elif kind == 4:
            equals = raw.find(b"=", at)
            if equals >= 0:
                raw[equals + 1 : equals + 3] = rng.choice(
                    [b" -1", b" []", b" {}", b" true", b" 'x'", b" 9e99", b" inf"]
                )
        else:
            raw[at] ^= 1 << rng.randrange(8)
        if not raw:
            return b""
    return bytes(raw)


def test_ten_thousand_mangled_files_raise_nothing_but_config_error():
    rng, raw, accepted = random.Random(1), to_toml(Config()).encode(), 0
    for _ in range(10_000):
        try:
            config = parse_config(mangle(rng, raw))
        except ConfigError:
            continue
        accepted += 1
        assert parse_config(to_toml(config)) == config
    assert 0 < accepted < 10_000


def test_number_given_for_a_name_or_version_is_a_text():
    config = apply_overrides(Config(), ["model.version=2", "model.name=7", "training.epochs=3"])
    assert (config.model.version, config.model.name, config.training.epochs) == ("2", "7", 3)


@pytest.mark.parametrize("text", [".".join("a" * 40000) + " = 1", "[" + ".".join('"a"' for _ in range(9000)) + "]"])
def test_key_of_thousands_of_parts_is_refused_at_once(text):
    with pytest.raises(ConfigError, match="more than 32 parts"):
        parse_config(text)
    with pytest.raises(ConfigError):
        apply_overrides(Config(), [f"data.axes={{{text}}}"])


def test_fault_shows_no_control_characters():
    with pytest.raises(ConfigError) as e:
        parse_config('[training]\nseed = "\\u001b[31mEVIL\\u0000"')
    assert "\x1b" not in str(e.value) and "\0" not in str(e.value)
