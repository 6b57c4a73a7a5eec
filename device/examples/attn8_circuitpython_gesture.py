"""Says which gesture an MPU6050 sees, on CircuitPython; without any other library.

Wiring  VCC to 3V3, GND to GND, SDA and SCL to the board's pins of that name, or to a STEMMA QT or Qwiic socket.
Model   recordings with the channels ax, ay, az in g and wx, wy, wz in rad/s, a folder for each gesture, as from attn8
        capture on a board with MicroPython. Small, where the native module is not there:
        attn8 train --data recordings --out runs/gesture --set model.causal=true --set data.hop=16 \
            --set model.layers=1 --set model.d_model=16 --set 'model.stem=[{channels=16,kernel=8,stride=8}]'
        attn8 pack runs/gesture -o gesture.a8
Start   copy the folder attn8 into lib on the drive CIRCUITPY, then gesture.a8, then this file as code.py.

Runs unmodified on CircuitPython.
"""

from array import array

import board

import attn8

MODEL = "gesture.a8"
ADDRESS = 0x68  # 0x69 where pin AD0 is high
IGNORE = ("nothing", "rest")  # labels that are no gesture
SMOOTH, THRESHOLD, REFRACTORY = 3, 60, 2  # outputs to average over, percent, outputs from one gesture to the next
MAX_GAP = 3  # lost samples that the next one stands in for; after more everything begins anew


class Mpu6050:
    """Acceleration and rotation in the counts of the model."""

    CHANNELS, UNITS = ("ax", "ay", "az", "wx", "wy", "wz"), ("g", "g", "g", "rad/s", "rad/s", "rad/s")
    COUNTS_PER_UNIT = (4096, 4096, 4096, 939.65, 939.65, 939.65)  # in one g, in one rad/s
    # Awake; low-pass at 20 Hz, for 50 samples a second; +-2000 degrees a second; +-8 g.
    SETTINGS = (b"\x6b\x01", b"\x1a\x04", b"\x1b\x18", b"\x1c\x10")
    DATA = b"\x3b"  # the first of the registers with acceleration, temperature, rotation

    def __init__(self, model):
        got, expected = (model.channels, model.units), (self.CHANNELS, self.UNITS)
        if got != expected:
            raise ValueError(f"{MODEL}: got a model of {got}, expected one of {expected}")
        self.i2c = board.I2C()
        while not self.i2c.try_lock():
            pass
        for setting in self.SETTINGS:
            self.i2c.writeto(ADDRESS, setting)
        self.raw, self.words = bytearray(14), array("h", [0] * 7)
        self.sample = array("h", [0] * 6)
        # Counts of the model in one of the sensor, times 4096: whole numbers are quicker than floats.
        counts = model.counts_per_unit
        self.factors = [int(4096 * counts[i] / self.COUNTS_PER_UNIT[i] + 0.5) or 4096 for i in range(6)]

    def read(self):
        """Returns a sample."""
        self.i2c.writeto_then_readfrom(ADDRESS, self.DATA, self.raw)
        attn8.be16(self.raw, self.words)
        for i in range(6):
            word = self.words[i if i < 3 else i + 1]  # the temperature lies between
            self.sample[i] = max(-32768, min(32767, (word * self.factors[i] + 2048) >> 12))
        return self.sample


def run(model, sampler):
    """Prints each gesture as it begins, until Ctrl-C."""
    stream = model.stream()
    ignore = [label for label in IGNORE if label in model.labels]
    detector = attn8.Detector(model, SMOOTH, THRESHOLD, refractory=REFRACTORY, ignore=ignore)
    n_outputs = 0
    try:
        for sample in sampler:
            times = 1 + sampler.gap
            if sampler.gap > MAX_GAP:
                stream.reset()
                detector.reset()
                times = 1
            for _ in range(times):
                if not stream.push(sample):
                    continue
                n_outputs += 1
                gesture = detector.update(stream.output)
                if gesture:
                    print(f"{gesture}, score {detector.score}")  # your own action goes here
    except KeyboardInterrupt:
        print(f"{n_outputs} outputs; {sampler.late} samples late, {sampler.lost} lost")


def main():
    """Says in one line what is missing."""
    try:
        model = attn8.load(MODEL)
    except (OSError, attn8.ModelError) as e:
        print(f"no model {MODEL} ({e}): copy it to the drive")
        return
    print(model)
    try:
        run(model, attn8.Sampler(Mpu6050(model).read, model.sample_rate_hz or 50))
    except (ValueError, attn8.ModelError) as e:
        print(e)
    except (OSError, RuntimeError) as e:
        print(f"no MPU6050 answers at {ADDRESS:#x} on the board's I2C ({e}): check the wires")


if __name__ == "__main__":
    main()
