"""A motion sensor on I2C, described by a table of sensors.toml: read register by register, or from its FIFO.

Sent behind sampler.py, whose clock it uses.
"""
# ruff: noqa: F821, SIM113 (ticks of sampler.py; enumerate allocates)

from array import array
from time import sleep


def find(bus, table, address):
    """Returns (address, what the chip says it is). Raises ValueError with what is on the bus instead."""
    found = bytearray(1)
    wanted = (address,) if address is not None else table["addresses"]
    for one in wanted:
        try:
            bus.read(one, table["who"]["register"], found)
            return one, found[0]
        except OSError:  # nobody answers there
            continue
    listed = ", ".join([hex(a) for a in bus.scan()]) or "nothing"
    raise ValueError(
        f"no sensor at {' or '.join([hex(a) for a in wanted])}, the bus has {listed}: check wires, power, --pins and "
        "--address"
    )


class Registers:
    """Reads the newest sample. Reading allocates nothing."""

    def __init__(self, bus, table, address, writes):
        self.bus, self.table = bus, table
        self.address, who = find(bus, table, address)
        self._check_who(who, table["who"]["values"])
        for register, value, wait_ms in table["setup"]:
            bus.write(self.address, register, value)
            sleep(wait_ms / 1000)
        for register, value in writes:
            bus.write(self.address, register, value)
        sleep(0.05)  # the first sample of the new settings
        data = table["data"]
        self.register, self.raw = data["register"], bytearray(data["bytes"])
        self.places = self.places_of([channel["at"] for channel in table["channels"]])

    def places_of(self, starts):
        """Returns (high, low) bytes of each channel."""
        big = self.table["data"]["order"] == "big"
        return [(at, at + 1) if big else (at + 1, at) for at in starts]

    def _check_who(self, found, values):
        if found not in values:
            expected = " or ".join([hex(value) for value in values])
            raise ValueError(
                f"the sensor at {hex(self.address)} is another: who_am_i got {hex(found)}, expected {expected}; "
                "choose another --sensor, or another --address"
            )

    def read(self, out):
        self.bus.read(self.address, self.register, self.raw)
        raw, i = self.raw, 0
        for high, low in self.places:
            value = raw[high] << 8 | raw[low]
            out[i] = value - 65536 if value > 32767 else value
            i += 1


class Fifo:
    """Takes samples in chunks from the sensor's own buffer, at the sensor's own rate.

    Attributes:
        values: array('h') of the last chunk.    gap: samples lost before it.
    """

    def __init__(self, sensor, rate_hz, writes):
        self.sensor, self.fifo, self.rate_hz = sensor, sensor.table["fifo"], rate_hz
        self.places = sensor.places_of(self.fifo["at"])
        count, data = self.fifo["count"], self.fifo["data"]
        self.count = bytearray(count["bytes"])
        self.state = bytearray(1)
        self.most = max(1, 240 // data["frame"])
        self.raw = bytearray(data["frame"] * self.most)
        self.values = array("h", bytes(2 * len(self.places) * self.most))
        self.gap = 0
        self._write(writes)
        self.start()

    def start(self):
        """Empties the FIFO: what it holds from before is none of the recording."""
        self._write(self.fifo["writes"])
        self.empty_us = ticks_us()  # when the last sample taken was the newest

    def _write(self, writes):
        for register, value in writes:
            self.sensor.bus.write(self.sensor.address, register, value)

    def _read(self, register, buffer):
        self.sensor.bus.read(self.sensor.address, register, buffer)

    def _waiting(self):
        """Returns the samples that the FIFO holds; counts those that it has lost as a gap."""
        self._read(self.fifo["overflow"]["register"], self.state)
        count, n = self.fifo["count"], 0
        self._read(count["register"], self.count)
        for v in self.count:
            n = n << 8 | v
        n = (n & count["mask"]) // count["unit"]
        if self.state[0] & self.fifo["overflow"]["mask"]:
            now = ticks_us()
            due = int(ticks_diff(now, self.empty_us) // 1000 * self.rate_hz / 1000 + 0.5)
            if self.fifo["empty"]:
                self._write(self.fifo["empty"])
                n = 0
            self.gap += max(1, due - n)
            self.empty_us = now
        return n

    def take(self):
        """Waits for samples; returns how many ``values`` holds, 0 if there was a gap only."""
        self.gap = 0
        there = self._waiting()
        while not there and not self.gap:
            sleep(min(0.1, 10 / self.rate_hz))
            there = self._waiting()
        n = min(there, self.most)
        if n:
            self.empty_us = ticks_us() - int((there - n) * 1000000 / self.rate_hz)
            self._fetch(n)
        return n

    def _fetch(self, n):
        data, raw = self.fifo["data"], memoryview(self.raw)
        frame = data["frame"]
        step = n * frame if data["burst"] else frame
        for start in range(0, n * frame, step):
            self._read(data["register"], raw[start : start + step])
        out, i = self.values, 0
        for start in range(0, n * frame, frame):
            for high, low in self.places:
                value = raw[start + high] << 8 | raw[start + low]
                out[i] = value - 65536 if value > 32767 else value
                i += 1
