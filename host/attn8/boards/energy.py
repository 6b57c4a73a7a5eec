"""What a window costs a battery: an estimate from the currents of the table of boards, never a measurement."""

from . import BoardError

CELL_VOLTS = 3.7  # of one lithium cell
_MODES = {"light": "light_sleep_ma", "deep": "deep_sleep_ma", None: "active_ma"}


class EnergyError(BoardError):
    """What energy is asked for cannot be: a time, a capacity or a mode."""


def window_energy_uj(board, ms):
    """Returns (microjoules of ``ms`` milliseconds of work on a Board, source text).

    Raises:
        EnergyError: if ms is negative.
    """
    if not ms >= 0:
        raise EnergyError(f"energy of a window: got {ms} ms, expected 0 or more")
    current, volts = board.figures["active_ma"], board.figures["supply_volts"]
    said = f"estimate: {current.value:g} mA at {volts.value:g} V while it computes ({current.how}: {current.source})"
    return current.value * volts.value * ms, said


def average_ma(board, ms, hop_ms, sleep="light"):
    """Returns the mean current in mA, at the board's supply, of ``ms`` of work every ``hop_ms``.

    Args:
        sleep: "light" or "deep" for the rest of the time; None: always on.

    Raises:
        EnergyError: if the work takes longer than the hop, or the mode is unknown.
    """
    if sleep not in _MODES:
        raise EnergyError(f"sleep: got {sleep!r}, expected 'light', 'deep' or None")
    if not 0 <= ms <= hop_ms or not hop_ms > 0:
        raise EnergyError(f"a window of {ms:g} ms every {hop_ms:g} ms: expected work that ends before the next")
    active, rest = (board.figures[name].value for name in ("active_ma", _MODES[sleep]))
    return (active * ms + rest * (hop_ms - ms)) / hop_ms


def battery_days(board, ms, hop_ms, mah, sleep="light", volts=CELL_VOLTS):
    """Returns (days that a battery lasts, source text); sensors and self-discharge are not in it.

    Args:
        board: a Board.    ms: of a window.    hop_ms: from one window to the next.    mah: capacity of the battery.
        sleep: see average_ma.    volts: of the battery; a switching regulator takes less current from a higher one.

    Raises:
        EnergyError: if a number is out of range.
    """
    if not 0 < mah < 1e9 or not 0 < volts < 100:
        raise EnergyError(f"battery: got {mah} mAh at {volts} V, expected more than 0")
    ma = average_ma(board, ms, hop_ms, sleep)
    if board.regulator == "switching":
        ma *= board.figures["supply_volts"].value / volts
    rest = board.figures[_MODES[sleep]]
    mode = f"{sleep} sleep" if sleep else "awake"
    said = f"estimate: {rest.value:g} mA {mode} between windows ({rest.how}: {rest.source})"
    return mah / ma / 24, said
