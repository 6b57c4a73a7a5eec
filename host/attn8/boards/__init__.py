"""Boards by name, and what a model costs on one before anything is flashed."""

from dataclasses import dataclass
from functools import cache

from ..errors import Attn8Error


class BoardError(Attn8Error):
    """A board is unknown, or a model does not fit or misbehaves on it."""


class DoesNotFitError(BoardError):
    """A board has too little flash or heap for what it is given."""

    exit_code = 3


@dataclass(frozen=True)
class Core:
    """A kind of processor that is emulated.

    Attributes:
        name: of image.TOOLCHAINS.    title: for people.
        unit: "cycles", or "instructions" where no emulator knows cycles; instructions say nothing about milliseconds.
        bound: the fewest of them that a multiply-accumulate of 8-bit numbers can take.    reason: why.
        slow: whether a window of a small model takes longer to emulate than a second or two.
    """

    name: str
    title: str
    unit: str
    bound: float
    reason: str
    slow: bool = False


@dataclass(frozen=True)
class Board:
    """A board of the table.

    Attributes:
        name: on the command line.    title, processor: for people.    core: what is emulated for it.
        firmware: "MicroPython" or "CircuitPython", the stock one.
        arch: of facts.ARCHS, whose native code its firmware loads; "" for none.    regulator: of table.REGULATORS.
        figures: {name: table.Figure}, the numbers of boards.toml.
    """

    name: str
    title: str
    processor: str
    core: Core
    firmware: str
    arch: str
    regulator: str
    figures: dict

    @property
    def unit(self):
        """What is counted: "cycles" or "instructions"."""
        return self.core.unit

    @property
    def clock_hz(self):
        """Of the stock firmware."""
        return self.figures["clock_hz"].value


_CORES = {
    core.name: core
    for core in (
        Core(
            *("m0plus", "Cortex-M0+", "cycles", 2.0),
            "MULS, ASRS, ADCS for two products packed into a word, and LDM to bring it: 4 cycles for 2",
        ),
        Core(
            *("m33", "Cortex-M33", "instructions", 0.875),
            "SMLAD adds two products, 0.5; loads and SXTB16 for a tile that the registers hold add 0.375, "
            "counted by hand",
        ),
        Core(
            *("rv32", "RV32IMC", "instructions", 2.0),
            "MUL, SRAI, ADD for two products packed into a word, and LW to bring it: 4 instructions for 2",
        ),
        # labwired runs neither MAC16 nor the SIMD of the ESP32-S3: what runs, and its bound, is C with MULL.
        *(
            Core(
                *(name, title, "instructions", 2.0),
                "MULL, ADD, SRAI, ADD for two products packed into a word: 4 instructions for 2; MAC16 and SIMD do not "
                "count",
                slow=True,
            )
            for name, title in (("esp32", "Xtensa LX6"), ("esp32s3", "Xtensa LX7, without SIMD"))
        ),
    )
}


@cache
def boards():
    """Returns {name: Board} of every board of the table. Raises table.TableError if the table is corrupt."""
    from . import table

    found = {}
    for name, (texts, figures) in table.read().items():
        if texts["core"] not in _CORES:
            raise table.TableError(f"boards.{name}.core: got {texts['core']!r}, expected {', '.join(_CORES)}")
        found[name] = Board(name, **{**texts, "core": _CORES[texts["core"]]}, figures=figures)
    return found


def __getattr__(name):
    """BOARDS: see ``boards``. EMULATED: of these the first of each processor, as bench can tell no others apart."""
    if name == "BOARDS":
        return boards()
    if name == "EMULATED":
        first = {b.processor: b.name for b in reversed(boards().values())}
        return {name: b for name, b in boards().items() if first[b.processor] == name}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def board(name):
    """Returns the Board of this name. Raises BoardError with the names there are."""
    found = boards()
    if name not in found:
        raise BoardError(f"unknown board {name!r}; expected one of: {', '.join(found)}")
    return found[name]


def bench(data, board_name="pico", vectors=None, progress=None):
    """Counts the cycles or instructions of one window on an emulated board and checks its outputs.

    Args:
        data: bytes of a model file.
        board_name: a name of BOARDS.
        vectors: how many golden vectors to run; None takes all of a small model, at least one of a large one.
            Counts are those of vector 0.
        progress: called with (steps done, steps in all).

    Returns:
        dict for JSON, UNIT being "cycles" or "instructions": board, processor, core, unit, bound (of UNIT a
        multiply-accumulate), bound_reason, source, conditions, UNIT (of a window), macs, UNIT_per_mac,
        percent_of_bound, ops (index, name, shape, macs, UNIT; UNIT_per_mac and percent_of_bound, None without
        products), sum_of_ops (each called alone), walk_UNIT_per_op (what the rest is, an op), load_UNIT; stack_bytes,
        code_bytes, file_bytes, flash_bytes (both), object_bytes, arena_bytes, ram_bytes (both); stream (None, or
        token_samples, token_UNIT, state_bytes, tokens_a_window: how many cost a window; packed_token_UNIT and
        packed_state_bytes, None where packed weights gain nothing), n_vectors, outputs_equal.
        Cycles also have clock_mhz, ms, ms_at_<clock>mhz, and stream.token_ms and stream.packed_token_ms.

    Raises:
        BoardError: if the model does not fit, or an output differs from the file's.
        ToolMissingError: without the cross compiler or the emulator.
        attn8.ModelError: if check_model refuses the file.
    """
    from .. import profile, reference
    from . import chip

    target = board(board_name)
    result = chip.emulate(data, target.core.name, vectors=vectors, progress=progress)
    ops = profile.op_table(reference.parse(data))
    macs, unit, summed = sum(op["macs"] for op in ops), target.unit, sum(result.per_op)
    return {
        **described(target),
        "source": result.source,
        "conditions": "code, weights and buffers answer without waiting; window 0 of the golden vectors",
        unit: result.total,
        "macs": macs,
        **_against_bound(target, result.total, macs),
        **_time(target, result.total),
        "ops": [
            {**op, unit: n, **_against_bound(target, n, op["macs"])} for op, n in zip(ops, result.per_op, strict=True)
        ],
        "sum_of_ops": summed,
        f"walk_{unit}_per_op": (result.total - summed) / len(ops),
        f"load_{unit}": result.load,
        "stack_bytes": result.stack_bytes,
        "code_bytes": result.code_bytes,
        "file_bytes": len(data),
        "flash_bytes": result.code_bytes + len(data),
        "object_bytes": result.object_bytes,
        "arena_bytes": result.arena_bytes,
        "ram_bytes": result.object_bytes + result.arena_bytes,
        "stream": None if result.stream is None else _stream(result, target),
        "n_vectors": len(result.outputs),
        "outputs_equal": result.outputs_equal,
    }


def described(target):
    """Returns what is known of a Board before anything runs, for JSON."""
    core = target.core
    return {
        "board": target.name,
        "processor": target.processor,
        "core": core.title,
        "unit": core.unit,
        "bound": core.bound,
        "bound_reason": core.reason,
    }


def percent_of_bound(target, per_mac):
    """Returns how near a number of cycles or instructions a multiply-accumulate is to the bound: 100 is there.

    None above 100: most of what was counted is the padding of convolutions, which no kernel multiplies.
    """
    percent = 100 * target.core.bound / per_mac
    return percent if percent <= 100 else None


def _against_bound(target, count, macs):
    per_mac = count / macs if macs else None
    percent = percent_of_bound(target, per_mac) if macs else None
    return {f"{target.unit}_per_mac": per_mac, "percent_of_bound": percent}


def _time(target, cycles):
    """Returns milliseconds of cycles; of instructions nothing is known."""
    from .. import profile

    if target.unit != "cycles":
        return {}
    ms = profile.latency_ms(cycles, target.clock_hz)
    return {"clock_mhz": target.clock_hz / 1e6, "ms": ms, f"ms_at_{target.clock_hz // 1_000_000}mhz": ms}


def _stream(result, target):
    """Returns the cost of a token for JSON."""
    found, unit = result.stream, target.unit
    times = {"token_ms": _time(target, found.token).get("ms")}
    if found.packed_token:
        times["packed_token_ms"] = _time(target, found.packed_token).get("ms")
    return {
        "token_samples": found.token_samples,
        f"token_{unit}": found.token,
        "state_bytes": found.state_bytes,
        f"packed_token_{unit}": found.packed_token,
        "packed_state_bytes": found.packed_state_bytes,
        "tokens_a_window": result.total / found.token,
        **(times if unit == "cycles" else {}),
    }
