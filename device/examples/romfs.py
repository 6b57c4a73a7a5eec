"""Uses a model where it lies in flash: in ROMFS, its weights take no RAM.

Board   firmware with a ROMFS partition. That of RP2 and ESP32 boards has none as it is shipped (November 2026).
Model   any, as from attn8 pack; in a folder of its own: mkdir rom; cp model.a8 rom; mpremote romfs deploy rom
Start   mpremote run romfs.py

Runs unmodified on MicroPython 1.25 or newer.
"""

import gc
import time
from array import array

import attn8

MODEL = "/rom/model.a8"


def heap_bytes():
    """Returns the bytes of the heap in use."""
    gc.collect()
    return gc.mem_alloc()


def main():
    """Loads the model, says what that took, and runs it once."""
    try:
        attn8.load(MODEL)  # brings its code into RAM; what the second one takes is the model's
        before = heap_bytes()
        model = attn8.load(MODEL)
    except (OSError, attn8.ModelError) as e:
        print(f"no model {MODEL} ({e}): mpremote romfs query tells whether this firmware has a ROMFS")
        return
    used = heap_bytes() - before
    print(model)
    print(f"{model.model_bytes} bytes of flash; {used} bytes of heap, of which its arena is {model.arena_bytes}")
    print("selftest:", model.selftest())
    window = array("h" if model.input_type == "int16" else "b", [0] * (model.n_steps * model.n_channels))
    start = time.ticks_us()
    label, score = model.predict(window)
    took_us = time.ticks_diff(time.ticks_us(), start)
    print(f"zeros look like {label or '?'} {score}, after {took_us // 1000} ms")


if __name__ == "__main__":
    main()
