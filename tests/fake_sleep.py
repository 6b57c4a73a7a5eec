"""A board in virtual time for programs that wait, sleep and read sensors: modules time, machine, and CircuitPython's.

``install`` puts them where import looks first; then time passes only when somebody waits, sleeps, looks at the clock
or uses a bus, so that hours of a program take seconds and every run is the same. Ticks wrap at 2**30 as on a board.
What the sensors see is a function of the number of the sample (``imu``, ``adc``, ``audio``), which the host computes
too. Runs on MicroPython, CircuitPython and CPython.
"""

import sys

WRAP = 1 << 30  # of a board's ticks
LOOK_US = 20  # what a look at the clock takes
FIFO_BYTES = 1024  # of an MPU6050
SET_BYTES = 12  # of one sample there: acceleration and rotation


def imu(n):
    """Returns sample n of an MPU6050 as 7 int16 words: acceleration, temperature, rotation."""
    size = (n >> 6 & 3) * 60 + 3
    return tuple([-3300 if i == 3 else _turn(n * (5 + 2 * i)) * size + _noise(n, i) for i in range(7)])


def adc(n):
    """Returns reading n of an ADC, 0..65535."""
    return 30000 + _turn(7 * n) * (40 + 100 * (n >> 6 & 3)) + _noise(n, 1)


def audio(n):
    """Returns sample n of an I2S microphone as int32: 24 bits, left in the word."""
    return (_turn(19 * n) * (n >> 11 & 3) * 30 + _noise(n, 0)) << 16 | (n & 255) << 8


def _turn(n):
    return abs((n & 255) - 128) - 64


def _noise(n, i):
    return ((n * 7919 + i * 104729) * 31337 >> 5 & 255) - 128


class Clock:
    """Microseconds since the board was switched on; raises KeyboardInterrupt once when ``stop_us`` is reached."""

    def __init__(self, now_us=WRAP - 30000, stop_us=None):
        self.now, self.stop = now_us, None if stop_us is None else now_us + stop_us

    def advance(self, us):
        self.now += us
        if self.stop is not None and self.now >= self.stop:
            self.stop = None
            raise KeyboardInterrupt


class Time:
    """The module time of MicroPython and of CircuitPython."""

    def __init__(self, clock):
        self._clock = clock

    def ticks_us(self):
        self._clock.advance(LOOK_US)
        return self._clock.now % WRAP

    def ticks_ms(self):
        self._clock.advance(LOOK_US)
        return self._clock.now // 1000 % WRAP

    def ticks_add(self, ticks, delta):
        return (ticks + delta) % WRAP

    def ticks_diff(self, a, b):
        return (a - b + WRAP // 2) % WRAP - WRAP // 2

    def monotonic_ns(self):
        self._clock.advance(LOOK_US)
        return self._clock.now * 1000

    def sleep_ms(self, ms):
        self._clock.advance(1000 * ms)

    def sleep_us(self, us):
        self._clock.advance(us)

    def sleep(self, s):
        self._clock.advance(int(1000000 * s))


class Counter:
    """Numbers the samples of something that goes on by itself, from when it was first asked."""

    def __init__(self, clock, rate_hz):
        self.clock, self.rate_hz, self.start = clock, rate_hz, None

    def now(self):
        """Returns the number of the sample that is newest now."""
        if self.start is None:
            self.start = self.clock.now
        return int((self.clock.now - self.start) * self.rate_hz) // 1000000


class Mpu6050:
    """Registers and FIFO of an MPU6050, from its register map.

    Attributes:
        rate_factor: by how much its clock is faster than it should be.    dropped: samples that the FIFO lost.
    """

    def __init__(self, clock, rate_hz, rate_factor=1):
        self.registers = bytearray(128)
        self.registers[0x6B] = 0x40  # asleep
        self.clock, self.factor = clock, rate_factor
        self.live, self.fifo = Counter(clock, rate_hz), bytearray()
        self.filled = self.dropped = 0
        self.filling = None  # a Counter from when the FIFO is on

    def write(self, register, data):
        for value in data:
            self._fill()
            self.registers[register] = value
            if register == 0x6A:
                self._control(value)
            register += 1

    def _control(self, value):
        if value & 4:  # reset
            self.dropped += len(self.fifo) // SET_BYTES
            self.fifo = bytearray()
        if value & 0x40 and not self.filling:
            self.filling = Counter(self.clock, self.factor * self._rate_hz())
            self.filling.now()

    def _rate_hz(self):
        filtered = 1 <= self.registers[0x1A] & 7 <= 6
        return (1000 if filtered else 8000) / (1 + self.registers[0x19])

    def _fill(self):
        """Adds what was measured since; the newest pushes out the oldest bytes, and the flag says so."""
        if not self.filling or self.registers[0x23] != 0x78 or self.registers[0x6B] & 0x40:
            return
        while self.filled < self.filling.now():
            words = imu(self.filled)
            for i in (0, 1, 2, 4, 5, 6):
                self.fifo += bytes([words[i] >> 8 & 255, words[i] & 255])
            self.filled += 1
        if len(self.fifo) > FIFO_BYTES:
            self.dropped += (len(self.fifo) - FIFO_BYTES + SET_BYTES - 1) // SET_BYTES
            self.fifo = self.fifo[len(self.fifo) - FIFO_BYTES :]
            self.registers[0x3A] |= 0x10

    def read(self, register, buffer):
        self._fill()
        if register == 0x74:
            self._read_fifo(buffer)
            return
        if register == 0x3B:
            self._measure()
        self.registers[0x72], self.registers[0x73] = len(self.fifo) >> 8, len(self.fifo) & 255
        for i in range(len(buffer)):
            buffer[i] = self.registers[register + i]
        if register <= 0x3A < register + len(buffer):
            self.registers[0x3A] = 0  # reading clears it

    def _read_fifo(self, buffer):
        n = min(len(buffer), len(self.fifo))
        for i in range(len(buffer)):
            buffer[i] = self.fifo[i] if i < n else 255
        self.fifo = self.fifo[n:]

    def _measure(self):
        if self.registers[0x6B] & 0x40:  # asleep: it measures nothing
            return
        words = imu(self.live.now())
        for i in range(7):
            self.registers[0x3B + 2 * i] = words[i] >> 8 & 255
            self.registers[0x3C + 2 * i] = words[i] & 255


class Pin:
    IN, OUT = 0, 1

    def __init__(self, number, *_, **__):
        self.number = number


class World:
    """All that a program sees: a clock, an MPU6050 at 0x68, an ADC, a microphone.

    Args:
        stop_s: virtual seconds until Ctrl-C.    rate_hz: of what is read sample by sample.
        audio_hz: of the microphone.    missing: no sensor answers.
        sleeps: {number of a lightsleep: factor on its milliseconds}.    rate_factor: of the MPU6050's own clock.
        stall: (number of a read of a bus or microphone, milliseconds that pass before it).
        fails: number of the read of a bus that fails; from then on all do.
    """

    def __init__(
        self, stop_s=10, rate_hz=50, audio_hz=8000, missing=False, sleeps=None, rate_factor=1, stall=None, fails=None
    ):
        self.clock = Clock(stop_us=int(1000000 * stop_s))
        self.time, self.audio_hz, self.missing = Time(self.clock), audio_hz, missing
        self.sensor = Mpu6050(self.clock, rate_hz, rate_factor)
        self.analog = Counter(self.clock, rate_hz)
        self.sleeps = {int(n): factor for n, factor in (sleeps or {}).items()}
        self.stall, self.fails = stall or (None, 0), fails
        self.n_sleeps = self.n_reads = 0

    def lightsleep(self, ms=None):
        if not isinstance(ms, int) or ms < 0:
            raise ValueError(f"lightsleep: got {ms}, which a board would never wake from")
        self.n_sleeps += 1
        self.clock.advance(int(1000 * ms * self.sleeps.get(self.n_sleeps, 1)))

    def transfer(self, address, n_bytes, freq_hz=400000):
        """Takes the time of an I2C transfer."""
        if self.missing or address != 0x68:
            raise OSError(5)
        self.clock.advance((n_bytes + 3) * 9 * 1000000 // freq_hz)

    def count_read(self):
        self.n_reads += 1
        if self.n_reads == self.stall[0]:
            self.clock.advance(1000 * self.stall[1])
        if self.fails is not None and self.n_reads >= self.fails:
            raise OSError(5)


class Module:
    """A module with these names."""

    def __init__(self, **names):
        for name, value in names.items():
            setattr(self, name, value)


def machine_of(world):
    """Returns MicroPython's module machine."""

    class I2C:
        def __init__(self, bus=0, *, scl=None, sda=None, freq=400000):
            self.freq_hz = freq

        def writeto_mem(self, address, register, data):
            world.transfer(address, 1 + len(data), self.freq_hz)
            world.sensor.write(register, data)

        def readfrom_mem_into(self, address, register, buffer):
            world.transfer(address, 2 + len(buffer), self.freq_hz)
            world.count_read()
            world.sensor.read(register, buffer)

    class ADC:
        def __init__(self, pin):
            if world.missing:
                raise ValueError("Pin doesn't have ADC capabilities")

        def read_u16(self):
            world.count_read()
            return adc(world.analog.now())

    return Module(I2C=I2C, SoftI2C=I2C, ADC=ADC, I2S=i2s_of(world), Pin=Pin, lightsleep=world.lightsleep)


def i2s_of(world):
    class I2S:
        RX, MONO, STEREO = 0, 0, 1

        def __init__(self, bus, *, sck, ws, sd, mode, bits, format, rate, ibuf):
            if world.missing:
                raise OSError(5)
            if (bits, format, rate) != (32, I2S.MONO, world.audio_hz):
                raise ValueError(f"got {bits} bits, format {format}, {rate} Hz")
            self.room, self.source = ibuf // 4, Counter(world.clock, rate)
            self.ring, self.taken = [], 0  # ranges of sample numbers that wait; how many were made
            self.source.now()

        def _fill(self):
            """Adds the samples made since; what has no room is lost, the newest first."""
            made, waiting = self.source.now(), sum([b - a for a, b in self.ring])
            end = min(made, self.taken + self.room - waiting)
            if end > self.taken:
                self.ring.append((self.taken, end))
            self.taken = made

        def readinto(self, buffer):
            """Waits until the buffer is full, as in blocking mode."""
            world.count_read()
            at = 0
            while at < len(buffer):
                self._fill()
                if not self.ring:
                    world.clock.advance(1000)
                    continue
                first, end = self.ring.pop(0)
                last = min(end, first + (len(buffer) - at) // 4)
                for n in range(first, last):
                    buffer[at : at + 4] = (audio(n) & 0xFFFFFFFF).to_bytes(4, "little")
                    at += 4
                if last < end:
                    self.ring.insert(0, (last, end))
            return at

        def deinit(self):
            pass

    return I2S


def circuitpython_of(world):
    """Returns CircuitPython's modules board, busio and analogio."""

    class I2C:
        def __init__(self, scl=None, sda=None, frequency=400000):
            if world.missing:
                raise RuntimeError("No pull up found on SDA or SCL; check your wiring")
            self.locked, self.freq_hz = False, frequency

        def try_lock(self):
            self.locked = True
            return True

        def unlock(self):
            self.locked = False

        def writeto(self, address, buffer):
            if not self.locked:
                raise RuntimeError("Function requires lock")
            world.transfer(address, len(buffer), self.freq_hz)
            world.sensor.write(buffer[0], buffer[1:])

        def writeto_then_readfrom(self, address, out, into):
            if not self.locked:
                raise RuntimeError("Function requires lock")
            world.transfer(address, len(out) + 1 + len(into), self.freq_hz)
            world.count_read()
            world.sensor.read(out[0], into)

    return {"board": Module(I2C=I2C, SCL=5, SDA=4), "busio": Module(I2C=I2C)}


def install(**options):
    """Puts the modules of a World with these options in place and returns it."""
    world = World(**options)
    sys.modules["time"] = world.time
    sys.modules["machine"] = machine_of(world)
    for name, module in circuitpython_of(world).items():
        sys.modules[name] = module
    return world
