"""Runs on a board: prints what import, load and a stream take of the heap.

Garbage that a stale word of the C stack points to stays for a while; collections at several depths of calls find it.
"""

import gc


def _deep(n):
    if n:
        kept = n + 1
        _deep(n - 1)
        return kept
    gc.collect()


def used():
    """Returns the bytes of the heap that are in use."""
    for n in (0, 1, 2, 3, 5, 8, 13, 1, 0):
        _deep(n)
    return gc.mem_alloc()


def measure(path, with_stream):
    """Prints `heap BACKEND IMPORT LOAD STREAM`."""
    before = used()
    import attn8

    imported = used()
    m = attn8.load(path)
    loaded = used()
    kept = m.stream() if with_stream else None
    print("heap", attn8.backend, imported - before, loaded - imported, used() - loaded, kept is not None)
