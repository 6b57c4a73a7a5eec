"""I2C on MicroPython and CircuitPython: registers of a device, read and written the same way."""


class MicroPythonBus:
    """Pins as numbers; without them those that the firmware calls its own."""

    def __init__(self, sda, scl, hz):
        from machine import I2C, Pin

        if sda is None:
            try:
                self.i2c = I2C(0, freq=hz)
            except TypeError:
                raise ValueError("this firmware has no I2C pins of its own: give --pins sda=N,scl=N") from None
        else:
            self.i2c = self._with_pins(I2C, Pin(sda), Pin(scl), hz)

    def _with_pins(self, hardware, sda, scl, hz):
        for number in (0, 1):
            try:
                return hardware(number, sda=sda, scl=scl, freq=hz)
            except ValueError:  # these pins do not belong to that bus
                continue
        from machine import SoftI2C

        return SoftI2C(sda=sda, scl=scl, freq=hz)

    def scan(self):
        return self.i2c.scan()

    def write(self, address, register, value):
        self.i2c.writeto_mem(address, register, bytes([value]))

    def read(self, address, register, buffer):
        self.i2c.readfrom_mem_into(address, register, buffer)


class CircuitPythonBus:
    """Pins as names of ``board``; without them the board's own I2C."""

    def __init__(self, sda, scl, hz):
        import board

        if sda is None:
            self.i2c = board.I2C()
        else:
            from busio import I2C

            self.i2c = I2C(getattr(board, scl), getattr(board, sda), frequency=hz)
        while not self.i2c.try_lock():
            pass
        self.register = bytearray(1)

    def scan(self):
        return self.i2c.scan()

    def write(self, address, register, value):
        self.i2c.writeto(address, bytes([register, value]))

    def read(self, address, register, buffer):
        self.register[0] = register
        self.i2c.writeto_then_readfrom(address, self.register, buffer)


def open_bus(sda, scl, hz=400000):
    """Returns the bus of this firmware."""
    try:
        return MicroPythonBus(sda, scl, hz)
    except ImportError:
        return CircuitPythonBus(sda, scl, hz)
