"""run and predict allocate nothing. heap_lock exists on MicroPython only; the growth is measured on every Python."""

import gc
import sys
from array import array

from case import attn8, path, read

try:
    from micropython import heap_lock, heap_unlock
except ImportError:
    heap_lock = None


def in_use():
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else sys.getallocatedblocks()


def growth(function, argument, times):
    """Returns by how much the heap grows while the function is called so often and nothing is collected."""
    gc.collect()
    gc.disable()
    try:
        before = in_use()
        for _ in range(times):
            function(argument)
        return in_use() - before
    finally:
        gc.enable()


def pair(argument):
    return argument, 1


def cases():
    for name in ("int16", "int8"):
        yield attn8.load(path(name + ".a8")), read(name + ".x")


def streams():
    """Yields streams of every model, with samples that reach many outputs."""
    for name in ("stream_a", "stream_b", "stream_c", "stream_d"):
        m = attn8.load(path(name + ".a8"))
        n = m.n_channels * (2 if m.input_type == "int16" else 1)
        yield m.stream(), bytearray(read(name + ".x")[: n * (m.n_steps + 2 * m.hop)]), n


def push_all(stream, samples):
    for sample in samples:
        stream.push(sample)


def test_heap_grows_as_little_by_many_pushes_as_by_one():
    for stream, x, n in streams():
        code = "h" if stream.model.input_type == "int16" else "b"
        for sample in (bytes(x[:n]), array("B", x[:n]), array(code, x[:n]), array(code, x[: 2 * n])):
            push_all(stream, [sample] * 60)
            assert growth(stream.push, sample, 20) == growth(stream.push, sample, 60)


def test_heap_grows_as_little_by_many_runs_as_by_one():
    for m, x in cases():
        window = bytearray(x[: len(x) // 8])
        m.run(window)
        assert growth(m.run, window, 1) == growth(m.run, window, 20)


if heap_lock:

    def run_locked(m, window, out):
        """A MemoryError must never leave the heap locked, so the lock stands inside a function."""
        heap_lock()
        try:
            m.run(window, out)
        finally:
            heap_unlock()

    def test_run_allocates_nothing():
        for m, x in cases():
            out = array("b", bytes(m.n_outputs))
            as_bytes = bytearray(x[: len(x) // 8])
            windows = [as_bytes, bytes(as_bytes), memoryview(as_bytes)]
            if m.input_type == "int16":
                windows.append(array("h", bytes(as_bytes)))
                windows.append(memoryview(array("h", bytes(as_bytes))))
            windows.append(array("B", bytes(as_bytes)))
            for window in windows:
                for target in (out, None, bytearray(m.n_outputs), memoryview(out)):
                    run_locked(m, window, target)

    def test_run_allocates_nothing_at_the_extremes():
        for m, _ in cases():
            for value in (-32768, 32767):
                n = m.n_steps * m.n_channels
                value = value if m.input_type == "int16" else value >> 8
                window = array("h" if m.input_type == "int16" else "b", [value] * n)
                run_locked(m, window, None)

    def push_locked(stream, samples):
        heap_lock()
        try:
            push_all(stream, samples)
        finally:
            heap_unlock()

    def test_push_allocates_nothing():
        for stream, x, n in streams():
            code = "h" if stream.model.input_type == "int16" else "b"
            blocks = [bytes(x[i : i + n]) for i in range(0, len(x), n)] + [bytes(x)]
            push_locked(stream, blocks)
            push_locked(stream, [bytearray(block) for block in blocks])
            push_locked(stream, [array(code, block) for block in blocks])
            push_locked(stream, [array("B", block) for block in blocks])
            push_locked(stream, [tuple(array(code, block)) for block in blocks[:-1]])
            for view in (memoryview(x), memoryview(array(code, x))):
                stream.push(view)  # the size of its items may have to be found out
                push_locked(stream, [view] * 3)
            samples = range(0, len(x) // n)
            push_locked(stream, [memoryview(x)[i * n : i * n + n] for i in samples])
            view, c = memoryview(array(code, x)), stream.model.n_channels
            push_locked(stream, [view[i * c : i * c + c] for i in samples])
            halves = memoryview(x)[: len(x) // 2 // n * n], memoryview(x)[-n:]
            push_all(stream, halves)
            push_locked(stream, halves + halves)

    def test_push_allocates_nothing_at_the_extremes():
        for stream, x, _ in streams():
            for value in (-32768, 32767):
                code, value = ("h", value) if stream.model.input_type == "int16" else ("b", value >> 8)
                push_locked(stream, [array(code, [value] * stream.model.n_channels)] * (len(x) // 2))

    def test_step_allocates_nothing():
        for m, x in cases():
            window = bytearray(x[: len(x) // 8])
            heap_lock()
            try:
                m.start(window)
                while m.step():
                    pass
            finally:
                heap_unlock()

    def test_predict_allocates_its_result_only():
        for m, x in cases():
            window = bytearray(x[: len(x) // 8])
            m.predict(window)
            assert growth(m.predict, window, 10) - growth(pair, window, 10) == 0
