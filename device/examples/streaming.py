"""Names movements while they happen: Sampler keeps the rate, a stream the state, Detector says what begins.

Copy a causal model.a8 (trained with model.causal = true) into the folder you run it from. It reads an MPU6050 on the
pins below, for a model with that sensor's channels in g and rad/s, whatever counts it was trained on; where there is no
such sensor, a made-up signal. Runs unmodified on MicroPython and CPython; `micropython streaming.py 200` ends after 200
samples.
"""

import sys
from array import array

import attn8

SDA, SCL = 4, 5
MAX_GAP = 3  # lost samples that the next one stands in for; after more everything begins anew


class Mpu6050:
    """Accelerometer and gyroscope at +-8 g and +-2000 degrees a second: no less than your recordings show."""

    CHANNELS = ("ax [g]", "ay [g]", "az [g]", "wx [rad/s]", "wy [rad/s]", "wz [rad/s]")
    COUNTS_PER_UNIT = (4096, 4096, 4096, 939.65, 939.65, 939.65)

    def __init__(self, model):
        from machine import I2C, Pin

        self.i2c = I2C(0, sda=Pin(SDA), scl=Pin(SCL), freq=400_000)
        for register, value in ((0x6B, 0x01), (0x1A, 0x04), (0x1B, 0x18), (0x1C, 0x10)):
            self.i2c.writeto_mem(0x68, register, bytes([value]))
        self.raw, self.words = bytearray(14), array("h", [0] * 7)
        self.scale = Scale(model, self.CHANNELS, self.COUNTS_PER_UNIT)

    def read(self):
        """Returns ax, ay, az, wx, wy, wz in the model's counts; allocates nothing."""
        self.i2c.readfrom_mem_into(0x68, 0x3B, self.raw)
        attn8.be16(self.raw, self.words)
        for i in range(3):
            self.scale.put(i, self.words[i])
            self.scale.put(i + 3, self.words[i + 4])  # the temperature lies between
        return self.scale.sample


class Scale:
    """Turns counts of a sensor into those of the model, in whole numbers: floats cost memory with every sample.

    Raises:
        ValueError: if the sensor's channels are not the model's; their names hold the units.
    """

    def __init__(self, model, channels, counts_per_unit):
        wanted = [f"{name} [{unit}]" if unit else name for name, unit in zip(model.channels, model.units)]  # noqa: B905
        if wanted != list(channels):
            raise ValueError(f"the sensor's channels: got {list(channels)}, expected those of the model: {wanted}")
        wide = model.input_type == "int16"
        self.limit = 32767 if wide else 127
        self.sample = array("h" if wide else "b", [0] * len(wanted))
        self.numbers = []
        for of_model, of_sensor in zip(model.counts_per_unit, counts_per_unit):  # noqa: B905 (as on MicroPython)
            self.numbers.append(fraction(of_model / of_sensor if of_model else 1))  # 0: trained on raw counts

    def put(self, i, value):
        """Writes a channel of ``sample``."""
        number, half, shift = self.numbers[i]
        value = value * number + half >> shift
        self.sample[i] = self.limit if value > self.limit else max(value, -self.limit - 1)


def fraction(factor):
    """Returns (number, half, shift) with factor = number / 2**shift; half is to round. Sums stay below 2**30."""
    shift = 0
    while factor < 8192 and shift < 29:
        factor, shift = 2 * factor, shift + 1
    return int(factor + 0.5), 1 << shift >> 1, shift


class MadeUp:
    """Moves for a while and rests for a while, in whole numbers."""

    def __init__(self, model):
        self.shift = 8 if model.input_type == "int8" else 0
        self.sample = array("b" if self.shift else "h", [0] * model.n_channels)
        self.n = 0

    def read(self):
        """Returns a sample in the model's counts; allocates nothing."""
        size = 180 if self.n & 64 else 3
        for i in range(len(self.sample)):
            turn = self.n * (5 + 2 * i) & 255
            self.sample[i] = (abs(turn - 128) - 64) * size >> self.shift
        self.n = (self.n + 1) & 65535
        return self.sample


def open_sensor(model):
    """Returns what gives a sample at each read."""
    try:
        return Mpu6050(model)
    except (ImportError, OSError) as e:
        print(f"no sensor ({e}): the signal is made up")
    return MadeUp(model)


def push(stream, detector, sample, gap):
    """Gives the stream a sample and what was lost before it. Returns how many outputs became due."""
    if gap > MAX_GAP:  # what came before such a hole is no past of what comes now
        stream.reset()
        detector.reset()
        gap = 0
    n_outputs = 0
    for _ in range(gap + 1):
        n_outputs += stream.push(sample)
    return n_outputs


def main(n_samples=None):
    """Runs for ever, or for n_samples."""
    model = attn8.load("model.a8")
    print(model)
    stream = model.stream()
    detector = attn8.Detector(model, smooth=3, threshold=50)  # ignore=("rest",): labels that are no event
    sampler = attn8.Sampler(open_sensor(model).read, model.sample_rate_hz or 50)
    n = 0
    for sample in sampler:
        if push(stream, detector, sample, sampler.gap):
            label, score = stream.predict()
            print(f"{label or '?'} {score}")
            began = detector.update(stream.output)
            if began:
                print(f"began: {began}")
        n += 1
        if n == n_samples:
            break
    print(f"{n} samples, {sampler.late} late, {sampler.lost} lost")


if __name__ == "__main__":
    arguments = getattr(sys, "argv", ())
    main(int(arguments[1]) if len(arguments) > 1 else None)
