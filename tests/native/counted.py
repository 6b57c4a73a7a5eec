"""The C core for a processor that unicorn_core.py emulates: kernels called one by one, fences around buffers."""

import struct
from functools import cache
from types import SimpleNamespace

import m0plus
import numpy as np
import test_core
import test_m0plus_linear
from test_kernels import int8
from test_m0plus_attention import expected, expected_step, random_op, random_tokens, run_step, run_window
from test_m0plus_linear import normal, plain_rows, random_conv1d, random_linear, run_conv1d, run_linear

from attn8 import arena, graph, reference
from attn8.boards import image
from attn8.boards.unicorn_core import FLASH_ADDRESS, UnicornCpu
from tools import CORE, ROOT, core_sources, missing, need, run, scratch

BARE = ROOT / "native_modules" / "bare"
FLAGS = ("-std=c99", "-ffreestanding", "-nostdlib", "-fno-tree-loop-distribute-patterns", "-ffunction-sections")
STACK_TOP = m0plus.STACK_TOP
PROCESSORS = {  # by the name of the compiled code: processor, prefix of the compiler, its flags
    "m33": ("m33", "arm-none-eabi-", ("-mcpu=cortex-m33", "-mthumb")),
    "m4": ("m33", "arm-none-eabi-", ("-mcpu=cortex-m4", "-mthumb")),
    "rv32": ("rv32", "riscv64-unknown-elf-", ("-march=rv32imc_zicsr", "-mabi=ilp32")),
}


def new_cpu(processor):
    """Returns a UnicornCpu, or skips the test."""
    try:
        import unicorn  # noqa: F401
    except ImportError:
        missing("unicorn", "pip install 'attn8[emulate]'")
    return UnicornCpu(processor)


@cache
def compiled(target, *flags):
    """Compiles the core. Returns its code (bytes for FLASH_ADDRESS), symbols {function: address} and elf (a path)."""
    _, prefix, machine = PROCESSORS[target]
    elf = scratch() / f"core-{target}{'_'.join(flags)}.elf"
    sources = [*core_sources(), *CORE.glob("a8_*.S"), *BARE.glob("*.c")]
    layout = ("-I", BARE, "-I", CORE, "-T", BARE / "rp2040.ld", "-Wl,--no-gc-sections")
    run(need(f"{prefix}gcc"), *machine, *FLAGS, *flags, *layout, *sources, "-lgcc", "-o", elf)
    binary = elf.with_suffix(".bin")
    run(f"{prefix}objcopy", "-O", "binary", elf, binary)
    symbols = image._symbols(run(f"{prefix}nm", "--defined-only", elf))
    return SimpleNamespace(code=binary.read_bytes(), symbols=symbols, elf=elf)


class Core(m0plus.Core):
    """The core of a target and flags in the memory of its processor."""

    def __init__(self, target, *flags):
        self.image, self.processor = compiled(target, *flags), new_cpu(PROCESSORS[target][0])
        self.processor.load_code(FLASH_ADDRESS, self.image.code)

    def place(self, *buffers, offsets=()):
        """As in m0plus.Core; scratch and outputs begin with anything but zeros."""
        return super().place(*(b"\x5a" * b if isinstance(b, int) else b for b in buffers), offsets=offsets)

    def product_scratch(self, n_steps, n_inputs, kernel):
        return arena.block_scratch_bytes(n_steps, n_inputs * kernel)

    def attention_scratch(self, n_steps, n_keys, head_size):
        return 4 * n_keys


def random_linear_equals(core, rng):
    """Compares a random call with the reference. Returns its number of outputs."""
    t, k, n = (int(rng.integers(1, limit)) for limit in rng.choice([(14, 20, 30), (30, 80, 30), (9, 600, 9)]))
    x, w, rows = random_linear(rng, t, k, n)
    clamp, offset = int(rng.integers(0, 3)), int(rng.choice([0, 0, 1, 2, 3]))
    y, _ = run_linear(core, x, w, rows, clamp, offset)
    assert np.array_equal(y, expected(graph.Linear(0, clamp, rows, w), x)), (t, k, n, clamp, offset)
    return y.size


def random_conv1d_equals(core, rng):
    x, op = random_conv1d(rng, *(int(rng.integers(1, m)) for m in rng.choice([(12, 12), (40, 9), (90, 8)])))
    y, _ = run_conv1d(core, x, op, int(rng.choice([0, 0, 1, 2, 3])))
    assert np.array_equal(y, expected(op, x)), (x.shape, op)
    return y.size


def random_window_equals(core, rng):
    t, heads, size = int(rng.integers(1, 30)), int(rng.integers(1, 4)), int(rng.integers(1, 24))
    left, right = (int(v) for v in rng.integers(0, t, 2))
    op, sources = random_op(rng, heads, left, right), random_tokens(rng, t, heads * size)
    y, _ = run_window(core, op, *sources, int(rng.choice([0, 0, 1, 2, 3])), int(rng.choice([0, 0, 1, 2])))
    assert np.array_equal(y, expected(op, *sources)), (t, heads, size, op)
    return y.size


def random_step_equals(core, rng):
    span, heads, size = int(rng.integers(1, 40)), int(rng.integers(1, 4)), int(rng.integers(1, 24))
    op, (_, k, v) = random_op(rng, heads, span - 1, 0), random_tokens(rng, span, heads * size)
    q, n_keys = int8(rng, heads * size), int(rng.choice([span, rng.integers(1, span + 1)]))
    newest = int(rng.integers(0, span)) if n_keys == span else n_keys - 1
    y, _ = run_step(core, op, q, k, v, newest, n_keys, int(rng.choice([0, 0, 0, 1])))
    assert np.array_equal(y, expected_step(op, q, k, v, newest, n_keys)), (span, newest, n_keys, op)
    return y.size


RANDOM = {
    "linear": random_linear_equals,
    "conv1d": random_conv1d_equals,
    "window": random_window_equals,
    "step": random_step_equals,
}


def check_random(core, kernel, n_outputs):
    """Compares random calls of a kernel until they had n_outputs."""
    n = seed = 0
    while n < n_outputs:
        n, seed = n + RANDOM[kernel](core, np.random.default_rng(seed)), seed + 1


def check_model(core, data):
    """Loads a model and runs its golden vectors, with the arena of these targets and a fence behind it."""
    model = reference.parse(data)
    window_bytes = model.shapes[0][0] * model.shapes[0][1] * (1 if model.graph.input_requantize is None else 2)
    arena_bytes, n_outputs = reference.plan(model, arena.BLOCKED)[1], len(model.graph.labels)
    core.call("a8_model_bytes", *core.place(data), len(data))
    object_bytes = core.result
    at = core.place(data, object_bytes, arena_bytes, window_bytes, n_outputs)
    file = (at[0], len(data))
    core.call("a8_load", at[1], object_bytes, *file)
    assert core.result == 0
    core.call("a8_selftest", at[1], *file, at[2], arena_bytes, at[3], window_bytes, at[4], n_outputs)
    assert core.result == 0
    assert core.processor.read(at[4], n_outputs) == model.golden_outputs[-1].tobytes()


def check_padding(core, monkeypatch):
    """Compares calls with K of no whole words whose rows have anything behind them."""
    monkeypatch.setattr(
        test_m0plus_linear, "packed_weights", lambda w: np.pad(w, ((0, 0), (0, -w.shape[1] % 4)), constant_values=99)
    )
    for k in (1, 3, 6, 13, 131):
        x, w, rows = random_linear(np.random.default_rng(k), 9, k, 7)
        y, _ = run_linear(core, x, w, rows, 0)
        assert np.array_equal(y, expected(graph.Linear(0, 0, rows, w), x)), k


def linear_count(core, t, k, n=48, offset=0):
    """Returns instructions a MAC of t tokens; few of their outputs are saturated."""
    rng = np.random.default_rng(k)
    x, w, rows = normal(rng, t, k), normal(rng, n, k), plain_rows(rng, n, k)
    y, count = run_linear(core, x, w, rows, 0, offset)
    assert np.array_equal(y, expected(graph.Linear(0, 0, rows, w), x))
    assert t == 1 or np.std(y.astype(float)) > 20
    return count / (t * k * n)


def conv1d_count(core, n_channels, n=48, kernel=8):
    """Returns instructions a MAC of 32 output tokens, stride 2, padded at both ends."""
    rng, k = np.random.default_rng(n_channels), kernel * n_channels
    op = graph.Conv1d(0, 0, 2, 3, 3, plain_rows(rng, n, k), normal(rng, n, kernel, n_channels))
    x = normal(rng, 64, n_channels)
    y, count = run_conv1d(core, x, op)
    assert np.array_equal(y, expected(op, x))
    return count / (y.size * k)


def attention_count(core, head_size, span=16, t=32, heads=4):
    """Returns instructions a MAC of a causal window and of one step with all keys, softmax included."""
    rng = np.random.default_rng(head_size)
    bias = rng.integers(-300, 300, (heads, span)).astype(np.int32)
    op = graph.WindowedAttention(0, 1, 2, heads, span - 1, 0, graph.Softmax(4733, 28360, 0, 19), 20649, 14, bias)
    q, k, v = rng.integers(-127, 128, (3, t, heads * head_size)).astype(np.int8)
    y, window = run_window(core, op, q >> 3, k, v)
    assert np.array_equal(y, expected(op, q >> 3, k, v))
    _, step = run_step(core, op, q[0] >> 3, k[:span], v[:span], span // 3, span)
    n_keys = sum(min(i + 1, span) for i in range(t))
    return window / (2 * n_keys * heads * head_size), step / (2 * span * heads * head_size)


def stack_bytes(target, folder, *flags):
    """Returns {function: bytes of its deepest stack}, by the call graph of the compiler."""
    _, prefix, machine = PROCESSORS[target]
    for source in core_sources():
        options = (*machine, "-std=c99", "-ffreestanding", "-I", BARE, *flags, "-fcallgraph-info=su")
        run(need(f"{prefix}gcc"), *options, "-c", source, "-o", folder / f"{source.stem}.o")
    frames, calls = test_core._call_graph(folder)
    frames, calls = frames | {"a8_linear_s8": 0}, calls | {"a8_linear_s8": {"a8_conv1d_s8"}}
    return {name: test_core._depth(name, frames, calls, ()) for name in frames if name.startswith("a8_")}


def watch_memory(core, check):
    """Calls check(address, size, code of the instruction) at every load and store from now on."""
    import unicorn

    cpu, at = core.processor._core, [0]

    def step(_, address, size, __):
        at[0] = address

    def touch(uc, _, address, size, *__):
        check(address, size, struct.unpack("<H", uc.mem_read(at[0], 2))[0])

    cpu.hook_add(unicorn.UC_HOOK_CODE, step)
    cpu.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, touch)
    cpu.ctl_flush_tb()
