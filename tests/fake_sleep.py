"""A board in virtual time: the made-up ``machine`` of fake_machine.py with a clock that passes only when it is used.

Time passes while a program waits, sleeps, looks at the clock or uses a bus, so that a day of a program takes seconds
and every run is the same. Ticks wrap at 2**30, as on a board. What sensors see is a function of the time (``imu``,
``level``), which the host computes too. CircuitPython's modules board and busio are here as well. Runs on MicroPython,
CircuitPython and CPython.
"""

import sys

import fake_machine

WRAP = 1 << 30  # of a board's ticks
LOOK_US = 100  # what a look at the clock takes


def imu(ms):
    """Returns the six counts of an IMU after so many milliseconds."""
    n = ms // 20
    size = (n >> 5 & 3) * 100 + 3
    return [_turn(n * (5 + 2 * i)) * size + _noise(n, i) for i in range(6)]


def level(ms):
    """Returns what an ADC measures after so many milliseconds, 0..65535."""
    n = ms // 10
    return 7000 + _turn(7 * n) * (5 + 30 * (n >> 6 & 3)) + _noise(n, 1)


def sound(n):
    """Returns sample n of a microphone as int32, of which the upper 24 bits are used."""
    n %= 32768
    return (_turn(19 * n) * (n >> 11 & 3) * 30 + _noise(n, 0)) << 16 | (n & 255) << 8


def _turn(n):
    return abs((n & 255) - 128) - 64


def _noise(n, i):
    return ((n * 7919 + i * 104729) * 31337 >> 5 & 255) - 128


class Clock:
    """Microseconds since the board was switched on; Ctrl-C comes once, when ``stop_us`` more have passed."""

    def __init__(self, now_us=WRAP - 3000000, stop_us=None):
        self.now, self.stop = now_us, None if stop_us is None else now_us + stop_us

    def advance(self, us):
        self.now += us
        if self.stop is not None and self.now >= self.stop:
            self.stop = None
            raise KeyboardInterrupt


class CircuitTime:
    """The module time of CircuitPython."""

    def __init__(self, clock):
        self.clock = clock

    def monotonic_ns(self):
        self.clock.advance(LOOK_US)
        return self.clock.now * 1000

    time_ns = monotonic_ns

    def sleep(self, s):
        self.clock.advance(int(1000000 * s + 0.5))


class Time(CircuitTime):
    """The module time of MicroPython."""

    def ticks_us(self):
        self.clock.advance(LOOK_US)
        return self.clock.now % WRAP

    def ticks_ms(self):
        self.clock.advance(LOOK_US)
        return self.clock.now // 1000 % WRAP

    def ticks_add(self, ticks, delta):
        return (ticks + delta) % WRAP

    def ticks_diff(self, a, b):
        return (a - b + WRAP // 2) % WRAP - WRAP // 2

    def sleep_us(self, us):
        self.clock.advance(us)

    def sleep_ms(self, ms):
        self.clock.advance(1000 * ms)


class World(fake_machine.World):
    """Devices on a virtual clock, whose sensors see ``imu``, ``level`` and ``sound``.

    Attributes:
        log: dict of what a test wants to know. "fifo_us": when the FIFO of the IMU began to fill, a list. "slept_us".
        "sound": the number of the first sample of each block of sound. "blocks": how many of these there were when a
        line was printed, for each.
    """

    def __init__(self, knobs, clock):
        self.clock = clock
        fake_machine.World.__init__(self, knobs, dict)
        self.log = {"fifo_us": [], "slept_us": 0, "sound": [], "blocks": []}

    def us(self):
        return self.clock.now

    def counts(self, us, per_g, per_rad):
        return imu(us // 1000)

    def movement(self, us):
        return (((level(us // 1000) - 32768) / 16384, 0, 0), (0, 0, 0))


class Mpu6050(fake_machine.Mpu6050):
    """Takes its registers as strictly as the chip: the FIFO is emptied only while it is off."""

    def written(self, register, value):
        if register == 0x6A and value & 4 and self.was_on:
            return
        if register == 0x6A and value & 0x40 and not self.was_on:
            self.filled_us = self.world.since_us()
            self.world.log["fifo_us"].append(self.filled_us)
        fake_machine.Mpu6050.written(self, register, value)

    def write(self, register, data):
        self.fill()
        self.was_on = self.values.get(0x6A, 0) & 0x40
        fake_machine.Mpu6050.write(self, register, data)


class Machine(fake_machine.Machine):
    """With a light sleep in which only the clock and the sensors go on.

    Args:
        sleeps: {number of a sleep, from 1: factor on its length}: what wakes a board too soon, or too late.
    """

    def __init__(self, world, devices, sleeps):
        fake_machine.Machine.__init__(self, world, devices)
        self.sleeps, self.n_sleeps, self.world = sleeps, 0, world
        self.I2S = microphone(world, self.I2S)

    def lightsleep(self, ms):
        if not isinstance(ms, int) or ms < 0:
            raise ValueError(f"lightsleep: got {ms}, and no board would ever wake from that")
        self.n_sleeps += 1
        us = int(1000 * ms * self.sleeps.get(self.n_sleeps, 1))
        self.world.log["slept_us"] += us
        self.world.clock.advance(us)


def microphone(world, made_up):
    """Returns a class I2S that hears ``sound``; the made-up one only counts its samples."""

    class I2S(made_up):
        def __init__(self, id, **names):
            if 0x68 in world.knob("missing"):
                raise OSError(5)
            made_up.__init__(self, id, **names)

        def readinto(self, buffer):
            n_bytes = made_up.readinto(self, buffer)
            world.log["sound"].append(self.n - n_bytes // self.word)
            for i in range(0, n_bytes, 4):
                n = buffer[i + 2] | buffer[i + 3] << 8
                buffer[i : i + 4] = (sound(n) & 0xFFFFFFFF).to_bytes(4, "little")
            return n_bytes

    return I2S


class Module:
    """A module of these names."""

    def __init__(self, **names):
        for name, value in names.items():
            setattr(self, name, value)


def circuitpython(machine, missing):
    """Returns CircuitPython's modules board and busio over the devices of a Machine."""

    class I2C:
        def __init__(self, scl=None, sda=None, frequency=100000):
            if missing:
                raise RuntimeError("No pull up found on SDA or SCL; check your wiring")
            self.bus, self.locked = machine.I2C(0), False

        def try_lock(self):
            self.locked = True
            return True

        def unlock(self):
            self.locked = False

        def writeto(self, address, buffer):
            self._check()
            self.bus.writeto_mem(address, buffer[0], buffer[1:])

        def writeto_then_readfrom(self, address, out, into):
            self._check()
            self.bus.readfrom_mem_into(address, out[0], into)

        def _check(self):
            if not self.locked:
                raise RuntimeError("Function requires lock")

    return Module(I2C=I2C, SCL=5, SDA=4), Module(I2C=I2C)


def install(stop_s, sleeps=(), circuit=False, **knobs):
    """Makes the modules time, machine, board and busio of a board with an MPU6050; returns its World.

    Args:
        stop_s: virtual seconds until Ctrl-C.    sleeps: pairs (number of a sleep, factor).
        circuit: time is that of CircuitPython.    knobs: of fake_machine.
    """
    clock = Clock(stop_us=int(1000000 * stop_s))
    sys.modules["time"] = fake_machine.time = (CircuitTime if circuit else Time)(clock)
    world = World(dict(fake_machine.KNOBS, signal="virtual", **knobs), clock)
    machine = Machine(world, {0x68: Mpu6050(world)}, dict(sleeps))
    if not circuit:
        sys.modules["machine"] = machine
        return world
    sys.modules["board"], sys.modules["busio"] = circuitpython(machine, 0x68 in world.knob("missing"))
    return world


def mount(rom):
    import os

    import vfs

    if os.stat(rom)[0] & 0x4000:
        vfs.mount(vfs.VfsPosix(rom), "/rom")
        return
    with open(rom, "rb") as f:
        vfs.mount(vfs.VfsRom(f.read()), "/rom")


def run(path, stalls=(), rom=None, **options):
    """Runs a program as ``__main__`` on such a board and returns the World.

    Args:
        stalls: pairs (number of a line that it prints, milliseconds that this takes).
        rom: file with a ROMFS, or a folder, that is mounted at /rom.
    """
    world, stalls = install(**options), dict(stalls)
    if rom:
        mount(rom)

    def slow_print(*values):
        print(*values)
        world.log["blocks"].append(len(world.log["sound"]))
        world.clock.advance(1000 * stalls.get(len(world.log["blocks"]), 0))

    with open(path) as f:
        exec(f.read(), {"__name__": "__main__", "print": slow_print})
    return world


if __name__ == "__main__":  # fake_sleep.py PROGRAM OPTIONS: the last line it prints is the log
    import json

    done = run(sys.argv[1], **json.loads(sys.argv[2]))
    print(json.dumps(done.log))
