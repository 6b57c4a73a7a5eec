"""Samples to the computer, at a rate that is kept and with every lost one counted.

Sent behind sampler.py and blocks.py.
"""
# ruff: noqa: F821 (names of those two)

import sys
from array import array

_FAILURES = 100  # reads one after the other, and a second of them, that a loose wire may cost
_MOST_US = 32767  # that a step may differ from the period inside a block


class Blocks:
    """Collects samples that follow one another and sends them as blocks.

    A block goes out in pieces, one behind each sample: a long line would hold up the samples that follow.
    """

    def __init__(self, kind, n_channels, n_block):
        self.n_channels, self.n_block = n_channels, n_block
        self.block, self.steps = array(kind, [0] * (n_channels * n_block)), array("h", [0] * n_block)
        self.n = self.number = self.first = self.first_us = self.at = self.late = self.lost = 0
        self.waiting, self.piece = "", 1

    def takes(self, place, step):
        """Says whether a sample goes into the block that is being filled: it must follow the one before."""
        follows = place == self.first + self.n and -_MOST_US <= step <= _MOST_US
        return not self.n or (follows and self.n < self.n_block)

    def add(self, values, place, t_us, step, late, lost):
        if not self.n:
            self.first, self.first_us, self.lost, step = place, t_us, lost, 0
        self.late = late
        at = self.n * self.n_channels
        for i in range(self.n_channels):
            self.block[at + i] = values[i]
        self.steps[self.n] = step
        self.n += 1

    def close(self):
        """Makes a line of the block and begins the next one."""
        if self.n:
            head = head_of(self.number, self.first, self.first_us, self.late, self.lost, self.n)
            body = head + bytes(memoryview(self.block)[: self.n * self.n_channels])
            self.waiting = self.waiting[self.at :] + line_of(body + bytes(memoryview(self.steps)[: self.n]))
            self.at, self.piece = 0, len(self.waiting) // self.n_block + 1
            self.number, self.n = self.number + 1, 0

    def send_piece(self):
        if self.at < len(self.waiting):
            sys.stdout.write(self.waiting[self.at : self.at + self.piece])
            self.at += self.piece

    def send_all(self):
        sys.stdout.write(self.waiting[self.at :])
        self.waiting, self.at = "", 0


def record(source, kind, n_channels, sampler, n_block, ending):
    """Sends samples of a source that is read one by one, until the end is asked for.

    Args:
        source: with read(out); a read that raises OSError is a lost sample.    kind: "h" or "f", of a number.
        sampler: a Sampler without read.    n_block: samples in a block.    ending: with asked().
    """
    values, blocks = array(kind, [0] * n_channels), Blocks(kind, n_channels, n_block)
    place, t_us, failed, row = -1, 0, 0, 0
    while True:
        place += sampler.wait() + 1
        t_us = (t_us + sampler.step_us) & 0x3FFFFFFF
        try:
            source.read(values)
            row = 0
        except OSError:
            row, failed = row + 1, failed + 1
            if row >= _FAILURES and row * sampler.period_us > 1000000:
                raise
            continue
        step = sampler.step_us - sampler.period_us
        if not blocks.takes(place, step):
            blocks.close()
            if ending.asked():
                break
        blocks.add(values, place, t_us, step, sampler.late, sampler.lost + failed)
        blocks.send_piece()
    blocks.send_all()
    sys.stdout.write(line_of(head_of(blocks.number, place, t_us, sampler.late, sampler.lost + failed, 0)))


def record_chunks(source, n_channels, ending):
    """Sends samples of a source with a buffer of its own; take() returns how many its ``values`` hold."""
    source.start()
    number = place = lost = t_us = 0
    last_us = ticks_us()
    while not ending.asked():
        n = source.take()
        now = ticks_us()
        t_us, last_us = (t_us + ticks_diff(now, last_us)) & 0x3FFFFFFF, now
        lost += source.gap
        place += source.gap
        if n:
            values = bytes(memoryview(source.values)[: n * n_channels])
            sys.stdout.write(line_of(head_of(number, place, t_us, 0, lost, n) + values))
            number += 1
            place += n
    sys.stdout.write(line_of(head_of(number, place, t_us, 0, lost, 0)))


def read_us(source, kind, n_channels):
    """Returns the microseconds that a sample takes to read: the middle of eleven."""
    values, times = array(kind, [0] * n_channels), []
    for _ in range(11):
        start = ticks_us()
        source.read(values)
        times.append(ticks_diff(ticks_us(), start))
    times.sort()
    return times[5]
