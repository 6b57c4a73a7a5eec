"""The golden vectors of a file: inputs that a generator makes, and the outputs that they must have."""

from array import array
from struct import unpack_from

from .checking import ModelError
from .tables import ERR_SELFTEST


def selftest(m, golden):
    """Runs the golden vectors of a Model; ``golden`` is their record. Returns True, or raises ModelError SELFTEST."""
    window = array("h" if m.input_type == "int16" else "b", [0] * (m.n_steps * m.n_channels))
    expected_at = 4 * m.n_channels + 8 * m.n_golden
    for i in range(m.n_golden):
        draw(golden, i, window, m.n_steps, m.n_channels)
        got = m.run(window)
        expected = array("b", golden[expected_at : expected_at + m.n_outputs])
        if got != expected:
            raise ModelError(ERR_SELFTEST, f"golden vector {i}", list(got), list(expected))
        expected_at += m.n_outputs
    return True


def draw(golden, vector, window, n_steps, n_channels):
    """Writes the input of a golden vector (models/FORMAT.md, "Golden vectors")."""
    x, y, hold = unpack_from("<HHH", golden, 4 * n_channels + 8 * vector)
    channels = [unpack_from("<hH", golden, 4 * c) for c in range(n_channels)]
    i = 0
    for t in range(n_steps):
        for low, n_values in channels:
            if t % hold:
                window[i] = window[i - n_channels]
            else:
                draw = (x ^ (x << 5)) & 65535
                x = y
                y = (y ^ (y >> 1)) ^ (draw ^ (draw >> 3))
                window[i] = low + (y * n_values >> 16)
            i += 1
