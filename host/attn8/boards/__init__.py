"""Boards by name, and what a model costs on one before anything is flashed."""

from dataclasses import dataclass

from ..errors import Attn8Error


class BoardError(Attn8Error):
    """A board is unknown, or a model does not fit or misbehaves on it."""


class DoesNotFitError(BoardError):
    """A board has too little flash or heap for what it is given."""

    exit_code = 3


@dataclass(frozen=True)
class Board:
    """A board of the table: its name on the command line, its processor, its default clock in Hz."""

    name: str
    processor: str
    clock_hz: int


BOARDS = {b.name: b for b in (Board("pico", "RP2040", 125_000_000),)}


def board(name):
    """Returns the Board of this name. Raises BoardError with the names there are."""
    if name not in BOARDS:
        raise BoardError(f"unknown board {name!r}; expected one of: {', '.join(BOARDS)}")
    return BOARDS[name]


def bench(data, board_name="pico", vectors=None, progress=None):
    """Counts the cycles of one window on an emulated board and checks its outputs.

    Args:
        data: bytes of a model file.
        board_name: a name of BOARDS.
        vectors: how many golden vectors to run; None takes all of a small model, at least one of a large one.
            Cycles are those of vector 0.
        progress: called with (steps done, steps in all).

    Returns:
        dict for JSON: board, processor, clock_mhz, cycles, ms, ms_at_<clock>mhz, source, ops (index, name, shape,
        macs, cycles, cycles_per_mac or None), load_cycles, stack_bytes, code_bytes, stream
        (None, or token_samples, token_cycles, state_bytes, token_ms, tokens_a_window: how many cost a window),

    Raises:
        BoardError: if the model does not fit, or an output differs from the file's.
        ToolMissingError: without the cross compiler or the emulator.
        attn8.ModelError: if check_model refuses the file.
    """
    from .. import profile, reference
    from . import rp2040

    target = board(board_name)
    result = rp2040.emulate(data, vectors=vectors, progress=progress)
    ms = profile.latency_ms(result.cycles_total, target.clock_hz)
    return {
        "board": target.name,
        "processor": target.processor,
        "clock_mhz": target.clock_hz / 1e6,
        "cycles": result.cycles_total,
        "ms": ms,
        f"ms_at_{target.clock_hz // 1_000_000}mhz": ms,
        "source": result.source,
        "ops": _with_cycles(profile.op_table(reference.parse(data)), result.cycles_per_op),
        "load_cycles": result.load_cycles,
        "stack_bytes": result.stack_bytes,
        "code_bytes": result.code_bytes,
        "stream": None if result.stream is None else _stream(result, target),
        "n_vectors": len(result.outputs),
        "outputs_equal": result.outputs_equal,
    }


def _stream(result, target):
    """Returns the cost of a token for JSON."""
    from .. import profile

    cycles = result.stream.token_cycles
    ms = profile.latency_ms(cycles, target.clock_hz)
    return {**vars(result.stream), "token_ms": ms, "tokens_a_window": result.cycles_total / cycles}


def _with_cycles(ops, cycles):
    return [
        {**op, "cycles": n, "cycles_per_mac": n / op["macs"] if op["macs"] else None}
        for op, n in zip(ops, cycles, strict=True)
    ]
