"""Sleeps between the outputs of a stream, while an MPU6050 collects the samples in its FIFO: none is lost. MicroPython.

Wiring  VCC to 3V3, GND to GND, SDA and SCL to the pins below (an ESP32 often has 21 and 22). By its data sheet the
        sensor takes 3.8 mA, which may be more than the board then does, and 0.5 mA with its gyroscope off.
Model   attn8 capture recordings --sensor mpu6050 --labels walk,still --person ann
        attn8 train --data recordings --out runs/power --set model.causal=true --set data.hop=32
        attn8 pack runs/power -o model.a8
Start   mpremote cp model.a8 :, then mpremote run low_power.py on a Pico: with a computer behind it its USB stays awake.
        An ESP32's own USB does not: read its UART, after mpremote cp low_power.py :main.py + reset.
"""

import time
from array import array

from machine import I2C, Pin, lightsleep

import attn8

MODEL = "model.a8"
SDA, SCL, ADDRESS = 4, 5, 0x68  # 0x69 where pin AD0 is high
FIFO_BYTES, SET_BYTES = 1024, 12  # room in the sensor, and what a sample takes there
SENSOR = ("ax", "ay", "az", "wx", "wy", "wz"), ("g", "g", "g", "rad/s", "rad/s", "rad/s")
COUNTS_PER_UNIT = (4096, 4096, 4096, 939.65, 939.65, 939.65)  # in one g, in one rad/s


class Fifo:
    """An MPU6050 that keeps samples until a block is fetched. It has no watermark: the board wakes by its own clock."""

    def __init__(self, model):
        rate_hz = model.sample_rate_hz or 50
        self.step_ms = int(1000 / rate_hz + 0.5)
        if (model.channels, model.units) != SENSOR or abs(rate_hz * self.step_ms - 1000) > 20:
            got = f"{model.channels}, {model.units}, {rate_hz} Hz"
            raise ValueError(f"{MODEL}: got {got}, expected {SENSOR}, a period of whole milliseconds")
        # A block is at most half of the FIFO; the other half has room for what comes while the board is late.
        self.n = min(model.hop, FIFO_BYTES // SET_BYTES // 2)
        self.raw, self.block = bytearray(self.n * SET_BYTES), array("h", [0] * (self.n * 6))
        self.count, self.status = bytearray(2), bytearray(1)
        # Counts of the model in one of the sensor, times 4096: floats would cost memory with every sample.
        self.factors = [int(4096 * model.counts_per_unit[i] / COUNTS_PER_UNIT[i] + 0.5) or 4096 for i in range(6)]
        self.i2c = I2C(0, sda=Pin(SDA), scl=Pin(SCL), freq=400_000)
        # Awake; low-pass at 20 Hz; rate; +-2000 degrees a second; +-8 g; what goes into the FIFO.
        self.write((0x6B, 1), (0x1A, 4), (0x19, self.step_ms - 1), (0x1B, 0x18), (0x1C, 0x10), (0x23, 0x78))
        self.restart()

    def write(self, *settings):
        for register, value in settings:
            self.i2c.writeto_mem(ADDRESS, register, bytes([value]))

    def restart(self):
        self.write((0x6A, 0), (0x6A, 4), (0x6A, 0x40))  # the FIFO off, empty, on: the chip empties none that is on
        self.i2c.readfrom_mem_into(ADDRESS, 0x3A, self.status)  # which forgets the overflow
        self.n_kept, self.read_ms = 0, time.ticks_ms()

    def missing_ms(self):
        """Returns in how many milliseconds a block will be there; 0 or less if it is."""
        self.i2c.readfrom_mem_into(ADDRESS, 0x72, self.count)
        self.n_waiting = (self.count[0] << 8 | self.count[1]) // SET_BYTES
        return (self.n - self.n_waiting) * self.step_ms

    def overflow(self):
        """Returns how many samples were lost, and begins anew: what is left begins in the middle of one."""
        self.i2c.readfrom_mem_into(ADDRESS, 0x3A, self.status)
        if not self.status[0] & 0x10:
            return 0
        n_lost = self.n_kept + time.ticks_diff(time.ticks_ms(), self.read_ms) // self.step_ms
        self.restart()
        return n_lost

    def read(self):
        """Returns a block in the counts of the model."""
        self.i2c.readfrom_mem_into(ADDRESS, 0x74, self.raw)
        self.n_kept, self.read_ms = self.n_waiting - self.n, time.ticks_ms()
        attn8.be16(self.raw, self.block)
        for i in range(len(self.block)):
            self.block[i] = max(-32768, min(32767, (self.block[i] * self.factors[i % 6] + 2048) >> 12))
        return self.block


def run(model, fifo):
    """Prints what each output says, and how long the board was awake for it; ends with Ctrl-C."""
    stream, hop_ms = model.stream(), model.hop * fifo.step_ms
    lost = awake_us = 0
    woke = time.ticks_us()  # ticks go on during light sleep
    while True:
        left_ms = fifo.missing_ms()
        if left_ms > 0:
            awake_us += time.ticks_diff(time.ticks_us(), woke)
            lightsleep(left_ms)  # may end too soon, as for the radio of a Pico W: the FIFO's count decides
            woke = time.ticks_us()
            continue
        n_lost = fifo.overflow()
        if n_lost:
            stream.reset()  # what came before the hole is no past of what comes now
            lost += n_lost
            print(f"{lost} samples lost: the board slept too long")
        elif stream.push(fifo.read()):
            label, score = stream.predict()
            print(f"{label or '?'} {score}, awake for {awake_us // 1000} of {hop_ms} ms")
            awake_us = 0


def main():
    """Says in one line what is missing."""
    try:
        model = attn8.load(MODEL)
    except (OSError, attn8.ModelError) as e:
        print(f"no model {MODEL} ({e}): mpremote cp {MODEL} :")
        return
    print(model)
    try:
        run(model, Fifo(model))
    except (ValueError, attn8.ModelError, KeyboardInterrupt) as e:
        print(str(e) or "stopped")
    except OSError as e:
        print(f"no MPU6050 answers at {ADDRESS:#x}, SDA pin {SDA}, SCL pin {SCL} ({e}): check the wires")


if __name__ == "__main__":
    main()
