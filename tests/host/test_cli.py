"""The command line: quick and torch-free where it can be, one line per error, the promised exit codes and keys."""

import ast
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from attn8 import boards, cli, reference
from attn8.boards import sensors
from models import random_model, windows_for

VERBS = [
    *("demo", "train", "quantize", "pack", "evaluate", "report", "info", "check", "run", "bench", "fit", "data"),
    *("devices", "install", "build-native", "deploy", "rollback", "status", "flash", "repl", "test", "capture"),
    *("monitor", "new"),
]
BLOCK_TORCH = "import sys; sys.modules['torch'] = None; sys.argv[0] = 'attn8'; from attn8.cli import main; main()"


def attn8(*arguments, code=0):
    """Runs the program without torch. Returns (stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK_TORCH, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.a8"
    path.write_bytes(random_model(1))
    return path


@pytest.fixture
def data_file(tmp_path, model_file):
    path = tmp_path / "windows.npz"
    np.savez(path, x=windows_for(model_file.read_bytes(), 10))
    return path


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "data"] + ["data preview"])
def test_help_of_every_verb_needs_no_torch_and_has_an_example(verb):
    out, _ = attn8(*verb.split(), "--help")
    assert "Example:" in out
    assert f"attn8 {verb}" in out


def test_help_lists_every_verb():
    assert cli.cli.list_commands(None) == VERBS
    assert set(cli.cli.commands) == set(VERBS)
    assert list(cli.cli.commands["data"].commands) == ["preview"]


def verbs_of(group):
    """Yields every verb, those inside others too."""
    for command in group.commands.values():
        yield from verbs_of(command) if isinstance(command, click.Group) else (command,)


def test_every_example_of_a_help_is_right_usage(monkeypatch):
    monkeypatch.setattr(click.Path, "convert", lambda self, value, parameter, context: value)  # none of them is here
    for command in verbs_of(cli.cli):
        _, _, examples = command.help.partition("Example:\n")
        lines = [line for example in examples.splitlines() for line in example.split(" && ") if "attn8 " in line]
        assert lines, command.name
        for line in lines:
            _, *words = shlex.split(line)
            context, group = click.Context(cli.cli), cli.cli
            while isinstance(group, click.Group):
                name, group, words = group.resolve_command(context, words)
            group.make_context(name, words)


def test_paragraphs_of_a_help_are_aligned():
    for command in verbs_of(cli.cli):
        text, _, _ = command.help.partition("\b\n")
        assert not any(line.startswith(" ") for line in text.splitlines()), command.name


@pytest.mark.parametrize("verb", ["capture", "monitor"])
def test_help_names_the_sensors(verb):
    out = " ".join(attn8(verb, "--help")[0].split())
    assert f"sensors.toml ({', '.join(sensors.tables())}), adc, i2s, or your own" in out


def test_only_the_program_and_its_reports_import_boards():
    found = set()
    for file in Path(cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                names = [f"{node.module or ''}.{alias.name}" for alias in node.names]
                found |= {file.name for name in names if name.lstrip(".").split(".")[0] == "boards"}
    assert found == {"cli.py", "demo.py", "report.py", "native_build.py"}  # the last one writes package.json for boards


@pytest.mark.parametrize("verb", ["bench", "fit", "flash"])
def test_help_names_the_boards(verb):
    out = " ".join(attn8(verb, "--help")[0].split())
    assert f"Boards: {', '.join(boards.boards())}." in out.replace("- ", "-")


def test_importing_the_program_loads_nothing_heavy():
    heavy = ("torch", "numpy", "rich", "safetensors", "serial", "mpremote", "jinja2", "tomllib", "asyncio")
    code = f"import sys, attn8, attn8.cli; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_device_names_are_there_without_torch_or_numpy():
    code = "import sys, attn8; attn8.load, attn8.Model, attn8.ModelError; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_check_says_ok(model_file):
    out, _ = attn8("check", model_file, "--json")
    assert json.loads(out)["ok"] is True


def test_check_of_a_damaged_file_is_one_line_and_exit_1(model_file):
    data = bytearray(model_file.read_bytes())
    data[100] ^= 1
    model_file.write_bytes(data)
    out, err = attn8("check", model_file, code=1)
    assert out == ""
    assert err.count("\n") == 1
    assert "checksum" in err


def test_check_finds_a_wrong_id(model_file):
    from attn8 import pack, spec

    data = model_file.read_bytes()
    sealed = bytearray(pack.seal(data[spec.HEADER_BYTES :], data[6] | data[7] << 8))
    sealed[16] ^= 1
    import zlib

    sealed[12:16] = zlib.crc32(bytes(sealed[16:]), zlib.crc32(bytes(sealed[:12]))).to_bytes(4, "little")
    model_file.write_bytes(sealed)
    _, err = attn8("check", model_file, code=1)
    assert "id: got" in err


def test_check_finds_wrong_golden_vectors(model_file):
    from attn8 import pack, spec

    model = reference.parse(model_file.read_bytes())
    _, at, n_bytes = model.records[-1]
    body = bytearray(model.data[spec.HEADER_BYTES :])
    outputs = model.golden_outputs.size
    last = at - spec.HEADER_BYTES + n_bytes - spec.padded(outputs)
    body[last] ^= 1
    model_file.write_bytes(pack.seal(bytes(body), len(model.graph.ops)))
    _, err = attn8("check", model_file, code=1)
    assert "golden" in err


def test_info_has_the_promised_keys_and_its_account_adds_up(model_file):
    out, _ = attn8("info", model_file, "--json")
    info = json.loads(out)
    for key in ("input_shape", "n_outputs", "labels", "parameters", "macs", "model_bytes", "arena_bytes"):
        assert key in info
    assert sum(line["bytes"] for line in info["account"]) == info["model_bytes"] == model_file.stat().st_size


def test_run_gives_the_outputs_of_the_reference_and_their_hash(model_file, data_file):
    out, err = attn8("run", model_file, data_file, "--backend", "reference", "--json")
    found = json.loads(out)
    data = model_file.read_bytes()
    expected = reference.Reference(data).run(windows_for(data, 10))
    assert found["n_windows"] == 10
    assert found["outputs"] == expected.tolist()
    import hashlib

    assert found["sha256"] == hashlib.sha256(expected.tobytes()).hexdigest()
    assert "10 windows" in err


def test_run_on_the_device_package_gives_the_same_bytes(model_file, data_file):
    hashes = {
        json.loads(attn8("run", model_file, data_file, "--backend", b, "--json")[0])["sha256"]
        for b in ("python", "reference")
    }
    assert len(hashes) == 1


def test_model_with_int8_input_runs_on_small_counts(tmp_path):
    data = random_model(2, int16=False)
    x = windows_for(data, 4)
    (tmp_path / "int8.a8").write_bytes(data)
    np.savez(tmp_path / "x.npz", x=x.astype(np.int16))
    found = json.loads(attn8("run", tmp_path / "int8.a8", tmp_path / "x.npz", "--json")[0])
    assert found["outputs"] == reference.Reference(data).run(x).tolist()
    np.savez(tmp_path / "x.npz", x=x.astype(np.int16) + 200)
    assert "-128..127" in attn8("run", tmp_path / "int8.a8", tmp_path / "x.npz", code=1)[1]


def test_quiet_prints_no_message(model_file, data_file):
    _, err = attn8("run", model_file, data_file, "--backend", "reference", "--quiet")
    assert err == ""


def test_missing_file_is_one_line(tmp_path):
    _, err = attn8("check", tmp_path / "absent.a8", code=1)
    assert err.count("\n") == 1
    assert "cannot be read" in err


def test_windows_of_another_shape_are_refused(model_file, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 5, 1), np.int16))
    _, err = attn8("run", model_file, tmp_path / "x.npz", code=1)
    assert "expected [28, 6]" in err


def test_wrong_usage_is_exit_2(model_file):
    attn8("run", model_file, "x.npz", "--backend", "abacus", code=2)
    attn8("evaluate", code=2)


def test_evaluate_of_a_model_of_other_data_asks_for_its_windows(model_file):
    _, err = attn8("evaluate", model_file, code=1)
    assert "--data DATA" in err


def test_train_without_torch_names_the_extra(tmp_path):
    _, err = attn8("train", "--out", tmp_path / "run", code=1)
    assert "pip install 'attn8[train]'" in err
    assert err.count("\n") == 1


def test_evaluate_of_a_file_reports_accuracy_and_f1(model_file, tmp_path):
    data = model_file.read_bytes()
    g = reference.parse(data).graph
    x = windows_for(data, 12)
    y = np.arange(12) % len(g.labels)
    group = np.repeat(np.arange(3), 4)
    np.savez(tmp_path / "d.npz", x=x, y=y, group=group, labels=np.array(g.labels))
    found = json.loads(attn8("evaluate", model_file, "--data", tmp_path / "d.npz", "--json")[0])
    predicted = reference.Reference(data).run(x).argmax(1)
    assert found["int8_accuracy"] == pytest.approx((predicted == y).mean())
    assert 0 <= found["int8_macro_f1"] <= 1
    assert found["n_test"] == 12


def test_names_from_outside_reach_no_terminal_raw(tmp_path):
    evil = "\x1b[31m\u202eEVIL"
    for arguments in (("check", f"{evil}.a8"), ("data", "preview", tmp_path / evil), ("evaluate", tmp_path / evil)):
        out, err = attn8(*arguments, code=1)
        assert "EVIL" in err
        assert "\x1b" not in out + err and "\u202e" not in out + err


def test_tables_keep_their_styles_and_escape_their_texts():
    import io

    from rich.console import Console
    from rich.table import Table

    from attn8.terminal import Printable

    table = Table("name")
    table.add_row("\x1b[31mEVIL")
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=60)
    console.print(Printable(table))
    text = console.file.getvalue()
    assert "\\x1b[31mEVIL" in text
    assert "\x1b[1m" in text  # the heading is still bold


def test_paths_may_hold_any_printable_character(tmp_path):
    folder = tmp_path / "csv 😀 ü"
    folder.mkdir()
    _, err = attn8("data", "preview", folder, code=1)
    assert f"{folder}: got no" in err or f"{folder}" in err
    assert "no such file" not in err


def test_result_survives_a_closed_stdout(model_file):
    command = f'"{sys.executable}" -m attn8.cli info "{model_file}" >&-'
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=60)
    assert "Traceback" not in done.stderr


def test_nothing_is_said_when_the_reader_of_a_pipe_has_gone(model_file):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "attn8.cli", "info", str(model_file)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_who_ends_it_politely_ends_it_as_ctrl_c_does(name):
    code = f"import os, signal, attn8.cli as c; c.cli = lambda: os.kill(os.getpid(), signal.{name}); c.main()"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, timeout=60)
    assert "KeyboardInterrupt" in done.stderr and done.returncode in (1, 130, -2)


def test_nohup_stays_in_force():
    code = "import os, signal, attn8.cli as c; c.cli = lambda: os.kill(os.getpid(), signal.SIGHUP); c.main(); print(1)"
    done = subprocess.run(
        ["nohup", sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, b"1\n")
