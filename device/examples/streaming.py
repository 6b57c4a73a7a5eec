"""Names movements while they happen: Sampler keeps the rate, a stream the state, Detector says what begins.

Copy a causal model.a8 (trained with model.causal = true) into the folder you run it from. It reads an MPU6050 on the
pins below, or a made-up signal where there is none. Runs unmodified on MicroPython and CPython;
`micropython streaming.py 200` ends after 200 samples.
"""

import sys
from array import array

import attn8

SDA, SCL = 4, 5


class Mpu6050:
    """Accelerometer and gyroscope at +-8 g and +-2000 degrees a second: set what your recordings were made with."""

    def __init__(self):
        from machine import I2C, Pin

        self.i2c = I2C(0, sda=Pin(SDA), scl=Pin(SCL), freq=400_000)
        for register, value in ((0x6B, 0x01), (0x1A, 0x03), (0x1B, 0x18), (0x1C, 0x10)):
            self.i2c.writeto_mem(0x68, register, bytes([value]))
        self.raw, self.words = bytearray(14), array("h", [0] * 7)
        self.sample = array("h", [0] * 6)

    def read(self):
        """Returns the counts of ax, ay, az, wx, wy, wz; allocates nothing."""
        self.i2c.readfrom_mem_into(0x68, 0x3B, self.raw)
        attn8.be16(self.raw, self.words)
        for i in range(3):
            self.sample[i], self.sample[i + 3] = self.words[i], self.words[i + 4]  # the temperature lies between
        return self.sample


class MadeUp:
    """Moves for a while and rests for a while, in whole numbers."""

    def __init__(self, model):
        self.shift = 8 if model.input_type == "int8" else 0
        self.sample = array("b" if self.shift else "h", [0] * model.n_channels)
        self.n = 0

    def read(self):
        """Returns the counts of a sample; allocates nothing."""
        size = 180 if self.n & 64 else 3
        for i in range(len(self.sample)):
            turn = self.n * (5 + 2 * i) & 255
            self.sample[i] = (abs(turn - 128) - 64) * size >> self.shift
        self.n = (self.n + 1) & 65535
        return self.sample


def open_sensor(model):
    """Returns what gives a sample at each read."""
    try:
        return Mpu6050()
    except (ImportError, OSError) as e:
        print(f"no sensor ({e}): the signal is made up")
    return MadeUp(model)


def main(n_samples=None):
    """Runs for ever, or for n_samples."""
    model = attn8.load("model.a8")
    print(model)
    stream = model.stream()
    detector = attn8.Detector(model, smooth=3, threshold=50)  # ignore=("rest",): labels that are no event
    sampler = attn8.Sampler(open_sensor(model).read, model.sample_rate_hz or 50)
    n = 0
    for sample in sampler:
        if sampler.gap:  # what came before the hole is no past of what comes now
            stream.reset()
            detector.reset()
        if stream.push(sample):
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
