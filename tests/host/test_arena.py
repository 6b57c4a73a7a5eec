"""The planner: nothing that lives at the same time overlaps, and little memory is lost."""

import dataclasses

from hypothesis import assume, given, settings
from hypothesis import strategies as st

import models
from attn8 import arena, graph, reference

BLOCKS = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 12), st.integers(0, 6)).map(lambda b: (b[0], b[1], b[1] + b[2])),
    max_size=20,
)


def bytes_at(blocks, offsets, step):
    """Every address that the blocks of a step use, once for each block."""
    live = [(o, s) for (s, first, last), o in zip(blocks, offsets, strict=True) if first <= step <= last]
    return [address for offset, size in live for address in range(offset, offset + size)]


def check_plan(blocks):
    offsets, total, floor = arena.plan(blocks)
    assert all(offset % 4 == 0 for offset in offsets)
    used = [0]
    for step in range(max((last for *_, last in blocks), default=0) + 1):
        addresses = bytes_at(blocks, offsets, step)
        assert len(addresses) == len(set(addresses)), "two blocks overlap"
        assert all(0 <= a < total for a in addresses)
        padded = sum(-(-size // 4) * 4 for size, first, last in blocks if first <= step <= last)
        used.append(padded)
    assert floor == max(used) <= total


@settings(max_examples=400, deadline=None)
@given(BLOCKS)
def test_blocks_that_live_together_never_overlap(blocks):
    check_plan(blocks)


def test_the_first_order_that_reaches_the_floor_counts():
    offsets, total, floor = arena.plan([(8, 0, 1), (16, 1, 2), (4, 2, 2)])
    assert (offsets, total, floor) == ([16, 0, 16], 24, 24)


def test_sizes_are_rounded_up_and_empty_blocks_cost_nothing():
    assert arena.plan([(1, 0, 0), (0, 0, 0), (3, 0, 0)]) == ([0, 0, 4], 8, 8)
    assert arena.plan([]) == ([], 0, 0)


@settings(max_examples=120, deadline=None)
@given(models.shapes(), st.integers(0, 1000))
def test_the_arena_of_a_model_is_at_most_a_tenth_above_its_floor(shape, seed):
    assume(models.fits(shape))
    parsed = reference.parse(models.build_model(shape, seed))
    check_plan(reference.memory_blocks(parsed))
    assert parsed.arena_bytes <= 1.1 * parsed.live_bytes


def test_tensors_live_until_their_last_reader_and_attention_has_scratch():
    shape = models.Shape(heads=2, head_size=4, n_steps=24, left=3, right=1, layers=1, norm="batch", ff=12)
    parsed = reference.parse(models.build_model(shape))
    blocks = reference.memory_blocks(parsed)
    n = len(parsed.shapes)
    names = [type(op).__name__ for op in parsed.graph.ops]
    add = 1 + names.index("Add")
    assert blocks[0] == (24 * 3, 0, 1)
    assert blocks[1][:2] == (12 * 8, 1) and blocks[1][2] > add  # the residual waits for the add
    assert blocks[n - 1] == (3, n - 1, n - 1)
    scratch = [b for b in blocks[n:] if b[0]]
    assert scratch == [(4 * 5, 5, 5)]


def test_what_is_read_for_the_last_time_gives_its_place():
    parsed = reference.parse(models.build_model(models.Shape(layers=2, norm="layer", activation="gelu", int16=True)))
    blocks, offsets = reference.memory_blocks(parsed), parsed.offsets
    shared, ops = dict(reference.in_place(parsed)), parsed.graph.ops
    kinds = {type(ops[tensor - 1]).__name__ for tensor in shared}
    assert kinds == {"LayerNorm", "Add", "Table", "WindowedAttention"}
    for tensor, source in shared.items():
        assert blocks[tensor][0] == 0 and offsets[tensor] == offsets[source]
        assert not any(source in reference.op_sources(op) for op in ops[tensor:])


def test_a_query_that_is_key_or_value_keeps_its_place():
    shape = models.Shape(layers=1, int16=True)
    parsed = reference.parse(models.build_model(shape))
    i = next(i for i, op in enumerate(parsed.graph.ops) if isinstance(op, graph.WindowedAttention))
    op = parsed.graph.ops[i]
    assert (i + 1, op.query) in reference.in_place(parsed)
    for field in ("key", "value"):
        parsed.graph.ops[i] = dataclasses.replace(op, **{field: op.query})
        assert i + 1 not in dict(reference.in_place(parsed))


def test_an_int8_window_needs_no_memory_of_its_own():
    parsed = reference.parse(models.build_model(models.Shape(int16=False)))
    assert reference.memory_blocks(parsed)[0][0] == 0
