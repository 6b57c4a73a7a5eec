"""Stream: a causal model on samples as they come, on every back end."""

from array import array

from .checking import ModelError
from .tables import ERR_INPUT

_SEQUENCES = (tuple, list)


class Stream:
    """The outputs of the model over all samples since reset: when n_steps have come, then every ``hop`` samples.

    Made by ``Model.stream``; several streams of one model do not disturb each other. push allocates nothing, but for
    numbers that are floats; and without ``_attn8`` a block of several samples costs 48 bytes if it is another
    read-only memoryview than the last two, and an array of bytes after one of int16, or the other way, an error's.
    Without ``_attn8`` MicroPython also takes an array('H') for an array('h').

    Attributes:
        model, hop.    output: array('b') of n_outputs, overwritten at each hop.
    """

    def __init__(self, model, hop=None, units=False, packed=False):
        """Prepares a stream of a Model.

        Args:
            hop: samples between two outputs; None: as in training.
            units: push takes numbers in the file's units, such as g, in place of counts.
            packed: keeps weights, keys and values in RAM as the processor multiplies them fastest: the same outputs
                sooner. Takes a little over 2 bytes a weight with _attn8 on a Cortex-M0+, nothing elsewhere.

        Raises:
            ModelError: STREAM if the model sees what is to come.
            ValueError: if hop is no positive int, or if units is set and the file does not tell the scale of a channel.
        """
        self.model = model
        self.hop = model.hop if hop is None else hop
        if not isinstance(self.hop, int) or not 1 <= self.hop < 1 << 29:
            raise ValueError(f"stream: got hop {hop}, expected 1 or more samples")
        self._scales = _scales(model) if units else None
        self._limit = 32767 if model.input_type == "int16" else 127
        self._sample = array("h" if model.input_type == "int16" else "b", bytes(model.n_channels * (1 + self._wide())))
        self.output = array("b", bytes(model.n_outputs))
        self._ready = False
        self._state = model._stream_state(self.hop, packed)

    def _wide(self):
        return self._limit > 127

    def __repr__(self):
        return f"Stream of {self.model.name!r}, hop {self.hop}"

    def reset(self):
        """Begins a new recording."""
        self.model._stream_reset(self._state)
        self._ready = False

    def push(self, sample):
        """Takes one sample, or a block of samples. Returns how many outputs became due: 0, or 1 at a hop.

        A block of at most ``hop`` samples makes at most one; of more, only the last is kept.

        Args:
            sample: C int16 counts as a buffer, their 2*C bytes, or a tuple or list of C ints; a block is a buffer
                of k*C counts. int8 models take int8. With units=True: a sequence of C numbers.

        Raises:
            ModelError: INPUT if the sample has the wrong length, type or range.
            RuntimeError: if called inside a run of the same model.
        """
        if self._scales is not None:
            self._take_units(sample)
            sample = self._sample
        elif isinstance(sample, _SEQUENCES):
            self._take_counts(sample)
            sample = self._sample
        n = self.model._push(self._state, sample, self.output)
        if n:
            self._ready = True
        return n

    def predict(self):
        """Returns (label, score 0..100) of the last output; label is None below its threshold and before a hop."""
        return self.model.decide(self.output) if self._ready else (None, 0)

    def _check_length(self, numbers):
        try:
            n = len(numbers)
        except TypeError:
            raise self._error(f"no sequence but {type(numbers)}", f"{self.model.n_channels} numbers") from None
        if n != self.model.n_channels:
            raise self._error(f"{n} numbers", self.model.n_channels)

    def _take_counts(self, numbers):
        self._check_length(numbers)
        limit = self._limit
        i = 0
        for v in numbers:
            if not isinstance(v, int):
                raise self._error(v, "ints; stream(units=True) takes floats")
            if v > limit or v < -limit - 1:
                raise self._error(v, f"{-limit - 1}..{limit}")
            self._sample[i] = v
            i += 1  # noqa: SIM113 (enumerate allocates)

    def _take_units(self, numbers):
        self._check_length(numbers)
        limit = self._limit
        for i in range(len(numbers)):
            try:
                v = numbers[i] * self._scales[i]
                if v != v:
                    raise ValueError
                self._sample[i] = limit if v > limit else -limit - 1 if v < -limit - 1 else round(v)
            except (ArithmeticError, LookupError, TypeError, ValueError):
                raise self._error("what is no number", "numbers") from None

    def _error(self, got, expected):
        return ModelError(ERR_INPUT, "push", got, expected)


def _scales(model):
    """Returns the counts of one unit of each channel."""
    for name, scale in zip(model.channels, model.counts_per_unit):  # noqa: B905 (MicroPython's zip takes no keyword)
        if not scale > 0:
            raise ValueError(f"stream: channel '{name}' has no counts_per_unit in the file; push counts, without units")
    return model.counts_per_unit
