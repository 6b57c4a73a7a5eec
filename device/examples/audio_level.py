"""Hears: the level of an I2S microphone, and what a model takes the sound for.

Wiring  an INMP441 or its like: VDD to 3V3, GND and L/R to GND, SCK, WS and SD to the pins below; WS is the pin after
        SCK on a Pico (an ESP32 may have 14, 15 and 32).
Model   WAV files, a folder for each class (snap/ann_1.wav ...), or from this very microphone:
        attn8 capture sounds --sensor i2s --rate 8000 --pins sck=16,ws=17,sd=18 --labels snap,background --person ann
        attn8 train --data sounds --out runs/sounds --set data.sample_rate_hz=8000 --set data.window=8000 \
            --set data.hop=2000 --set model.causal=true --set model.layers=1 --set model.name=sounds \
            --set 'model.stem=[{channels=16,kernel=32,stride=16},{channels=32,kernel=16,stride=8}]'
        attn8 pack runs/sounds -o model.a8
        It hears one second and speaks four times in each; 1.4 million multiply-accumulates a second.
Start   mpremote cp model.a8 :, then mpremote run audio_level.py

Runs unmodified on MicroPython with machine.I2S.
"""

import time
from array import array
from math import log10

from machine import I2S, Pin

import attn8

MODEL = "model.a8"
SCK, WS, SD = 16, 17, 18
SHIFT = 16  # as with attn8 capture; each one less is twice as loud
BLOCK = 80  # samples that are taken at once: 10 ms
BUFFER_MS = 250  # of sound that can wait while a token is computed


class Microphone:
    """Gives blocks of samples. ``lost`` counts those for which there was no room."""

    def __init__(self, model):
        self.rate_hz = int(model.sample_rate_hz) or 8000
        self.n = min(BLOCK, model.hop)
        self.raw, self.samples = bytearray(4 * self.n), array("h", [0] * self.n)
        self.lost = self.behind_us = 0
        size = self.rate_hz * BUFFER_MS // 1000 * 8  # of a Pico's buffer, which keeps both sides of a mono signal
        options = {"mode": I2S.RX, "bits": 32, "format": I2S.MONO, "rate": self.rate_hz, "ibuf": size}
        self.i2s = I2S(0, sck=Pin(SCK), ws=Pin(WS), sd=Pin(SD), **options)
        self.read_us = time.ticks_us()

    def read(self):
        """Returns the next block, or None where samples before it are lost."""
        self.fill()
        if self.behind_us <= BUFFER_MS * 1000:
            return self.samples
        self.lost += self.behind_us // 1000 * self.rate_hz // 1000 + self.n
        while self.behind_us:  # nobody knows where the hole lies: what waits is left out
            self.fill()
        return None

    def fill(self):
        """Waits for a block, and keeps account of how much sound waits for us, because machine.I2S does not."""
        asked_us = time.ticks_us()
        self.i2s.readinto(self.raw)
        now_us = time.ticks_us()
        if time.ticks_diff(now_us, asked_us) > 1000:  # we had to wait for it
            self.behind_us = 0
        else:
            passed_us = time.ticks_diff(now_us, self.read_us)
            self.behind_us = max(0, self.behind_us + passed_us - 1000000 * self.n // self.rate_hz)
        self.read_us = now_us
        attn8.i2s32(self.raw, self.samples, SHIFT)


def magnitudes(samples):
    """Returns the sum of the magnitudes; allocates nothing, as one of squares would."""
    total = 0
    for v in samples:
        total += v if v >= 0 else -v
    return total


def run(model, microphone):
    """Prints the level and a class at each hop, until Ctrl-C."""
    stream = model.stream()
    total = n = 0
    try:
        while True:
            samples = microphone.read()
            if samples is None:
                stream.reset()
                print(f"{microphone.lost} samples lost: the model takes too long at {microphone.rate_hz} Hz")
                continue
            total += magnitudes(samples)
            n += len(samples)
            if stream.push(samples):
                label, score = stream.predict()
                print(f"{20 * log10((total + 1) / n / 32768):.0f} dB  {label or '?'} {score}")
                total = n = 0
    except KeyboardInterrupt:
        print(f"{microphone.lost} samples lost")


def main():
    """Says in one line what is missing."""
    try:
        model = attn8.load(MODEL)
    except (OSError, attn8.ModelError) as e:
        print(f"no model {MODEL} ({e}): mpremote cp {MODEL} :")
        return
    print(model)
    if model.n_channels != 1:
        print(f"{MODEL}: got a model of {model.channels}, expected one channel of sound")
        return
    try:
        run(model, Microphone(model))
    except (OSError, ValueError, attn8.ModelError) as e:
        print(f"no sound from SCK pin {SCK}, WS pin {WS}, SD pin {SD}: {e}")


if __name__ == "__main__":
    main()
