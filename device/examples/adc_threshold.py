"""Watches a machine: an alarm when what an ADC measures is no longer like the machine in good order.

Wiring  a sensor of 0 to 3.3 V (current clamp, analog accelerometer) to the pin below: 26 to 28 of a Pico; an ESP32 has
        ADC pins 32 to 39, and wants atten=ADC.ATTN_11DB.
Model   a label for each state of the machine; one of them is NORMAL:
        attn8 capture recordings --sensor adc --pins 26 --rate 100 --labels normal,worn --person machine1
        attn8 train --data recordings --out runs/machine --set model.causal=true --set data.hop=32
        attn8 pack runs/machine -o model.a8
Start   mpremote cp model.a8 :, then mpremote run adc_threshold.py

Runs unmodified on MicroPython.
"""

from machine import ADC, Pin

import attn8

MODEL = "model.a8"
PIN, FULL_SCALE_V = 26, 3.3
NORMAL = "normal"  # label of the machine in good order
SMOOTH = 4  # outputs to average over
ALARM, CLEAR = 40, 60  # percent: below ALARM the machine is not like normal; above CLEAR it is again
MAX_GAP = 3  # lost samples that the next one stands in for; after more everything begins anew


class Adc:
    """Samples in the counts of the model, in whole numbers: floats would cost memory with every one."""

    def __init__(self, model):
        if model.n_channels != 1 or model.units[0] not in ("V", ""):
            raise ValueError(
                f"{MODEL}: got a model of {model.channels} in {model.units}, expected one channel, in V or none"
            )
        self.adc = ADC(Pin(PIN))
        # Counts of the model in one of the ADC's 65535, times 8192. Recordings are in V, or 0..1, or raw: half of it.
        full_scale = FULL_SCALE_V if model.units[0] == "V" else 1
        self.factor = int(8192 * model.counts_per_unit[0] * full_scale / 65535 + 0.5) or 4096
        self.sample = [0]

    def read(self):
        self.sample[0] = min(32767, (self.adc.read_u16() * self.factor + 4096) >> 13)
        return self.sample


class Watch:
    """Turns outputs into an alarm."""

    def __init__(self, model):
        if NORMAL not in model.labels:
            raise ValueError(f"NORMAL: got {NORMAL!r}, expected a label of the model: {', '.join(model.labels)}")
        self.normal = model.labels.index(NORMAL)
        self.labels, self.averages = model.labels, attn8.Detector(model, SMOOTH, ignore=NORMAL)
        self.reset()

    def reset(self):
        self.averages.reset()
        self.n_outputs, self.alarm = 0, False

    def update(self, outputs):
        """Returns whether the machine is out of order, after so many outputs as are averaged."""
        self.averages.update(outputs)
        self.n_outputs += 1
        if self.n_outputs >= SMOOTH:
            self.alarm = self.score < (CLEAR if self.alarm else ALARM)
        return self.alarm

    @property
    def score(self):
        """How normal it is, 0..100."""
        return self.averages.scores[self.normal]

    def nearest(self):
        """Returns the label that it is most like."""
        scores = self.averages.scores
        return self.labels[max(range(len(scores)), key=lambda i: scores[i])]


def run(model, sampler):
    """Prints what changes, until Ctrl-C."""
    stream, watch = model.stream(), Watch(model)
    was = n_outputs = 0
    try:
        for sample in sampler:
            times = 1 + sampler.gap
            if sampler.gap > MAX_GAP:
                stream.reset()
                watch.reset()
                times = 1
            for _ in range(times):
                if not stream.push(sample):
                    continue
                n_outputs += 1
                alarm = watch.update(stream.output)
                if alarm != was:
                    print(f"{'ALARM' if alarm else 'in order'}: {NORMAL} {watch.score} %, most like {watch.nearest()}")
                was = alarm
    except KeyboardInterrupt:
        print(f"{n_outputs} outputs; {sampler.late} samples late, {sampler.lost} lost")


def main():
    """Says in one line what is missing."""
    try:
        model = attn8.load(MODEL)
    except (OSError, attn8.ModelError) as e:
        print(f"no model {MODEL} ({e}): mpremote cp {MODEL} :")
        return
    print(model)
    try:
        run(model, attn8.Sampler(Adc(model).read, model.sample_rate_hz or 100))
    except (OSError, ValueError, attn8.ModelError) as e:
        print(f"ADC at pin {PIN}: {e}")


if __name__ == "__main__":
    main()
