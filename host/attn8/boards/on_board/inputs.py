"""Analog pins, an I2S microphone, and a file of the user's, as sources of samples. Sent behind sampler.py."""
# ruff: noqa: F821, SIM113 (ticks of sampler.py; enumerate allocates)

from array import array


class Adc:
    """Pins of the analog-to-digital converter: counts 0..32767, the upper 15 of 16 bits."""

    def __init__(self, pins):
        self.inputs = [_open_pin(pin) for pin in pins]

    def read(self, out):
        i = 0
        for read in self.inputs:
            out[i] = read() >> 1
            i += 1


def _open_pin(pin):
    """Returns the function that reads a pin as 0..65535."""
    try:
        from machine import ADC, Pin

        adc = ADC(Pin(pin))
        return adc.read_u16
    except ImportError:
        import board
        from analogio import AnalogIn

        analog = AnalogIn(getattr(board, pin))
        return lambda: analog.value


class Microphone:
    """Words of 32 bits from I2S, brought to int16 by a shift; what the buffer could not hold is counted as a gap.

    Where take has to wait as long as the missing samples need, the buffer is empty behind it; so how full it is follows
    from the time since, and no difference between two clocks adds up.

    Attributes:
        values: array('h') of the last chunk.    gap: samples lost before it.
    """

    BUFFER_BYTES = 32000

    def __init__(self, sck, ws, sd, rate_hz, n, shift, convert):
        from machine import I2S, Pin

        pins = {"sck": Pin(sck), "ws": Pin(ws), "sd": Pin(sd)}
        self.open = lambda: I2S(0, mode=I2S.RX, bits=32, format=I2S.MONO, rate=rate_hz, ibuf=self.BUFFER_BYTES, **pins)
        self.i2s = self.open()
        self.rate_hz, self.n, self.shift, self.convert = rate_hz, n, shift, convert
        self.words, self.values = bytearray(4 * n), array("h", bytes(2 * n))
        self.start()

    def start(self):
        """Begins anew: what the buffer holds from before is none of the recording."""
        self.i2s.deinit()
        self.i2s = self.open()
        self.gap = self.level = 0  # level: samples in the buffer behind the last take, at most
        self.last_us = ticks_us()

    def take(self):
        """Waits for the next chunk and returns its samples, always n."""
        before = ticks_us()
        held = self.level + self._samples_in(ticks_diff(before, self.last_us))
        self.gap = max(0, held - self.BUFFER_BYTES // 4)
        held -= self.gap
        self.i2s.readinto(self.words)
        self.last_us = ticks_us()
        left = held + self._samples_in(ticks_diff(self.last_us, before)) - self.n
        self.level = 0 if held < self.n and left < self.n else max(0, left)
        self.convert(self.words, self.values, self.n, 0, self.shift)
        return self.n

    def _samples_in(self, us):
        return us // 100 * (self.rate_hz // 100) // 100


class Own:
    """A file of the user's: read_sample(out) that writes counts, or read() that returns numbers."""

    def __init__(self, names):
        if "read_sample" in names:
            self.read = names["read_sample"]
        else:
            self._numbers = names["read"]

    def read(self, out):
        numbers = self._numbers()
        if len(numbers) != len(out):
            raise ValueError(f"read(): got {len(numbers)} numbers, expected {len(out)}, one for each of CHANNELS")
        i = 0
        for number in numbers:
            out[i] = number
            i += 1
