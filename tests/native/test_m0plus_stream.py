"""Streams on a Cortex-M0+, packed and not: the bytes of the reference, inside any state, within their budgets."""

import dataclasses
import os
import struct

import numpy as np
import pytest
from m0plus import counted_core, unicorn_core  # noqa: F401
from test_kernels import int8, packed_rows, packed_weights, requantize_rows
from test_m0plus_attention import bias_bytes, expected, fields, random_op, random_tokens
from test_m0plus_linear import normal, plain_rows

import models
from attn8 import arena, arithmetic, graph, reference, stream
from attn8.pack import pack
from models import Builder, Shape

N_VECTORS = int(os.environ.get("ATTN8_M0PLUS_VECTORS", 15_000))
HOP = 3


def packed_bytes(k, n):
    """What a8_packed_product_bytes says, without the flag."""
    return 4 * -(-n // 4) * ((12 if k > 64 else 8) + 2 * (-(-k // 4) * 4))


def run_token(core, x, w, rows, clamp, offset=0):
    """Returns (y (N,), cycles) of a8_packed_token_s8; weights and rows begin at 4*i + offset."""
    n, k = w.shape
    room = -(-k // 4) * 4
    table, weights, source, packed, y = core.place(
        packed_rows(rows), packed_weights(w), x.tobytes().ljust(room, b"\x81"), packed_bytes(k, n), -(-n // 4) * 4,
        offsets=(offset, offset),
    )  # fmt: skip
    op = struct.pack("<11I", table, weights, 1, k, 1, n, 1, 1, 0, clamp, 0)
    core.call("a8_pack_product", op, packed)
    cycles = core.call("a8_packed_token_s8", op, y, source, packed)
    return np.frombuffer(core.processor.read(y, n), np.int8), cycles


def test_a_token_of_packed_weights_equals_the_reference(unicorn_core):  # noqa: F811
    n, seed = 0, 0
    while n < N_VECTORS // 20:
        rng = np.random.default_rng(seed)
        k, outputs = (int(rng.integers(1, limit)) for limit in rng.choice([(70, 60), (140, 30), (1200, 9), (4097, 3)]))
        x, w = int8(rng, k), int8(rng, outputs, k, low=-127)
        rows, clamp = requantize_rows(rng, outputs, 5000 * k**0.5), int(rng.integers(0, 3))
        y, _ = run_token(unicorn_core, x, w, rows, clamp, int(rng.choice([0, 0, 1, 2, 3])))
        op = graph.Linear(0, clamp, rows, w)
        assert np.array_equal(y, expected(op, x[None])[0]), (seed, k, outputs, clamp)
        n, seed = n + outputs, seed + 1


def test_a_token_of_packed_weights_stays_within_its_cycles_a_mac(counted_core):  # noqa: F811
    rng = np.random.default_rng(1)
    x, w, rows = normal(rng, 64), normal(rng, 48, 64), plain_rows(rng, 48, 64)
    y, cycles = run_token(counted_core, x, w, rows, 0)
    assert np.array_equal(y, expected(graph.Linear(0, 0, rows, w), x[None])[0])
    assert np.std(y.astype(float)) > 20
    assert cycles <= 3.1 * 64 * 48


def test_a_packed_ring_equals_the_last_row_of_a_window(unicorn_core):  # noqa: F811
    n, seed = 0, 0
    while n < N_VECTORS // 20:
        rng = np.random.default_rng(seed)
        span, heads, size = int(rng.integers(1, 40)), int(rng.integers(1, 4)), 4 * int(rng.integers(1, 6))
        d, op = heads * size, random_op(rng, heads, span - 1, 0)
        q, k, v = random_tokens(rng, span + 20, d)
        y = run_ring(unicorn_core, op, q, k, v, int(rng.choice([0, 0, 1])))
        e = expected(op, q, k, v)
        assert np.array_equal(y, e), (seed, op)
        n, seed = n + y.size, seed + 1


def run_ring(core, op, q, k, v, offset):
    """Returns y (T, D): a8_pack_key_s8 and a8_attention_step_s8 of one token after the other."""
    (t, d), span = q.shape, op.left + 1
    needed = arena.attention_scratch_bytes(span, span, d // op.heads)
    ring = 2 * span * d + 8 * span * op.heads
    places = (fields(op), bias_bytes(op), d, d, d, needed, 2 * span * d, ring, d)
    at = core.place(*places, offsets=(0, offset, offset, offset, offset))
    y = np.empty((t, d), np.int8)
    for i in range(t):
        for address, token in zip(at[2:5], (q[i], k[i], v[i]), strict=True):
            core.processor.write(address, token.tobytes())
        newest, n_keys = (i + 1) % span, min(i + 1, span)
        step = struct.pack("<8I", at[1], at[5], at[0], d, span, newest, n_keys, at[7])
        core.call("a8_pack_key_s8", step, at[3], at[4], at[6])
        core.call("a8_attention_step_s8", step, at[2], at[6], at[6], at[8])
        y[i] = np.frombuffer(core.processor.read(at[8], d), np.int8)
    return y


class Chip:
    """A model in the memory of a Core."""

    def __init__(self, core, data):
        self.core, self.model = core, reference.parse(data)
        self.n_outputs, self.arena_bytes = len(self.model.graph.labels), reference.plan(self.model, arena.M0PLUS)[1]
        wide = 1 if self.model.graph.input_requantize is None else 2
        self.sample_bytes = wide * self.model.shapes[0][1]
        self.window_bytes = self.model.shapes[0][0] * self.sample_bytes
        self.file_bytes, self.object_bytes = len(data), 512 + 64 * len(self.model.graph.ops)
        sizes = (data, self.object_bytes, self.arena_bytes, self.window_bytes + 1, self.n_outputs)
        self.file, self.object, self.arena, self.window, self.output = core.place(*sizes)
        self.window += 1  # samples come at any address
        assert self._call("a8_load", self.object, self.object_bytes, self.file, self.file_bytes) == 0
        self.plain_bytes = self._call("a8_stream_bytes", self.object)
        self.packed_bytes = self._call("a8_stream_packed_bytes", self.object)

    def _call(self, name, *arguments):
        result, self.cycles = self.core.processor.call(self.core.image.symbols[name], arguments, 0x20042000)
        return (result ^ 0x80000000) - 0x80000000 if result >= 0 else result

    def open(self, state_bytes, hop):
        """Makes room for a state between fences behind everything else; returns what a8_stream_reset does."""
        self.state_bytes = state_bytes
        self.state = (self.output + self.n_outputs + 32) & ~3
        self.core.processor.write(self.state - 16, b"\xa5" * (state_bytes + 32))
        return self._call("a8_stream_reset", self.object, self.state, state_bytes, hop)

    def push(self, samples):
        """Returns (what a8_stream_push returns, the outputs)."""
        self.core.processor.write(self.window, samples)
        file, state = (self.file, self.file_bytes), (self.state, self.state_bytes)
        buffers = (self.arena, self.arena_bytes, *state, self.window, len(samples), self.output, self.n_outputs)
        n = self._call("a8_stream_push", self.object, *file, *buffers)
        for at in (self.state - 16, self.state + self.state_bytes):
            assert self.core.processor.read(at, 16) == b"\xa5" * 16, "a store left the state"
        return n, np.frombuffer(self.core.processor.read(self.output, self.n_outputs), np.int8)

    def run(self, window):
        """Runs a8_run; returns the outputs."""
        self.core.processor.write(self.window, window)
        buffers = (self.arena, self.arena_bytes, self.window, self.window_bytes, self.output, self.n_outputs)
        assert self._call("a8_run", self.object, self.file, self.file_bytes, *buffers) == 0
        return np.frombuffer(self.core.processor.read(self.output, self.n_outputs), np.int8)


@pytest.mark.parametrize("seed", range(8))
def test_packed_and_plain_streams_give_the_bytes_of_the_reference(counted_core, seed):  # noqa: F811
    data = models.random_model(seed, pad_right=0, right=0, head_size=[4, 8, 3, 16][seed % 4], heads=1 + seed % 3)
    chip = Chip(counted_core, data)
    x = models.recording_for(data, 2 * chip.model.graph.n_steps + 9, seed)
    wanted = reference.Reference(data).run_recording(x, HOP)
    assert chip.plain_bytes == stream.state_bytes(chip.model)
    assert chip.packed_bytes == stream.packed_bytes(chip.model) > 0
    for state_bytes in (chip.plain_bytes, chip.plain_bytes + chip.packed_bytes):
        assert chip.open(state_bytes, HOP) == 0
        for _ in range(2):
            assert np.array_equal(outputs_of(chip, x), wanted)
            assert chip._call("a8_stream_reset", chip.object, chip.state, state_bytes, HOP) == 0
    assert len(np.unique(wanted)) > 2


def outputs_of(chip, x):
    answers = [chip.push(sample.tobytes()) for sample in x]
    assert {n for n, _ in answers} == {0, 1}
    return np.array([y for n, y in answers if n])


def test_the_size_of_a_state_decides_whether_it_is_packed(counted_core):  # noqa: F811
    data = models.build_model(Shape(head_size=8).causal(5), 3)
    chip = Chip(counted_core, data)
    window = bytes(chip.window_bytes)
    refused = reference.spec.ERROR_CODES["MEMORY"]
    assert chip.open(chip.plain_bytes - 1, 1) == -refused
    cycles = []
    for more in (0, chip.packed_bytes - 1, chip.packed_bytes):
        assert chip.open(chip.plain_bytes + more, 1) == 0
        for _ in range(2):
            chip.push(window)
        cycles.append((chip.cycles, any(chip.core.processor.read(chip.state + chip.plain_bytes, more))))
    assert cycles[0][0] == cycles[1][0] > 1.2 * cycles[2][0]
    assert [touched for _, touched in cycles] == [False, False, True]
    assert chip.open(chip.plain_bytes - 1, 1) == chip.push(window)[0] == -refused


def test_whatever_is_in_a_packed_state_a_push_stays_in_its_buffers(counted_core):  # noqa: F811
    data = models.build_model(Shape(head_size=8, n_outputs=5, layers=2).causal(5), 3)
    chip = Chip(counted_core, data)
    rng = np.random.default_rng(0)
    chip.open(chip.plain_bytes + chip.packed_bytes, 1)
    for fill in range(40):
        noise = bytes([255]) * chip.state_bytes if fill % 4 == 3 else rng.bytes(chip.state_bytes)
        chip.core.processor.write(chip.state + 8, noise[8:])
        chip.core.processor.write(chip.state + 4, struct.pack("<I", 1))
        for _ in range(3):
            assert chip.push(rng.bytes(chip.sample_bytes))[0] in (0, 1)


def test_ops_behind_a_pool_and_convolutions_alone_stream_packed(counted_core):  # noqa: F811
    for build in (convolutions, behind_a_pool):
        shape = Shape(n_steps=12, n_channels=8, n_outputs=8, hop=3, int16=False, heads=1, head_size=8, right=0)
        b = Builder(shape, np.random.default_rng(1))
        build(b)
        data = pack(models._graph(shape, b))
        chip, x = Chip(counted_core, data), models.recording_for(data, 60, 1)
        assert chip.packed_bytes == stream.packed_bytes(chip.model)
        wanted = reference.Reference(data).run_recording(x, HOP)
        chip.open(chip.plain_bytes + chip.packed_bytes, HOP)
        assert np.array_equal(outputs_of(chip, x), wanted)


def conv(b, kernel, stride, pad_left):
    """Appends a convolution of the last tensor."""
    kept = b.shape
    fixed = {"kernel": kernel, "stride": stride, "pad_left": pad_left, "pad_right": 0, "n_channels": 8}
    b.shape = dataclasses.replace(kept, **fixed)
    at = b.conv1d(len(b.ops), 8)
    b.shape = kept
    return at


def convolutions(b):
    conv(b, 1, 3, 0)
    conv(b, 4, 1, 0)


def behind_a_pool(b):
    x = b.mean_pool(conv(b, 2, 1, 1))
    b.linear(b.attention(b.norm(x)), 8)


class Trained(Builder):
    """Numbers as in a trained model, rows of hardly any saturated output."""

    def _rows(self, acc, gain):
        n = acc.shape[-1]
        m, pre, post = arithmetic.choose_requantize(gain * 40.0 / np.maximum(acc.reshape(-1, n).std(0), 1.0))
        mean = np.rint(acc.reshape(-1, n).mean(0)).astype(np.int64)
        return graph.Requantize(arithmetic.rounding_half(pre) - mean, m, pre, post)


def block_model(t, d, ff, span):
    """A pre-norm block of 4 heads and the mean of its tokens, which stands for a head."""
    shape = Shape(n_steps=t, n_channels=d, heads=4, head_size=d // 4, left=span - 1, right=0, ff=ff, norm="layer",
                  activation="gelu", n_outputs=d, int16=False, hop=1)  # fmt: skip
    b = Trained(shape, np.random.default_rng(1), 2)
    x = b.add(0, b.linear(b.attention(b.norm(0)), d))
    x = b.add(x, b.linear(b.activation(b.linear(b.norm(x), ff)), d))
    b.mean_pool(x)
    return pack(models._graph(shape, b))


# The bars: cycles of a window and of a token in a packed stream; 2 % more for the mean of the tokens.
BLOCKS = {(64, 64, 128, 64): (8_600_000, 150_000), (32, 32, 64, 16): (1_350_000, 43_000)}
MEAN = 1.02


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_stays_within_its_cycles(counted_core, block):  # noqa: F811
    data = block_model(*block)
    chip, x = Chip(counted_core, data), models.recording_for(data, block[0] + 1, 1)
    window_cycles, token_cycles = BLOCKS[block]
    wanted = reference.Reference(data).run_recording(x, 1)
    assert np.array_equal(chip.run(x[: block[0]].tobytes()), wanted[0])
    assert chip.cycles <= MEAN * window_cycles
    chip.open(chip.plain_bytes + chip.packed_bytes, 1)
    assert np.array_equal(chip.push(x[: block[0]].tobytes())[1], wanted[0])
    chip.core.processor.write(chip.state, struct.pack("<II", 2, 2))  # no output is due
    assert chip.push(x[block[0] :].tobytes())[0] == 0
    assert chip.cycles <= MEAN * token_cycles
