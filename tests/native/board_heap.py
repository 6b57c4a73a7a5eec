"""Runs on a board: prints what import, load and a stream take of the heap.

MicroPython's collector keeps what any word of the stack or of live memory seems to point to, weights included. So some
garbage of a load, 12 kB were seen, outlives it on some layouts of the heap. ``shift`` tries another layout.
"""

import gc


def _deep(n):
    if n:
        kept = n + 1
        _deep(n - 1)
        return kept
    gc.collect()


def _used():
    for n in (0, 1, 2, 3, 5, 8, 1, 0):
        _deep(n)
    return gc.mem_alloc()


def measure(path, with_stream, shift=0):
    """Prints `heap BACKEND IMPORT LOAD STREAM WITH_STREAM`."""
    kept = bytearray(shift)
    before = _used()
    import attn8

    imported = _used()
    m = attn8.load(path)
    loaded = _used()
    s = m.stream() if with_stream else None
    print("heap", attn8.backend, imported - before, loaded - imported, _used() - loaded, s is not None)
    return kept
