"""Runs on a board: an INA219 or INA226 on its I2C, which measures the current that the board itself takes."""

_TIMED_OUT = 110
_CONFIG, _BUS, _CURRENT, _CALIBRATION, _MAKER = 0, 2, 4, 5, 0xFE  # registers, 16 bits, high byte first


class Ina:
    """Args: pins; address; the values of two registers; milliseconds of a conversion; who the maker must be, or 0."""

    def __init__(self, sda, scl, address, config, calibration, every_ms, maker):
        from machine import Pin, SoftI2C

        self.i2c = SoftI2C(sda=Pin(sda), scl=Pin(scl), freq=400000)
        self.address, self.every_ms, self.two = address, every_ms, bytearray(2)
        self._check_there(address)
        if maker and self.get(_MAKER) != maker:
            raise ValueError(f"what answers at address {address} is another chip")
        self.put(_CONFIG, config)
        self.put(_CALIBRATION, calibration)
        if (self.get(_CONFIG), self.get(_CALIBRATION)) != (config, calibration):
            raise ValueError(f"what answers at address {address} keeps no settings")

    def _check_there(self, address):
        """Asks before it scans: a line without pull-up stays low, where each address takes seconds."""
        try:
            self.i2c.writeto(address, b"")
            return
        except OSError as error:
            if error.errno == _TIMED_OUT:
                raise ValueError("the lines stay low, as without pull-ups") from None
        raise ValueError(f"nobody answers at address {address}; there answer {self.i2c.scan() or 'none'}")

    def put(self, register, value):
        self.two[0], self.two[1] = value >> 8, value & 255
        self.i2c.writeto_mem(self.address, register, self.two)

    def get(self, register):
        self.i2c.readfrom_mem_into(self.address, register, self.two)
        return self.two[0] << 8 | self.two[1]

    def read(self):
        """Returns the registers of current and bus voltage."""
        return self.get(_CURRENT), self.get(_BUS)
