"""A stream on the kernels in Python: which op gets a token when, and what it keeps of earlier ones.

Source: models/FORMAT.md, "Streams". Weights and rows are those of the Model, and the tensors of a push lie in its
arena: nothing there is needed from one push to the next.
"""
# ruff: noqa: RUF005 (MicroPython unpacks no tuple into another)

import sys
from array import array

from .checking import ModelError
from .kernels import extension, ops, requantize_s16
from .model import ALL, item_bytes, view_of
from .tables import ERR_INPUT, ERR_OUTPUT, ERR_STREAM

steps = extension("tokens")
_IS_CPYTHON = sys.implementation.name == "cpython"
_BYTES = (bytes, bytearray)
_SIZED = (array, memoryview)
_MAX_STREAM_STEPS = 1 << 20  # of models/FORMAT.md, "Limits"


class TokenPlan:
    """The state of one stream of a Model. push allocates nothing."""

    def __init__(self, model, hop):
        """Makes the memory that ops keep. Raises ModelError STREAM if the model sees what is to come."""
        self._hop = hop
        self._n_steps, self._n_channels = model.input_shape
        self._input, self._tensor = model._input, model._last
        self._wide = model.input_type == "int16"
        if self._wide:
            self._input_layer = (1,) + model._input_layer[1:]
            self._counts = array("h", bytes(2 * self._n_channels))
        self._make_ops(model, timing(model))
        self._items = Items(2 if self._wide else 1, self._n_channels)
        self._in_bytes = False
        self.reset()

    def _make_ops(self, model, times):
        """Sorts the ops into those of each token, (source, y, keeper, call), and those of an output, (call).

        A call is (kernel, sources, y, layer); a keeper makes it when earlier tokens are needed too, else it is None.
        """
        self._fresh = bytearray(len(times))  # which tensors have a new token
        self._token_ops, self._output_ops = [], []
        for i, step in enumerate(model._steps):
            source = model._source_ids[3 * i]
            if times[source] is None:
                self._output_ops.append(step)
                continue
            kernel, x, y, layer = step
            shape = model._ops[i][2]
            keeper = _KEEPERS[kernel](step, *shape) if kernel in _KEEPERS else None
            call = None if keeper else (kernel, x, y, (layer[0] // shape[0],) + layer[1:])  # of one token: T or T*D
            self._token_ops.append((source, i + 1, keeper, call))
            if kernel is ops.mean_pool_s8:
                self._output_ops.append((ops.pool_sums_s8, keeper.sums, y, layer))
        self._kept = None  # the outputs of the newest token, if no pool takes it
        if times[-1] is not None:
            self._kept = self._tensor = array("b", bytes(model.n_outputs))
            self._newest = model._last

    def reset(self):
        """Begins a recording."""
        self._due = self._n_steps  # samples until the next output
        for _, _, keeper, _ in self._token_ops:
            if keeper:
                keeper.reset()

    def push(self, samples, out):
        """Takes k samples, writes the last output that became due among them, and returns how many did."""
        if len(out) != len(self._tensor):
            raise ModelError(ERR_OUTPUT, "push", f"{len(out)} bytes", len(self._tensor))
        out[0] = out[0]  # a kernel of viper would write to what is read-only
        samples = self._view(samples)
        n = self._n_samples(samples)
        n_outputs = 0
        for i in range(n):
            self._take(samples, i, n)
            self._pass_token()
            self._due -= 1
            if not self._due:
                self._due = self._hop
                n_outputs += 1
                for kernel, x, y, layer in self._output_ops:
                    kernel(x, y, layer)
                steps.copy_s8(self._tensor, 0, out, 0, len(self._tensor))
        return n_outputs

    def _pass_token(self):
        """Gives the input's token to all ops in front of the pools that it reaches."""
        fresh = self._fresh
        fresh[0] = 1
        for source, y, keeper, call in self._token_ops:
            if not fresh[source]:
                fresh[y] = 0
            elif keeper:
                fresh[y] = keeper.push()
            else:
                kernel, x, tensor, layer = call
                kernel(x, tensor, layer)
                fresh[y] = 1
        if self._kept is not None and fresh[-1]:
            steps.copy_s8(self._newest, 0, self._kept, 0, len(self._kept))

    def _view(self, samples):
        try:
            return self._items.view(samples)
        except TypeError:
            raise self._error(f"no contiguous buffer but {type(samples)}") from None

    def _n_samples(self, samples):
        """Returns how many samples there are, of which _take must know whether they lie there as bytes."""
        item = self._items.n_bytes
        self._in_bytes = item == 1
        n = len(samples)
        one = self._n_channels * 2 if self._wide and self._in_bytes else self._n_channels
        if n == 0 or n % one or not (self._in_bytes or (self._wide and item == 2)):
            raise self._error(f"{n} values" if item else "another type of buffer")
        return n // one

    def _take(self, samples, i, n):
        """Makes the token of the first tensor from sample i of n."""
        if self._wide and n == 1:
            return requantize_s16(samples, self._input, self._input_layer)
        at = i * self._n_channels
        for c in range(self._n_channels):
            if not self._wide:
                v = samples[at] & 255
                self._input[c] = v - 256 if v > 127 else v
            elif self._in_bytes:
                v = (samples[2 * at] & 255) | (samples[2 * at + 1] & 255) << 8
                self._counts[c] = v - 65536 if v > 32767 else v
            else:
                v = samples[at] & 65535
                self._counts[c] = v - 65536 if v > 32767 else v
            at += 1
        if self._wide:
            requantize_s16(self._counts, self._input, self._input_layer)

    def _error(self, got):
        return ModelError(ERR_INPUT, "push", got, f"k*{self._n_channels} {'int16' if self._wide else 'int8'}")


class Items:
    """Tells the size of a buffer's items, without memory where that can be.

    A memoryview may be read-only: one sample of it is copied, which fails unless the items fit. For a block in one,
    finding out costs memory; the last two are remembered, for a driver that fills a buffer by halves has two.
    """

    def __init__(self, array_item_bytes, n_channels):
        self._array_item_bytes = self._likely = array_item_bytes
        one = bytes(array_item_bytes * n_channels)
        self._numbers = memoryview(array("h" if array_item_bytes == 2 else "b", one))
        self._bytes = memoryview(bytearray(one))
        self._last = self._before = None
        self._last_bytes = self._before_bytes = 0
        self.n_bytes = 0  # of an item of what ``view`` saw last; 0 for another type

    def view(self, buffer):
        """Returns what can be read of a buffer item by item. Raises TypeError if it is none."""
        if _IS_CPYTHON:
            view = memoryview(buffer)
            formats = ("b", "B", "c", "h", "<h") if self._array_item_bytes == 2 else ("b", "B", "c")
            self.n_bytes = 1 if view.format in formats else 0
            return view.cast("B") if self.n_bytes else view
        if isinstance(buffer, _BYTES):
            self.n_bytes = 1
        elif isinstance(buffer, _SIZED):
            self.n_bytes = getattr(buffer, "itemsize", 0) or self._found(buffer)
        else:
            buffer, self.n_bytes = view_of(buffer, self._likely)
        return buffer

    def _found(self, buffer):
        if buffer is self._last:
            return self._last_bytes
        if buffer is self._before:
            return self._before_bytes
        if isinstance(buffer, memoryview):
            n = self._of_one_sample(buffer)
            if n:
                return n
        n = item_bytes(buffer, self._likely)
        if n == 1 or n == 2:
            self._likely = n
        self._before, self._before_bytes = self._last, self._last_bytes
        self._last, self._last_bytes = buffer, n
        return n

    def _of_one_sample(self, view):
        """Returns the size of an item if the view is one sample, else 0."""
        n = len(view)
        try:
            if n == len(self._numbers):
                self._numbers[ALL] = view
                return self._array_item_bytes
            if n == len(self._bytes):
                self._bytes[ALL] = view
                return 1
        except (TypeError, ValueError):  # another size, or a firmware that assigns no slices
            pass
        return 0


class _Conv1d:
    """Keeps the tokens under the kernel, the oldest first: a linear op on all their values is the convolution."""

    def __init__(self, step, n_steps, n_channels):
        _, (self._x,), self._y, layer = step
        _, _, _, n_outputs, kernel, stride, self._pad, _, weights, rows, low, high, patch, acc = layer
        self._n_channels, self._kernel, self._stride = n_channels, kernel, stride
        self._layer = (1, kernel * n_channels, n_outputs, weights, rows, low, high, patch, acc)
        self._tokens = array("b", bytes(kernel * n_channels))
        self._sources = (self._tokens,)

    def reset(self):
        _clear(self._tokens)
        self._n, self._skip = self._pad, 0

    def push(self):
        if self._skip:  # between two kernels
            self._skip -= 1
            return False
        channels, kernel, n = self._n_channels, self._kernel, self._n
        steps.copy_s8(self._x, 0, self._tokens, n * channels, channels)
        if n + 1 < kernel:
            self._n = n + 1
            return False
        ops.linear_s8(self._sources, self._y, self._layer)
        n = max(0, kernel - self._stride)
        steps.copy_s8(self._tokens, (kernel - n) * channels, self._tokens, 0, n * channels)
        # Last, for a Ctrl-C anywhere before must not leave more tokens than there is room for.
        self._n, self._skip = n, max(0, self._stride - kernel)
        return True


class _Attention:
    """Keeps rings of the keys and values that the newest query sees."""

    def __init__(self, step, n_steps, n_channels):
        _, (query, self._key, self._value), self._y, self._layer = step
        self._n_channels = n_channels
        self._span = self._layer[3] + 1
        self._keys = array("b", bytes(self._span * n_channels))
        self._values = array("b", bytes(self._span * n_channels))
        self._sources = (query, self._keys, self._values)

    def reset(self):
        self._place = self._n = 0

    def push(self):
        channels, place = self._n_channels, self._place
        steps.copy_s8(self._key, 0, self._keys, place * channels, channels)
        steps.copy_s8(self._value, 0, self._values, place * channels, channels)
        self._place = place + 1 if place + 1 < self._span else 0
        if self._n < self._span:
            self._n += 1
        oldest = place + 1 - self._n
        steps.attention_step_s8(self._sources, self._y, self._layer, oldest if oldest >= 0 else self._place, self._n)
        return True


class _MeanPool:
    """Keeps a ring of the tokens of a window and, in ``sums``, their sum."""

    def __init__(self, step, n_steps, n_channels):
        (self._x,) = step[1]
        self._n_steps, self._n_channels = n_steps, n_channels
        self._tokens = array("b", bytes(n_steps * n_channels))
        self.sums = array("i", bytes(4 * n_channels))

    def reset(self):
        _clear(self._tokens)
        _clear(self.sums)
        self._place = 0

    def push(self):
        steps.pool_push_s8(self._x, self._tokens, self._place * self._n_channels, self._n_channels, self.sums)
        self._place = self._place + 1 if self._place + 1 < self._n_steps else 0
        return True


_KEEPERS = {ops.conv1d_s8: _Conv1d, ops.windowed_attention_s8: _Attention, ops.mean_pool_s8: _MeanPool}


def _clear(numbers):
    for i in range(len(numbers)):
        numbers[i] = 0


def timing(model):
    """Returns when the tokens of each tensor come: (S, d) if token i comes with sample i*S + d, None behind a pool.

    Raises:
        ModelError: STREAM, with the op and its fault.
    """
    times = [(1, 0)]
    for i, (kernel, x, _, layer) in enumerate(model._steps):
        read = [times[source] for source in model._source_ids[3 * i : 3 * i + len(x)]]
        pooled = set(read) == {None}
        fault = None if pooled else _fault(kernel, layer, read)
        if fault:
            raise ModelError(ERR_STREAM, f"op {i + 1}, {model._ops[i][1]}", *fault)
        times.append(None if pooled else _time(kernel, layer, read[0]))
    return times


def _fault(kernel, layer, read):
    """Returns (got, expected) of what keeps an op from a stream, else None."""
    if None in read:
        return "a tensor of all tokens and one of each token", "one kind"
    if len(set(read)) > 1:
        return "tensors whose tokens come at different samples", "the same"
    if kernel is ops.conv1d_s8 and layer[7]:
        return f"{layer[7]} tokens of padding behind the last", 0
    if kernel is ops.windowed_attention_s8 and layer[4]:
        return f"{layer[4]} later tokens that each token sees", 0
    most = max(_time(kernel, layer, read[0]) or (0,))
    if most > _MAX_STREAM_STEPS:
        return f"{most} samples between two tokens or behind one", f"at most {_MAX_STREAM_STEPS}"
    return None


def _time(kernel, layer, time):
    """Returns the (S, d) of an op's output, None for a pool."""
    if kernel is ops.mean_pool_s8:
        return None
    if kernel is not ops.conv1d_s8:
        return time
    stride, delay = time
    return stride * layer[5], delay + (layer[4] - 1 - layer[6]) * stride
