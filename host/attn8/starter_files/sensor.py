"""The sensor: the one file to change for your own hardware.

As it stands it reads an MPU6050 (accelerometer and gyroscope) on the I2C pins below. On a computer, or with
SIMULATE = True, it makes up a movement, so that everything else can be tried before anything is soldered.
"""

import math

SDA, SCL = 4, 5  # pin numbers: GP4 and GP5 of a Pico; an ESP32 often has 21 and 22
SIMULATE = False  # True: a made-up movement on a board without a sensor
RATE_HZ = 50  # samples a second of a recording; a model then asks for its own

# Name and unit of each value of a sample, as in the header of a recording, and the counts of the sensor in one unit.
CHANNELS = ("ax [g]", "ay [g]", "az [g]", "wx [rad/s]", "wy [rad/s]", "wz [rad/s]")
COUNTS_PER_UNIT = (4096, 4096, 4096, 939.65, 939.65, 939.65)  # MPU6050 at +-8 g and +-2000 degrees a second


def read_sample(out):
    """Reads one sample. Put your own sensor here.

    Args:
        out: array('h') with one place a channel: whole numbers, -32768..32767. For a driver that gives floats, set
            COUNTS_PER_UNIT to 1000 for each channel and write int(1000 * value).
    """
    _source.read(out)


class Mpu6050:
    """Accelerometer and gyroscope in one, at +-8 g and +-2000 degrees a second; reading allocates nothing."""

    ADDRESS = 0x68
    # What the chip wants written before it measures: (register, value).
    SETTINGS = (
        (0x6B, 0x01),  # awake, clock of the gyroscope
        (0x1A, 0x03),  # low-pass at 44 Hz: no faster movement is taken for a slower one
        (0x1B, 0x18),  # gyroscope +-2000 degrees a second
        (0x1C, 0x10),  # accelerometer +-8 g
    )
    FIRST = 0x3B  # 14 bytes from here: acceleration x, y, z, temperature, rotation x, y, z, high byte first

    def __init__(self, bus):
        self.bus = bus
        self.raw = bytearray(14)
        for register, value in self.SETTINGS:
            bus.write(self.ADDRESS, register, value)

    def read(self, out):
        self.bus.read(self.ADDRESS, self.FIRST, self.raw)
        for i in range(6):
            at = 2 * i if i < 3 else 2 * i + 2  # the temperature lies between
            value = self.raw[at] << 8 | self.raw[at + 1]
            out[i] = value - 65536 if value > 32767 else value


class MicroPythonBus:
    """Registers of an I2C device, on MicroPython."""

    def __init__(self):
        from machine import I2C, Pin

        self.i2c = I2C(0, sda=Pin(SDA), scl=Pin(SCL), freq=400_000)

    def write(self, address, register, value):
        self.i2c.writeto_mem(address, register, bytes([value]))

    def read(self, address, register, buffer):
        self.i2c.readfrom_mem_into(address, register, buffer)


class CircuitPythonBus:
    """Registers of an I2C device, on CircuitPython: the board's own I2C pins."""

    def __init__(self):
        import board

        self.i2c = board.I2C()
        while not self.i2c.try_lock():
            pass
        self.register = bytearray(1)

    def write(self, address, register, value):
        self.i2c.writeto(address, bytes([register, value]))

    def read(self, address, register, buffer):
        self.register[0] = register
        self.i2c.writeto_then_readfrom(address, self.register, buffer)


class Simulated:
    """A made-up movement: an arm that swings twice in three seconds."""

    def __init__(self):
        self.n = 0

    def read(self, out):
        angle = 4.19 * self.n / RATE_HZ
        swing, turn = math.sin(angle), math.cos(angle)
        self.n += 1
        values = (0.4 * swing, 0.1 * turn, 1.0 - 0.2 * turn, 0.3 * turn, 1.8 * turn, 0.2 * swing)
        for i in range(len(out)):
            out[i] = int(values[i % 6] * COUNTS_PER_UNIT[i])


def open_source():
    """Returns the sensor, or the simulation where there are no pins to ask."""
    if SIMULATE:
        return Simulated()
    for bus in (MicroPythonBus, CircuitPythonBus):
        try:
            return Mpu6050(bus())
        except ImportError:
            continue
        except OSError:
            # A made-up movement in place of a sensor with a loose wire would end up in the recordings.
            raise OSError(
                f"no MPU6050 answers at address {Mpu6050.ADDRESS}, SDA pin {SDA}, SCL pin {SCL}: check the wires and "
                "the pin numbers in sensor.py, or set SIMULATE = True there"
            ) from None
    return Simulated()


_source = open_source()
