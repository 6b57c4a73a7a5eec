"""A made-up ``machine`` for the MicroPython behind a pty: pins, I2C devices with registers, ADC, I2S, Timer.

This file runs on both sides. On the board ``install`` makes it the module ``machine``; on the host ``firmware`` gives
the text for ``pty_board.Board(firmware=...)`` and ``Knobs`` turns the knobs while the board runs. What a sensor sees is
a function of the time alone, so a recording can be compared with what it should be.
"""

import math
import struct
import sys
import time

ENODEV, EIO = 19, 5  # what a board says when nobody answers, and when a transfer breaks
MOTIONS = ("still", "swing", "shake")
# Read anew at every transfer, so a test can turn them while the board runs.
KNOBS = {
    "signal": "ramp",  # "ramp": counts that rise by one a millisecond; else one of MOTIONS
    "missing": (),  # addresses that do not answer
    "who": None,  # what each who_am_i register holds instead of its own
    "fail_from": None,  # from this transfer of data on each one raises OSError
    "fail_until": None,  # up to this one
    "delay_us": 0,  # that each transfer of data takes longer
    "stall_at": (),  # transfers of data that take stall_ms longer
    "stall_ms": 0,
    "clock_ppm": 0,  # by how much a sensor's own clock is too fast
}


class World:
    """Time, knobs and signals, shared by all devices."""

    def __init__(self, knobs, read_live):
        self.knobs, self._read_live, self.n_transfers = knobs, read_live, 0
        self.start_us = self.us()

    def us(self):
        """Microseconds, from one that never goes back; may be replaced by another clock."""
        return time.time_ns() // 1000

    def knob(self, name):
        live = self._read_live()
        return live[name] if name in live else self.knobs[name]

    def since_us(self):
        return self.us() - self.start_us

    def transfer(self):
        """Counts a transfer of data, and makes it slow or broken where the knobs say so."""
        n, self.n_transfers = self.n_transfers, self.n_transfers + 1
        wait_us = self.knob("delay_us")
        if n in self.knob("stall_at"):
            wait_us += 1000 * self.knob("stall_ms")
        if wait_us:
            time.sleep(wait_us / 1000000)
        first, last = self.knob("fail_from"), self.knob("fail_until")
        if first is not None and n >= first and (last is None or n < last):
            raise OSError(EIO)

    def movement(self, us):
        """Returns (ax, ay, az) in g and (wx, wy, wz) in rad/s."""
        signal, t = self.knob("signal"), us / 1e6
        if signal == "swing":
            s, c = math.sin(2 * math.pi * t), math.cos(2 * math.pi * t)
            return (0.5 * s, 0.1 * c, 1 - 0.2 * c), (0.2 * c, 2.0 * c, 0.1 * s)
        if signal == "shake":
            s, c = math.sin(12 * math.pi * t), math.cos(12 * math.pi * t)
            return (1.5 * s, 0.8 * c, 1 + 0.3 * s), (3.0 * c, 0.5 * s, 1.5 * c)
        return (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)

    def counts(self, us, per_g, per_rad):
        """Returns the six counts of an IMU at a time, with its scales; per_rad 0 is one without a gyroscope."""
        if self.knob("signal") == "ramp":
            ms = us // 1000
            return [(ms + 1000 * i) % 32768 for i in range(6 if per_rad else 3)]
        acceleration, rotation = self.movement(us)
        counts = [int(per_g * v) for v in acceleration] + ([int(per_rad * v) for v in rotation] if per_rad else [])
        return [max(-32768, min(32767, v)) for v in counts]


# ---- I2C -----------------------------------------------------------------------------------------------------------


class Registers:
    """A device of 8-bit registers; subclasses compute those that change."""

    ADDRESS = 0
    WHO = None  # (register, value)
    CONTINUES = ()  # registers whose reading does not move on to the next

    def __init__(self, world, values=None):
        self.world, self.values = world, dict(values or {})

    def write(self, register, data):
        for i in range(len(data)):
            self.values[register + i] = data[i]
            self.written(register + i, data[i])

    def written(self, register, value):
        """Called behind each write."""

    def read(self, register, n):
        return bytes([self._one(register if register in self.CONTINUES else register + i) for i in range(n)])

    def _one(self, register):
        who = self.world.knob("who")
        if self.WHO and register == self.WHO[0]:
            return self.WHO[1] if who is None else who
        return self.value(register)

    def value(self, register):
        return self.values.get(register, 0)


class Imu(Registers):
    """An IMU whose registers FIRST.. hold the newest sample and whose FIFO, where it has one, the samples since."""

    FIRST, N_BYTES = 0, 12
    FIFO_BYTES, FRAME = 0, 12

    def __init__(self, world):
        Registers.__init__(self, world)
        self.latest, self.fifo, self.filled_us, self.overflow = b"", bytearray(), 0, False

    def value(self, register):
        if not self.FIRST <= register < self.FIRST + self.N_BYTES:
            return self.values.get(register, 0)
        if register == self.FIRST or not self.latest:
            self.latest = self.frame(self.world.since_us())
        return self.latest[register - self.FIRST]

    def frame(self, us):
        """Returns the N_BYTES of data registers at a time."""
        raise NotImplementedError

    def fifo_frame(self, us):
        return self.frame(us)

    def period_us(self):
        """Of the sensor's samples, by its own clock; 0 where the FIFO is off."""
        return 0

    def fill(self):
        """Puts the samples that are due by now into the FIFO; the oldest bytes fall out."""
        period = self.period_us()
        if not period:
            return
        period = period * 1000000 // (1000000 + self.world.knob("clock_ppm"))
        now = self.world.since_us()
        if now - self.filled_us > 2 * period * self.FIFO_BYTES // self.FRAME:
            self.filled_us, self.overflow = now - period * (2 * self.FIFO_BYTES // self.FRAME), True
        while now - self.filled_us >= period:
            self.filled_us += period
            self.fifo += self.fifo_frame(self.filled_us)
        if len(self.fifo) > self.FIFO_BYTES:
            self.overflow = True
            self.fifo = self.fifo[len(self.fifo) - self.FIFO_BYTES :]

    def empty(self):
        self.fifo, self.filled_us, self.overflow = bytearray(), self.world.since_us(), False

    def pop(self, n):
        found, self.fifo = self.fifo[:n], self.fifo[n:]
        return bytes(found) + bytes(n - len(found))


class Mpu6050(Imu):
    """Of InvenSense: asleep at first, high byte first, temperature between acceleration and rotation; FIFO."""

    ADDRESS, WHO, CONTINUES = 0x68, (0x75, 0x68), (0x74,)
    FIRST, N_BYTES, FIFO_BYTES = 0x3B, 14, 1024
    _PER_G, _PER_DEGREE = (16384, 8192, 4096, 2048), (131.0, 65.5, 32.8, 16.4)

    def __init__(self, world):
        Imu.__init__(self, world)
        self.values[0x6B] = 0x40

    def _counts(self, us):
        if self.values[0x6B] & 0x40:
            return [0] * 6
        per_g = self._PER_G[self.values.get(0x1C, 0) >> 3 & 3]
        per_degree = self._PER_DEGREE[self.values.get(0x1B, 0) >> 3 & 3]
        return self.world.counts(us, per_g, per_degree * 180 / math.pi)

    def frame(self, us):
        counts = self._counts(us)
        return struct.pack(">7h", *counts[:3], 0, *counts[3:])

    def fifo_frame(self, us):
        return struct.pack(">6h", *self._counts(us))

    def period_us(self):
        if not self.values.get(0x6A, 0) & 0x40 or self.values.get(0x23, 0) != 0x78:
            return 0
        base = 1000 if 1 <= self.values.get(0x1A, 0) & 7 <= 6 else 125
        return base * (1 + self.values.get(0x19, 0))

    def written(self, register, value):
        if register == 0x6B and value & 0x80:
            self.values = {0x6B: 0x40}
        if register == 0x6A and value & 4:
            self.values[0x6A] = value & ~4
            if not value & 0x40:  # the reset works while the FIFO is off
                self.empty()

    def read(self, register, n):
        self.fill()
        if register == 0x74:
            return self.pop(n)
        return Imu.read(self, register, n)

    def value(self, register):
        if register == 0x3A:
            found, self.overflow = self.overflow << 4 | 1, False
            return found
        if register in (0x72, 0x73):
            return len(self.fifo) >> (8 if register == 0x72 else 0) & 0xFF
        return Imu.value(self, register)


class Lsm6ds3(Imu):
    """Of ST: low byte first, rotation before acceleration, off until a rate is written."""

    ADDRESS, WHO = 0x6A, (0x0F, 0x69)
    FIRST, N_BYTES = 0x22, 12
    _MG, _MDPS = (0.061, 0.488, 0.122, 0.244), (8.75, 17.5, 35.0, 70.0)

    def frame(self, us):
        on_a, on_w = self.values.get(0x10, 0), self.values.get(0x11, 0)
        per_g, per_degree = 1000 / self._MG[on_a >> 2 & 3], 1000 / self._MDPS[on_w >> 2 & 3]
        counts = self.world.counts(us, per_g, per_degree * 180 / math.pi)
        a = counts[:3] if on_a >> 4 else [0] * 3
        w = counts[3:] if on_w >> 4 else [0] * 3
        return struct.pack("<6h", *w, *a)


class Adxl345(Imu):
    """Of Analog Devices: low byte first, acceleration only, in standby at first; FIFO of 32 samples."""

    ADDRESS, WHO = 0x53, (0x00, 0xE5)
    FIRST, N_BYTES, FIFO_BYTES, FRAME = 0x32, 6, 192, 6

    def frame(self, us):
        if not self.values.get(0x2D, 0) & 8:
            return bytes(6)
        full = self.values.get(0x31, 0) & 8
        per_g = 256 if full else 256 >> (self.values.get(0x31, 0) & 3)
        return struct.pack("<3h", *self.world.counts(us, per_g, 0))

    def period_us(self):
        if self.values.get(0x38, 0) >> 6 != 2 or not self.values.get(0x2D, 0) & 8:
            return 0
        return 312 << 15 - (self.values.get(0x2C, 0x0A) & 15)

    def written(self, register, value):
        if register == 0x38:
            self.empty()

    def read(self, register, n):
        self.fill()
        if register == 0x32 and self.period_us():
            return self.pop(n)
        return Imu.read(self, register, n)

    def value(self, register):
        if register == 0x39:
            return len(self.fifo) // 6
        if register == 0x30:
            found, self.overflow = int(self.overflow), False
            return found
        return Imu.value(self, register)


DEVICES = {
    "mpu6050": Mpu6050,
    "lsm6ds3": Lsm6ds3,
    "adxl345": Adxl345,
}


def make_i2c(world, devices):
    """Returns the class I2C of a bus with these devices, {address: device}."""

    class I2C:
        def __init__(self, *arguments, **names):
            self.pointer = 0

        def _device(self, address):
            if address not in devices or address in world.knob("missing"):
                raise OSError(ENODEV)
            return devices[address]

        def scan(self):
            return sorted(address for address in devices if address not in world.knob("missing"))

        def readfrom_mem(self, address, register, n, addrsize=8):
            device = self._device(address)
            if n > 2:  # as data does; a single register is a question about the state
                world.transfer()
            return device.read(register, n)

        def readfrom_mem_into(self, address, register, buffer, addrsize=8):
            buffer[:] = self.readfrom_mem(address, register, len(buffer))

        def writeto_mem(self, address, register, data, addrsize=8):
            self._device(address).write(register, data)

        def writeto(self, address, data, stop=True):
            device = self._device(address)
            self.pointer = data[0] if len(data) else 0
            if len(data) > 1:
                device.write(self.pointer, data[1:])
            return len(data)

        def readfrom(self, address, n, stop=True):
            return self.readfrom_mem(address, self.pointer, n)

        def readfrom_into(self, address, buffer, stop=True):
            buffer[:] = self.readfrom(address, len(buffer))

    return I2C


# ---- the rest of the module ----------------------------------------------------------------------------------------


class Pin:
    """A pin that remembers what it was set to."""

    IN, OUT, OPEN_DRAIN, PULL_UP, PULL_DOWN, IRQ_RISING, IRQ_FALLING = range(7)

    def __init__(self, id, mode=-1, pull=-1, value=0, **names):
        self.id, self.level = id, value

    def value(self, level=None):
        if level is None:
            return self.level
        self.level = level

    def __call__(self, level=None):
        return self.value(level)

    def on(self):
        self.level = 1

    def off(self):
        self.level = 0

    def irq(self, handler=None, trigger=0, **names):
        pass


def make_adc(world):
    class ADC:
        """Counts of 16 bits: with "ramp" two a millisecond, each pin 1000 further; else the movement's first axis."""

        ATTN_11DB = 3

        def __init__(self, pin, **names):
            self.id = pin.id if isinstance(pin, Pin) else pin

        def read_u16(self):
            world.transfer()
            us = world.since_us()
            if world.knob("signal") == "ramp":
                return (2 * (us // 1000) + 1000 * self.id) % 65536
            return max(0, min(65535, int(32768 + 16384 * world.movement(us)[0][0])))

    return ADC


def make_i2s(world):
    class I2S:
        """A microphone of 32-bit words whose sample n holds n in its upper 16 bits; readinto waits as a real one does.

        What does not fit into its buffer of ``ibuf`` bytes is lost, and the numbers go on.
        """

        RX, TX, MONO, STEREO = range(4)

        def __init__(self, id, **names):
            self.rate, self.bits, self.ibuf = names["rate"], names["bits"], names["ibuf"]
            self.word = (self.bits // 8) * (2 if names["format"] == self.STEREO else 1)
            self.start_us, self.n = world.us(), 0

        def _made(self):
            return (world.us() - self.start_us) * self.rate // 1000000

        def readinto(self, buffer):
            k, made = len(buffer) // self.word, self._made()
            self.n = max(self.n, made - self.ibuf // self.word)
            while self._made() < self.n + k:
                time.sleep_ms(1)
            for i in range(k):
                value = (self.n + i) % 32768
                word = struct.pack("<i", value << 16) if self.bits == 32 else struct.pack("<h", value)
                buffer[i * self.word : (i + 1) * self.word] = word * (self.word // len(word))
            self.n += k
            world.transfer()
            return k * self.word

        def deinit(self):
            pass

    return I2S


class Timer:
    """Calls back when somebody idles or sleeps lightly, as often as it became due."""

    ONE_SHOT, PERIODIC = 0, 1
    running = []  # noqa: RUF012 (MicroPython knows no ClassVar)

    def __init__(self, id=-1, **names):
        if names:
            self.init(**names)

    def init(self, mode=PERIODIC, period=-1, freq=0, callback=None):
        self.mode, self.callback = mode, callback
        self.period_us = int(1000000 / freq) if freq else 1000 * period
        self.due_us = time.time_ns() // 1000 + self.period_us
        if self not in Timer.running:
            Timer.running.append(self)

    def deinit(self):
        if self in Timer.running:
            Timer.running.remove(self)

    @staticmethod
    def call_due(now_us):
        for timer in list(Timer.running):
            while timer in Timer.running and timer.due_us <= now_us:
                timer.due_us += timer.period_us
                if timer.mode == Timer.ONE_SHOT:
                    timer.deinit()
                timer.callback(timer)


class Machine:
    """What ``import machine`` gives. ``world`` is of no board: a test's way in."""

    PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = range(1, 6)

    def __init__(self, world, devices):
        self.world, self.devices = world, devices
        self.Pin, self.ADC, self.I2S, self.Timer = Pin, make_adc(world), make_i2s(world), Timer
        self.I2C = self.SoftI2C = make_i2c(world, devices)

    def freq(self, hz=None):
        return 125000000

    def unique_id(self):
        return b"\x01\x02\x03\x04\x05\x06\x07\x08"

    def idle(self):
        time.sleep_ms(1)
        Timer.call_due(self.world.us())

    def lightsleep(self, ms=0):
        end = self.world.us() + 1000 * ms
        while self.world.us() < end:
            self.idle()

    def reset(self):
        sys.exit()

    soft_reset = reset

    def reset_cause(self):
        return self.SOFT_RESET


def install(names, knobs, live_path):
    """On the board: makes ``machine`` of devices by name, with knobs, and those of a file of the host."""
    read_live = dict
    if live_path:
        import vfs

        file, last = vfs.VfsPosix().open(live_path, "r"), {}

        def read_live():
            file.seek(0)
            text = file.read()
            if text.endswith("}"):  # else half written
                last.clear()
                last.update(eval(text))
            return last

    world = World(dict(KNOBS, **knobs), read_live)
    devices = [DEVICES[name](world) for name in names]
    sys.modules["machine"] = Machine(world, {device.ADDRESS: device for device in devices})


def firmware(*names, live=None, more="", **knobs):
    """On the host: returns the MicroPython for ``Board(firmware=...)``.

    Args:
        names: of DEVICES on the bus.    live: Knobs that may be turned later.    knobs: of KNOBS, from the start.
        more: MicroPython that runs behind it; ``_ns`` holds the names of this file.
    """
    from pathlib import Path

    unknown = set(knobs) - set(KNOBS)
    if unknown:
        raise ValueError(f"no such knob: {sorted(unknown)}")
    source = Path(__file__).read_text(encoding="utf-8")
    call = f"_ns['install']({names!r}, {knobs!r}, {str(live.path) if live else ''!r})"
    return f"_ns = {{'__name__': 'fake_machine'}}\nexec({source!r}, _ns)\n{call}\n{more}\ndel _ns\n"


class Knobs:
    """On the host: knobs in a file that the board reads at every transfer."""

    def __init__(self, path, **knobs):
        self.path, self.now = path, {}
        self.turn(**knobs)

    def turn(self, **knobs):
        self.now.update(knobs)
        self.path.write_text(repr(self.now), encoding="utf-8")
