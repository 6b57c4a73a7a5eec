"""Damaged model files: whole files whose fields, lengths and records are changed, most with the CRC repaired."""

import random
import struct

from make_files import records, repaired

_VALUES = (0, 1, 2, 127, 128, 255)


def mutants(models, n, seed=0):
    """Yields n damaged copies of the models, the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(n):
        data = bytearray(rng.choice(models))
        found = records(bytes(data))
        for _ in range(rng.randint(1, 3)):
            _change_bytes(rng, data, found)
        if rng.random() < 0.03:
            at, _ = found[1]
            data[at + 8 : at + 12] = struct.pack(
                "<HH", rng.choice((4000, 32767)), rng.choice((data[at + 10], 33, 1024))
            )
        if rng.random() < 0.08:
            data = _change_records(rng, data, found)
        if rng.random() < 0.05:
            del data[rng.choice((rng.randrange(30), rng.randrange(len(data)))) :]
        yield repaired(data) if len(data) >= 16 and rng.random() < 0.95 else bytes(data)


def _change_bytes(rng, data, found):
    """Changes one or two bytes of a record header, of the first fields or the arrays of a record, or of the header."""
    at, n = rng.choice(found)
    places = (at + rng.randrange(8), at + 8 + rng.randrange(min(n, 24)), at + 8 + rng.randrange(n), rng.randrange(24))
    i = rng.choices(places, (2, 4, 2, 1))[0]
    if rng.random() < 0.2:
        data[i & ~1 : (i & ~1) + 2] = rng.choice((0, 1, 1024, 16384, 32767, 65535)).to_bytes(2, "little")
        return
    data[i] = rng.choice((*_VALUES, data[i] ^ 1 << rng.randrange(8), rng.randrange(256)))


def _change_records(rng, data, found):
    """Repeats, drops or appends a record."""
    at, n = rng.choice(found)
    record = data[at : at + 8 + n]
    action = rng.randrange(4)
    if action == 0:
        return data[:at] + data[at + 8 + n :]
    if action == 1:
        return data[:at] + record + data[at:]
    if action == 2:
        record[2] = rng.choice((0, 1, 1))
        record[0] = rng.choice((5, 15, 100, 127, 128, record[0]))
    return data + record
