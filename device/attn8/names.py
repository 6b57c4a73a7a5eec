"""attn8.help: what there is, for the REPL; MicroPython keeps no docstrings."""

from .repl import Table

# A first column that begins with a space goes on with the one above it.
LINES = (
    ("load(source)", "a Model from a path, a buffer or a slot name"),
    ("confirm()", "keeps a model in trial; else m.confirm_after windows do"),
    ("check_model(data)", "0, or the code of the first fault of a file"),
    ("ModelError", "what, got, expected, what to do; e.code: models/FORMAT.md"),
    ("Model", "what load returns, here m; print(m) tells its sizes"),
    ("m.run(window, out=None)", "the int8 outputs of T*C counts, time first"),
    ("m.predict(window=None)", "(label, score 0..100); without a window: of the last run"),
    ("m.decide(outputs)", "(label, score) of outputs that you have"),
    ("m.output", "outputs of the last run"),
    ("m.selftest()", "True if this board computes what the file expects"),
    ("m.ops()", "table of the layers: shapes, multiply-accumulates"),
    ("m.profile(window)", "table of the layers: microseconds"),
    ("m.start(window)", "begins a run of one layer a step"),
    ("m.step()", "runs a layer; False after the last"),
    ("m.input_shape", "(T, C): samples in a window, channels"),
    ("m.labels", "names of the outputs"),
    ("m.channels", "names of the channels; m.units: their units"),
    ("m.counts_per_unit", "counts of one unit of each channel"),
    ("m.sample_rate_hz", "samples a second"),
    ("m.stream(hop=None, units=False,", "here s: a causal model on samples as they come;"),
    (" packed=False)", "  packed: on a Cortex-M0+ faster, for 2 bytes of RAM a weight"),
    ("s.push(sample)", "takes C counts, or C floats with units=True; 1 at a hop"),
    ("s.predict()", "(label, score) of the last hop"),
    ("s.output", "outputs of the last hop"),
    ("s.reset()", "begins a new recording"),
    ("Detector(model, smooth=4, threshold=60,", "events out of outputs:"),
    (" release=None, refractory=0, ignore=())", "  label = d.update(s.output); d.active, d.score, d.reset()"),
    ("Sampler(read, rate_hz, late_us=None)", "keeps the rate: for sample in Sampler(...), or async for;"),
    ("", "  by hand: if p.ready(): next(p), or p.wait()"),
    ("", "  p.late, p.lost: samples so far; p.gap: lost just now"),
    ("be16(src, dst)", "big-endian bytes of a sensor to int16"),
    ("i2s32(src, dst, shift)", "32-bit words of an I2S microphone to int16"),
    ("backend", "what runs the kernels: native, viper or python"),
    ("__version__", "of this package"),
    ("help()", "prints this"),
)


def lines():
    """Returns a Table of (name and arguments, what it is)."""
    return Table(LINES)


def help():
    """Prints the public names of attn8, and what a Model and a Stream can do."""
    print(lines())
