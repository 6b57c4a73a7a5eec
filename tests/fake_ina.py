"""MicroPython source of a ``machine`` with an INA219 or INA226 and pins, for ``pty_board.Board(firmware=...)``.

The registers hold what the data sheets say for a shunt of 0.1 ohm: the current depends on the calibration that was
written, and on whether a marker pin is high.
"""

_SOURCE = """
class _Chip:
    def __init__(self, kind, address, idle_ma, busy_ma, volts):
        self.kind, self.address, self.volts, self.ma = kind, address, volts, (idle_ma, busy_ma)
        self.written = {{}}

    def value(self, register):
        ma = self.ma[Pin.high]
        if register == 0xFE:
            return 0x5449 if self.kind == "ina226" else 0
        if register == 2:
            return int(self.volts / 0.004) << 3 | 2 if self.kind == "ina219" else int(self.volts / 0.00125)
        if register == 4:  # shunt times calibration, over 4096 or 2048
            shunt = int(ma * 10) if self.kind == "ina219" else int(ma * 40)
            most = 4000 if self.kind == "ina219" else 32767
            over = 4096 if self.kind == "ina219" else 2048
            return max(-32768, min(shunt, most) * self.written.get(5, 0) // over) & 65535
        return self.written.get(register, 0)


class Pin:
    OUT, high, log = 1, 0, []

    def __init__(self, number, mode=0, value=None):
        self.number = number
        if value is not None:
            self.value(value)

    def value(self, level):
        import time
        Pin.high = level
        Pin.log.append((time.ticks_ms(), level))


class SoftI2C:
    def __init__(self, sda, scl, freq):
        self.there = sda.number == 4 and scl.number == 5

    def scan(self):
        return [_chip.address] if self.there else []

    def writeto(self, address, data):
        if not {pulled_up}:
            raise OSError(110)
        if address not in self.scan():
            raise OSError(5)

    def writeto_mem(self, address, register, data):
        _chip.written[register] = data[0] << 8 | data[1]

    def readfrom_mem_into(self, address, register, buffer):
        value = _chip.value(register)
        buffer[0], buffer[1] = value >> 8, value & 255


class Timer:
    PERIODIC, made = 1, []

    def __init__(self, number):
        if number == -1:
            raise ValueError("no such timer")

    def init(self, freq, mode, callback):  # without hard=
        Timer.made.append(freq)
        for _ in range(3):
            callback(self)

    def deinit(self):
        Timer.made.append(0)


_chip = _Chip({kind!r}, {address}, {idle_ma}, {busy_ma}, {volts})


def _install(names):
    import sys

    class Machine:
        pass

    machine = Machine()
    for name in names:
        setattr(machine, name, globals()[name])
    sys.modules["machine"] = machine


_install(("Pin", "SoftI2C", "Timer"))
"""


def firmware(kind="ina226", address=0x40, idle_ma=20.0, busy_ma=30.0, volts=5.0, pulled_up=True):
    """Returns the source; the chip answers on SDA 4, SCL 5, unless the lines have no pull-ups."""
    power = {"idle_ma": idle_ma, "busy_ma": busy_ma, "volts": volts}
    return _SOURCE.format(kind=kind, address=address, pulled_up=pulled_up, **power)
