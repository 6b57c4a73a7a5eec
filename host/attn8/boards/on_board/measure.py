"""Runs on a board: brings a model into RAM, runs windows on it and times them. The host sends this and reads lines."""

import gc
import time
from array import array

import attn8
from attn8.loading import new_buffer

try:
    from binascii import crc32
except ImportError:

    def crc32(data, c=0):
        c ^= 0xFFFFFFFF
        for v in data:
            c ^= v
            for _ in range(8):
                c = c >> 1 ^ (0xEDB88320 if c & 1 else 0)
        return c ^ 0xFFFFFFFF


try:
    from time import sleep_ms, ticks_diff, ticks_us
except ImportError:  # CircuitPython

    def ticks_us():
        return time.monotonic_ns() // 1000

    def ticks_diff(a, b):
        return a - b

    def sleep_ms(ms):
        time.sleep(ms / 1000)


THRESHOLD_BYTES = 2048  # of garbage between two collections
N_NEW = 32  # values of a window that differ from the one before
_LOW_BYTES = 20000  # of free heap, below which the collector is never held back
_COLLECT_EVERY = 32  # windows, where the collector has no threshold


def say(text):
    """Prints a line with its check."""
    print(f"{text} *{crc32(text.encode()) & 65535:04x}")


def halves(c):
    """Returns a CRC as two numbers: small ints have 31 bits, and not every board has larger ones."""
    return c >> 16 & 65535, c & 65535


class Memory:
    """A model file in RAM, which the host fills, or a file there."""

    def __init__(self, n_bytes):
        gc.collect()
        self.free_before = gc.mem_free()
        self.data = new_buffer(n_bytes)

    def read(self, path):
        with open(path, "rb") as f:
            f.readinto(self.data)

    def crc(self):
        return halves(crc32(self.data))


class Ticks:
    """A timer that interrupts what runs, and counts; in the interrupt itself where the firmware can."""

    def __init__(self, hz):
        self.count, self.timer, self.hard = 0, None, False
        if hz:
            self._start(hz)

    def _start(self, hz):
        from machine import Timer

        for number in (-1, 0):
            for options in ({"hard": True}, {}):
                try:
                    self.timer = Timer(number)
                    self.timer.init(freq=hz, mode=Timer.PERIODIC, callback=self.tick, **options)
                    self.hard = bool(options)
                    return
                except (TypeError, ValueError, OSError):
                    self.timer = None
        raise ValueError(f"no timer of {hz} Hz")

    def tick(self, timer):
        self.count += 1

    def stop(self):
        if self.timer:
            self.timer.deinit()


class Bench:
    """A model with windows of its own. ``ranges``: lowest value and number of values of each channel."""

    def __init__(self, memory, ranges):
        self.m = m = attn8.load(memory.data)
        self.n_values, self.n_channels = m.n_steps * m.n_channels, m.n_channels
        item = 2 if m.input_type == "int16" else 1
        self.window = array("h" if item == 2 else "b", bytes(item * self.n_values))
        self.low = array("i", [low for low, n in ranges])
        self.half = array("i", [n >> 1 for low, n in ranges])
        self.x, self.y, self.at, self.channel = 1, 40504, 0, 0
        self.received, self.n_received = None, 0
        gc.collect()
        self.free_before, self.free_after = memory.free_before, gc.mem_free()

    def draw(self, n):
        """Draws the next n values of the window anew; products stay below 2**30, so nothing is allocated."""
        x, y, at, channel, window, low, half = self.x, self.y, self.at, self.channel, self.window, self.low, self.half
        for _ in range(n):
            t = (x ^ (x << 5)) & 65535
            x = y
            y = (y ^ (y >> 1)) ^ (t ^ (t >> 3))
            window[at] = low[channel] + ((y >> 1) * half[channel] >> 14)
            at += 1
            channel += 1
            if channel == self.n_channels:
                channel = 0
                if at == self.n_values:
                    at = 0
        self.x, self.y, self.at, self.channel = x, y, at, channel

    def one(self):
        """Returns the microseconds of a window, without anything beside it."""
        start = ticks_us()
        self.m.run(self.window)
        return ticks_diff(ticks_us(), start)

    def heap_bytes(self):
        """Returns the heap that ten more runs take, 0 unless run allocates, and the stack in use where it is called."""
        grown = []
        for n in (1, 11):
            gc.collect()
            before = gc.mem_alloc()
            for _ in range(n):
                self.m.run(self.window)
            grown.append(gc.mem_alloc() - before)
        try:
            from micropython import stack_use

            return grown[1] - grown[0], stack_use()
        except ImportError:
            return grown[1] - grown[0], None

    def pause_us(self):
        """Returns the microseconds of a collection with nothing to collect, and how much garbage calls for one."""
        gc.collect()
        start = ticks_us()
        gc.collect()
        return ticks_diff(ticks_us(), start), THRESHOLD_BYTES if hasattr(gc, "threshold") else None

    def windows(self, n, in_line, hz):
        """Runs n windows, with a line for each ``in_line`` of them; the timer runs at hz."""
        self.runs, self.loops = array("i", bytes(4 * in_line)), array("i", bytes(4 * in_line))
        self.outputs = bytearray(in_line * self.m.n_outputs)
        self.draw(self.n_values)
        quiet = gc.mem_free() > _LOW_BYTES
        by_threshold = hasattr(gc, "threshold")
        if by_threshold:
            gc.threshold(THRESHOLD_BYTES)
        ticks = Ticks(hz)
        try:
            start = ticks_us()
            for first in range(0, n, in_line):
                k = min(in_line, n - first)
                count, start = ticks.count, ticks_us()
                self._timed(k, quiet, 0 if by_threshold else _COLLECT_EVERY)
                us, count = ticks_diff(ticks_us(), start), ticks.count - count
                c = halves(crc32(memoryview(self.outputs)[: k * self.m.n_outputs]))
                runs, loops = (",".join([str(a[i]) for i in range(k)]) for a in (self.runs, self.loops))
                say(f"W {first} {k} {c[0]} {c[1]} {us} {count} {runs} {loops}")
                del runs, loops
                gc.collect()  # what telling takes is not for the next windows to clear up
        finally:
            ticks.stop()
            gc.enable()
            if by_threshold:
                gc.threshold(-1)
        say(f"E {int(ticks.hard)}")

    def _timed(self, n, quiet, collect_every):
        """Runs n windows as a program would: run, decide, a line of text. The collector works nowhere else."""
        run, decide, window, runs, loops = self.m.run, self.m.decide, self.window, self.runs, self.loops
        n_outputs, outputs = self.m.n_outputs, self.outputs
        for i in range(n):
            self.draw(N_NEW)
            gc.enable()
            start = ticks_us()
            out = run(window)
            middle = ticks_us()
            label, score = decide(out)
            _line = f"{label} {score}\n"
            if collect_every and i % collect_every == 0:
                gc.collect()
            end = ticks_us()
            if quiet:
                gc.disable()
            runs[i] = ticks_diff(middle, start)
            loops[i] = ticks_diff(end, start)
            for j in range(n_outputs):
                outputs[i * n_outputs + j] = out[j] & 255

    def sampling(self, rate_hz, n, hop, hz):
        """Reads n samples at a rate, with a window every ``hop``; prints each step and gap."""
        sampler = attn8.Sampler(None, rate_hz)
        steps, gaps, window = array("i", bytes(4 * n)), bytearray(n), self.window
        at, last = 0, self.n_values - 1
        ticks = Ticks(hz)
        try:
            for i in range(n):
                gaps[i] = min(sampler.wait(), 255)
                steps[i] = sampler.step_us
                for channel in range(self.n_channels):
                    window[at] = self.low[channel]
                    at = at + 1 if at < last else 0
                if i % hop == hop - 1:
                    label, score = self.m.decide(self.m.run(window))
                    _line = f"{label} {score}\n"
        finally:
            ticks.stop()
        for i in range(0, n, 64):
            k = min(64, n - i)
            told = [",".join([str(a[i + j]) for j in range(k)]) for a in (steps, gaps)]
            say(f"S {i} {told[0]} {told[1]}")
        say(f"L {sampler.late} {sampler.lost}")

    def receive(self, piece):
        """Takes a part of a window that the host sends."""
        if self.received is None:
            self.received = bytearray(self.n_values * (2 if self.m.input_type == "int16" else 1))
        self.received[self.n_received : self.n_received + len(piece)] = piece
        self.n_received += len(piece)

    def answer(self):
        """Runs the window that was received. Returns the halves of its CRC-32, and the outputs."""
        n, self.n_received = self.n_received, 0
        if n != len(self.received):
            return (0, 0), ()
        return halves(crc32(self.received)), [int(v) for v in self.m.run(self.received)]
