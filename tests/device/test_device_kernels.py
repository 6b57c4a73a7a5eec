"""The kernels against small vectors worked out by hand from models/FORMAT.md. Runs unchanged on every Python."""
# ruff: noqa: RUF005 (MicroPython unpacks no tuple into another)

from array import array

from case import bytecode, bytecode_norm, golden, kernels, norm, plan

INT16_MAX = 32767


def rows(*entries):
    """Makes (bias, multiplier, pre, half_post) of requantize entries (bias, m, pre, post)."""
    bias, multiplier = array("i", [e[0] for e in entries]), array("h", [e[1] for e in entries])
    return bias, multiplier, bytes([e[2] for e in entries]), bytes([e[3] - 1 for e in entries])


ONE = (0, 16384, 0, 14)  # y = acc


def int8(*values):
    return array("b", values)


def weights(*matrix):
    """Makes what the kernels read of rows of weights."""
    n_inputs = len(matrix[0])
    padding = [0] * (-n_inputs % 4)
    return kernels.weights(memoryview(int8(*[w for row in matrix for w in list(row) + padding])), len(matrix), n_inputs)


def scratch(n_products, n_outputs, n_keys=0):
    """Makes the buffers of an op for its inputs and for its accumulators."""
    n = kernels.scratch_values(n_products, n_outputs, n_keys)
    return kernels.token(n_products), array("i", [-1] * n)


def test_requantize_rounds_half_up_and_saturates():
    y = int8(0, 0, 0, 0, 0, 0)
    layer = (6, 1, rows((0, 16384, 0, 15)))  # y = acc / 2
    kernels.requantize_s16(array("h", (1, -1, 3, 300, -300, INT16_MAX)), y, layer)
    assert list(y) == [1, 0, 2, 127, -128, 127]


def test_requantize_saturates_beyond_16_bits_and_not_before():
    at_the_limits = array("i", (32767, 32768, -32768, -32769))
    y = int8(1, 1, 1, 1)
    bytecode._requantize(at_the_limits, rows(*[(0, 1, 0, 29)] * 4), y, 0, 4, -128, 127)
    assert list(y) == [0, 127, 0, -128]
    layer = (1, 4, rows((0, 1, 0, 29), (1, 1, 0, 29), (0, 1, 0, 29), (-1, 1, 0, 29)))
    kernels.requantize_s16(array("h", (32767, 32767, -32768, -32768)), y, layer)
    assert list(y) == [0, 127, 0, -128]


def test_requantize_reads_counts_and_their_bytes_alike():
    layer = (2, 2, rows((5, 16384, 0, 16), (-5, 20000, 1, 14)))
    counts = array("h", (-32768, 32767, 100, -100))
    as_bytes = b"\x00\x80\xff\x7f\x64\x00\x9c\xff"
    y, z = int8(0, 0, 0, 0), int8(0, 0, 0, 0)
    kernels.requantize_s16(counts, y, layer)
    kernels.requantize_s16(as_bytes, z, layer)
    # (100 + 5)/4 = 26.25; (-100 - 5) >> 1 = -53, -53*20000/2^14 = -64.7
    assert list(y) == list(z) == [-128, 127, 26, -65]


def test_linear_multiplies_requantizes_and_clamps():
    y = int8(0, 0, 0, 0)
    w = weights((1, 2, 3), (-100, 127, 0))
    for low, third, fourth in ((-128, -14, -128), (0, 0, 0), (-127, -14, -127)):
        layer = (2, 3, 2, w, rows(ONE, ONE), low, 127) + scratch(3, 2)
        kernels.linear_s8((int8(1, 2, 3, -1, -2, -3),), y, layer)
        assert list(y) == [14, 127, third, fourth]


def test_linear_accumulator_beyond_16_bits_saturates():
    y = int8(0)
    x = int8(*([127] * 40))
    layer = (1, 40, 1, weights([127] * 40), rows((0, 1, 0, 29)), -128, 127) + scratch(40, 1)
    kernels.linear_s8((x,), y, layer)
    assert list(y) == [127]  # 645160 > 32767, although 645160 * 2^-29 rounds to 0


def test_conv1d_pads_with_zeros_and_strides():
    x = int8(1, 2, 3, 4, 5)
    y = int8(0, 0, 0)
    # T = 5, C = 1, kernel 3, stride 2, one zero on each side: patches (0,1,2), (2,3,4), (4,5,0)
    layer = (5, 1, 3, 1, 3, 2, 1, 1, weights((1, 10, 20)), rows(ONE), -128, 127) + scratch(3, 1)
    kernels.conv1d_s8((x,), y, layer)
    assert list(y) == [50, 112, 54]


def test_conv1d_reads_taps_first_then_channels():
    x = int8(1, 2, 3, 4)  # two tokens of two channels
    y = int8(0)
    layer = (2, 2, 1, 1, 2, 1, 0, 0, weights((1, 3, 5, 7)), rows(ONE), -128, 127) + scratch(4, 1)
    kernels.conv1d_s8((x,), y, layer)
    assert list(y) == [1 + 6 + 15 + 28]


def attention(n_steps, d, heads, left, right, bias, q, k, v, multiplier=16384, shift=14, softmax=(1024, 16384, 0, 14)):
    y = int8(*([0] * (n_steps * d)))
    buffers = scratch(d // heads, d, min(n_steps, left + right + 1))
    layer = (n_steps, d, heads, left, right, softmax, multiplier, shift, array("i", bias)) + buffers
    kernels.windowed_attention_s8((q, k, v), y, layer)
    return list(y)


def test_attention_over_equal_scores_is_the_rounded_mean():
    zero = int8(0, 0, 0, 0)
    assert attention(4, 1, 1, 3, 3, [0] * 7, zero, zero, int8(10, 20, 30, 41)) == [25] * 4


def test_attention_window_is_cut_at_the_ends():
    zero = int8(0, 0, 0, 0)
    assert attention(4, 1, 1, 1, 1, [0] * 3, zero, zero, int8(0, 30, 60, 120)) == [15, 30, 70, 90]
    assert attention(4, 1, 1, 1, 0, [0] * 2, zero, zero, int8(0, 30, 60, 120)) == [0, 15, 45, 90]


def test_attention_weighs_by_the_table():
    # d = 32 between the two keys: e = 127 and EXP[32] = 47; y = (127*100 + 47*0)/174 = 72.99
    assert attention(2, 1, 1, 1, 1, [0] * 3, int8(1, 0), int8(32, 0), int8(100, 0)) == [73, 50]


def test_attention_bias_belongs_to_the_distance():
    zero = int8(0, 0, 0)
    # only the key before the query is left: a bias of 2000 steps
    assert attention(3, 1, 1, 1, 0, [2000, 0], zero, zero, int8(5, 50, 100)) == [5, 5, 50]


def test_attention_heads_are_independent():
    q, k = int8(1, 0, 0, 1), int8(127, 0, 0, 127)
    # head 0 of query 0 prefers key 0; head 1 of query 1 prefers key 1; e = 127 and EXP[127] = 2
    assert attention(2, 2, 2, 1, 1, [0] * 6, q, k, int8(100, 10, -100, 90)) == [97, 50, 0, 89]


def test_layer_norm_of_alternating_values():
    x = int8(*([10, -10] * 4))
    y = int8(*([0] * 8))
    # sqrt(D)/s_y = 2.828 / 0.02 = 141.4 = 18102 * 2^-7: y = +-1/0.02 = +-50
    norm.layer_norm_s8((x,), y, (1, 8, 0, 18102, 0, 7, array("i", [0] * 8)))
    assert list(y) == [50, -50] * 4
    norm.layer_norm_s8((x,), y, (1, 8, 1, 18102, 0, 7, array("i", [0] * 8)))
    assert list(y) == [50, -50] * 4


def test_layer_norm_subtracts_the_mean_and_rms_norm_does_not():
    x = int8(*([100] * 8))
    y = int8(*([1] * 8))
    norm.layer_norm_s8((x,), y, (1, 8, 0, 18102, 0, 7, array("i", [0] * 8)))
    assert list(y) == [0] * 8
    norm.layer_norm_s8((x,), y, (1, 8, 1, 18102, 0, 7, array("i", [0] * 8)))
    assert list(y) == [50] * 8


def test_layer_norm_shrinks_rounding_half_up_and_clamps():
    centred = array("i", (16, 15, -16, -17, 5000, -5000))
    assert bytecode_norm._shrink(centred, 6, 5, 100) == 1 + 0 + 0 + 1 + 10000 + 10000
    assert list(centred) == [1, 0, 0, -1, 100, -100]


def test_isqrt_is_the_floor():
    for root in (16384, 20000, 23170, 32767):
        assert bytecode_norm._isqrt(root * root) == root
        assert bytecode_norm._isqrt(root * root + 2 * root) == root
    assert bytecode_norm._isqrt((1 << 30) - 1) == 32767


def test_add_scales_rounds_and_saturates():
    y = int8(0, 0, 0, 0)
    kernels.add_s8((int8(1, -1, 127, -128), int8(2, -2, 127, -128)), y, (4, 16384, 32768))
    assert list(y) == [3, -2, 127, -128]  # 0.5 + 2 = 2.5 -> 3; -2.5 -> -2


def test_mean_pool_sums_over_the_tokens():
    y = int8(0, 0)
    kernels.mean_pool_s8((int8(1, 100, 2, 101, 3, 102),), y, (3, 2, rows((0, 21845, 0, 16)), array("i", [0, 0])))
    assert list(y) == [2, 101]


def test_table_is_indexed_from_minus_128():
    table = int8(*[max(i - 128, 0) for i in range(256)])
    y = int8(0, 0, 0, 0)
    kernels.table_s8((int8(-128, -1, 0, 127),), y, (4, table))
    assert list(y) == [0, 0, 0, 127]


def test_generator_of_golden_vectors():
    def draws(n, seed):
        record = bytes((0, 128, 0, 64)) + bytes(seed) + b"\x01\x00\x00\x00"  # low = -32768, 16384 values
        window = array("h", [0] * n)
        golden.draw(record, 0, window, n, 1)
        return [v + 32768 for v in window]

    # low + (y*16384 >> 16) is y >> 2
    assert draws(3, (1, 0, 1, 0)) == [36 >> 2, 19 >> 2, 1066 >> 2]
    assert draws(1000, (1, 0, 1, 0))[-1] == 47863 >> 2
    assert draws(3, (0x34, 0x12, 0xCD, 0xAB)) == [40969 >> 2, 14381 >> 2, 37175 >> 2]


def test_arena_places_blocks_that_live_together_apart():
    assert plan.place([(8, 0, 1), (4, 1, 2), (8, 2, 3)]) == ([0, 8, 0], 12)
    assert plan.place([(0, 0, 1), (4, 1, 1)]) == ([0, 0], 4)
