"""Says which gesture an MPU6050 sees, with a model that an update which fails never loses.

Wiring  VCC to 3V3, GND to GND, SDA and SCL to the pins below (an ESP32 often has 21 and 22).
Model   attn8 capture recordings --sensor mpu6050 --labels circle,shake,nothing --person ann
        attn8 train --data recordings --out runs/gesture --set model.causal=true --set data.hop=16
        attn8 pack runs/gesture -o gesture.a8
        attn8 deploy gesture.a8
Start   mpremote run gesture.py; or mpremote cp gesture.py :main.py, and it starts by itself.

Runs unmodified on MicroPython.
"""

from array import array

from machine import I2C, Pin

import attn8

MODEL = "gesture"  # a slot name: of the two models that a board keeps, the newest that works
SDA, SCL, ADDRESS = 4, 5, 0x68  # 0x69 where pin AD0 is high
IGNORE = ("nothing", "rest")  # labels that are no gesture
SMOOTH, THRESHOLD, REFRACTORY = 3, 60, 2  # outputs to average over, percent, outputs from one gesture to the next
MAX_GAP = 3  # lost samples that the next one stands in for; after more everything begins anew
TRIAL = 20  # outputs after which a new model has proved itself


class Mpu6050:
    """Acceleration and rotation in the counts of the model."""

    CHANNELS, UNITS = ("ax", "ay", "az", "wx", "wy", "wz"), ("g", "g", "g", "rad/s", "rad/s", "rad/s")
    COUNTS_PER_UNIT = (4096, 4096, 4096, 939.65, 939.65, 939.65)  # in one g, in one rad/s
    # Awake; low-pass at 20 Hz, for 50 samples a second; +-2000 degrees a second; +-8 g.
    SETTINGS = ((0x6B, 0x01), (0x1A, 0x04), (0x1B, 0x18), (0x1C, 0x10))

    def __init__(self, model):
        got, expected = (model.channels, model.units), (self.CHANNELS, self.UNITS)
        if got != expected:
            raise ValueError(f"{MODEL}: got a model of {got}, expected one of {expected}")
        self.i2c = I2C(0, sda=Pin(SDA), scl=Pin(SCL), freq=400_000)
        for register, value in self.SETTINGS:
            self.i2c.writeto_mem(ADDRESS, register, bytes([value]))
        self.raw, self.words = bytearray(14), array("h", [0] * 7)
        self.sample = array("h", [0] * 6)
        # Counts of the model in one of the sensor, times 4096: floats would cost memory with every sample.
        counts = model.counts_per_unit
        self.factors = [int(4096 * counts[i] / self.COUNTS_PER_UNIT[i] + 0.5) or 4096 for i in range(6)]

    def read(self):
        """Returns a sample; allocates nothing."""
        self.i2c.readfrom_mem_into(ADDRESS, 0x3B, self.raw)
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
                gesture = detector.update(stream.output)
                if gesture:
                    print(f"{gesture}, score {detector.score}")  # your own action goes here
                n_outputs += 1
                if n_outputs == TRIAL and attn8.confirm():
                    print("the new model has proved itself")
    except KeyboardInterrupt:
        print(f"{n_outputs} outputs; {sampler.late} samples late, {sampler.lost} lost")


def main():
    """Says in one line what is missing."""
    try:
        model = attn8.load(MODEL)
    except (OSError, attn8.ModelError) as e:
        print(f"no model {MODEL} ({e}): attn8 deploy gesture.a8")
        return
    print(model)
    try:
        sensor = Mpu6050(model)
        run(model, attn8.Sampler(sensor.read, model.sample_rate_hz or 50))
    except (ValueError, attn8.ModelError) as e:
        print(e)
    except OSError as e:
        print(f"no MPU6050 answers at {ADDRESS:#x}, SDA pin {SDA}, SCL pin {SCL} ({e}): check the wires")


if __name__ == "__main__":
    main()
