"""An INA219 or INA226 on the board's own I2C as a meter."""

import statistics
from dataclasses import dataclass

from .board_code import board_code
from .link import RemoteError
from .metering import MeterError, energy, positive, standard_error, whole


@dataclass(frozen=True)
class Chip:
    """What the data sheet of an INA says (TI SBOS448G, SBOS547).

    Attributes:
        shunt_lsb_v, bus_lsb_v: of the registers.    ranges: full scales in volts of the shunt, with the settings of
        the configuration register for it, the mean of 128 conversions of both voltages included.
        bus_shift: bits below the bus voltage.    constant: calibration * current_lsb_a * shunt_ohm.
        every_ms: of a new value, rounded up.    maker: register 0xFE, 0 if there is none.
    """

    shunt_lsb_v: float
    bus_lsb_v: float
    ranges: tuple
    bus_shift: int
    constant: float
    every_ms: int
    maker: int


CHIPS = {
    "ina219": Chip(
        *(10e-6, 4e-3, tuple((0.04 * 2**i, 0x27FF | i << 11) for i in range(4)), 3, 0.04096, 137, 0),
    ),
    "ina226": Chip(2.5e-6, 1.25e-3, ((0.08192, 0x4927),), 0, 0.00512, 282, 0x5449),
}
_READINGS = 16  # of a phase
_OVERFLOW = 1  # in the bus voltage register of an INA219


class InaMeter:
    """An INA219 or INA226 in the supply line of the board, on the board's own I2C."""

    needs_marker, on_board = False, "_ina"

    def __init__(self, kind, name, options, say):
        if name:
            raise MeterError(f"meter {kind}: got {name!r}, expected options such as sda=4,scl=5")
        self.kind, self.chip, self.shunt_ohm = kind, CHIPS[kind], positive(kind, options, "shunt", 0.1)
        self.pins = [whole(kind, options, key) for key in ("sda", "scl")]
        if None in self.pins:
            raise MeterError(f"meter {kind}: its pins are missing; expected {kind}:sda=4,scl=5 or others")
        self.address = whole(kind, options, "address", 0x40)
        self.full_scale_v, self.config = self._range(positive(kind, options, "max"))
        # Even, as the lowest bit of the INA219's register cannot be set; 2 of 2048 steps and more.
        self.calibration = int(self.chip.constant * 32768 / self.full_scale_v) & ~1
        self.current_lsb_a = self.chip.constant / (self.calibration * self.shunt_ohm)
        self.phase_s = _READINGS * self.chip.every_ms / 1000

    def _range(self, most_a):
        """Returns (full scale in volts, configuration) of the smallest range that holds the current."""
        wanted_v = (most_a or 0) * self.shunt_ohm
        for full_scale_v, config in self.chip.ranges:
            if wanted_v <= full_scale_v * (1 + 1e-9):  # 0.4 A over 0.1 ohm are 40 mV, but for rounding
                return full_scale_v, config
        most = self.chip.ranges[-1][0] / self.shunt_ohm
        raise MeterError(
            f"meter {self.kind}: max: got {most_a:g} A, expected at most {most:.3g} A with a shunt of "
            f"{self.shunt_ohm:g} ohm; take a smaller shunt"
        )

    def start(self, link):
        pins = f"{self.pins[0]}, {self.pins[1]}, {self.address}"
        values = f"{self.config}, {self.calibration}, {self.chip.every_ms}, {self.chip.maker}"
        try:
            link.exec(board_code("ina"), timeout=60)
            link.exec(f"_ina = Ina({pins}, {values})", timeout=30)
        except RemoteError as error:
            where = f"SDA {self.pins[0]}, SCL {self.pins[1]}"
            raise MeterError(
                f"{link.device}: no {self.kind.upper()} on {where}: {error.message or error.kind}; check the wiring "
                "and the address"
            ) from None

    def mark(self, phase):
        """Nothing to do: the board reads the chip itself."""

    def milliwatts(self, current, bus):
        """Returns the power of two registers. Raises MeterError if they overflowed."""
        amperes = (current - 65536 if current & 32768 else current) * self.current_lsb_a
        overflow = self.chip.bus_shift and bus & _OVERFLOW
        if overflow or abs(amperes) >= 0.9999 * self.full_scale_v / self.shunt_ohm:
            raise MeterError(
                f"meter {self.kind}: the current is over its range of {self.full_scale_v / self.shunt_ohm:.3g} A; "
                "give max=AMPERES, or take a smaller shunt"
            )
        return amperes * (bus >> self.chip.bus_shift) * self.chip.bus_lsb_v * 1000

    def stop(self, run):
        idle, busy = ([self.milliwatts(*pair) for pair in pairs] for pairs in (run.idle, run.busy))
        if min(len(idle), len(busy)) < 2:
            raise MeterError(f"meter {self.kind}: {len(idle)} and {len(busy)} readings came, expected 2 of each phase")
        volts = statistics.mean(bus >> self.chip.bus_shift for _, bus in run.busy) * self.chip.bus_lsb_v
        resolution_mw = self.chip.shunt_lsb_v / self.shunt_ohm * volts * 1000
        how = (
            f"{self.kind.upper()} on the board's I2C, shunt {self.shunt_ohm:g} ohm, {volts:.2f} V, means of 128 "
            f"conversions, {len(idle)} of nothing to do and {len(busy)} of windows"
        )
        means = statistics.mean(idle), statistics.mean(busy)
        return energy(*means, run, how, resolution_mw, standard_error(idle, busy))
