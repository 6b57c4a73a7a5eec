"""Loads a model, proves that this board computes what the host evaluated, and classifies one window.

Copy model.a8 into the folder you run it from. Runs unmodified on MicroPython, CircuitPython and CPython.
"""

from array import array

import attn8

model = attn8.load("model.a8")
print(model)
print("selftest:", model.selftest())

# One window of counts as they come from the sensor, time first: x, y, z, x, y, z, ...
n_steps, n_channels = model.input_shape
window = array("h" if model.input_type == "int16" else "b", [0] * (n_steps * n_channels))
label, score = model.predict(window)
print("a sensor at rest looks like", label, "with score", score)
