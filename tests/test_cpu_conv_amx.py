"""Convolution on the tiles of AMX: within the error model element by element, whatever tiles make of odd numbers.

Processors without AMX run the exact emulation of the tiles.
"""

import numpy as np
import pytest

import fastconv
from fastconv import cpu, reference
from fastconv.cpu import amx, conv_amx, threads
from fastconv.cpu.jit import kernel
from fastconv.errors import DTypeError, ShapeError
from fastconv.tolerance import assert_within, bound
from fastconv.window import Window

# N, C, K, size, kernel, stride, padding, dilation, groups: channels around chunks of 32, filters around panels of 32,
# positions around runs of 32, strides with a phase that no tap reads
PROBLEMS = [
    (1, 33, 35, (5, 7), (1, 1), 1, 0, 1, 1),
    (3, 16, 31, (7, 7), (1, 1), 2, 0, 1, 1),
    (2, 20, 18, (5, 9), (3, 3), 1, 1, 1, 1),
    (2, 40, 64, (9, 6), (3, 2), 2, ((1, 0), (2, 1)), 1, 2),
    (1, 17, 33, (6, 40), (3, 3), (1, 3), (0, 2), (2, 1), 1),
    (2, 18, 16, (3, 4, 5), (3, 3, 3), 1, 1, 1, 1),
    (1, 32, 17, (4, 5, 6), (2, 1, 3), (2, 1, 2), (0, 0, 1), 1, 1),
    (2, 3, 2, (4, 34), (1, 5), 1, (0, 2), 1, 1),
]
# Worst seen over all of these: 0.24 of the bound, with the tiles and with their emulation.
C = 1.0
FORMATS = pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Tiles wherever there is a sum, Winograd's algorithm nowhere."""
    monkeypatch.setattr(cpu.conv, "is_amx", lambda sampling, dtype, _: dtype == np.float32 and sampling.taps > 0)
    with fastconv.winograd("off"):
        yield


@pytest.fixture
def served(monkeypatch):
    """Whether tiles served each call."""
    answers = []
    multiply = conv_amx.multiply
    monkeypatch.setattr(conv_amx, "multiply", lambda *a: answers.append(multiply(*a)) or answers[-1])
    return answers


def stored(a, last):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if last else a


def drawn(problem, last):
    n, channels, filters, size, kernel, stride, padding, dilation, groups = problem
    rng = np.random.default_rng(0)
    x = stored(rng.standard_normal((n, channels, *size), np.float32), last)
    w = rng.standard_normal((filters, channels // groups, *kernel), np.float32)
    b = rng.standard_normal(filters, np.float32)
    return x, w, b, Window.conv(x, w, b, stride, padding, dilation, groups, len(size))


def check(actual, operator, arrays, b, window, length):
    wide = [a.astype(np.float64) for a in arrays]
    biases = (None, None) if b is None else (b.astype(np.float64), abs(b.astype(np.float64)))
    expected = operator(*wide, biases[0], window)
    scale = operator(*map(abs, wide), biases[1], window)
    assert_within(actual, expected, bound(expected, scale, length, np.float32, C))


@FORMATS
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_forward_and_input_gradient(problem, last, served):
    x, w, b, window = drawn(problem, last)
    length = w[0].size + 1
    check(cpu.conv_forward(x, w, b, window), reference.conv_forward, (x, w), b, window, length)
    dy = stored(np.random.default_rng(1).standard_normal(window.output_shape, np.float32), last)
    dx = cpu.conv_input_grad(dy, w, None, window)
    check(dx, reference.conv_input_grad, (dy, w), None, window, w[:, 0].size)
    assert served and all(served)


@FORMATS
def test_activations(last, served):
    x, w, b, window = drawn(PROBLEMS[2], last)
    plain = cpu.conv_forward(x, w, b, window)
    relu = cpu.conv_forward(x, w, b, window, "relu")
    np.testing.assert_array_equal(relu, np.maximum(plain, 0))
    silu = cpu.conv_forward(x, w, b, window, "silu")
    np.testing.assert_allclose(silu, plain / (1 + np.exp(-plain.astype(np.float64))), rtol=1e-6, atol=1e-6)
    assert served == [True] * 3


@FORMATS
def test_how_pixels_are_cut_changes_no_bit(last, monkeypatch):
    for problem in PROBLEMS:
        x, w, b, window = drawn(problem, last)
        conv_amx.plan.cache_clear()
        whole = cpu.conv_forward(x, w, b, window)
        for room in (1, 40, 150):
            bytes_of_position = 4 * 16 * 3 * -(-x.shape[1] // window.groups // 32)
            monkeypatch.setattr(conv_amx, "_PLANES", room * bytes_of_position)
            conv_amx.plan.cache_clear()
            np.testing.assert_array_equal(cpu.conv_forward(x, w, b, window), whole)
        monkeypatch.undo()
        monkeypatch.setattr(cpu.conv, "is_amx", lambda *_: True)
    conv_amx.plan.cache_clear()


@FORMATS
def test_threads_change_no_bit(last, monkeypatch):
    monkeypatch.setattr(threads, "SERIAL_NANOSECONDS", 0)
    monkeypatch.setattr(conv_amx, "_PLANES", 60 * 4 * 16 * 3)
    conv_amx.plan.cache_clear()
    results = []
    for count in (1, 2, 3):
        with threads.num_threads(count):
            x, w, b, window = drawn((2, 20, 70, (7, 9), (3, 3), 1, 1, 1, 1), last)
            results.append(
                (cpu.conv_forward(x, w, b, window), cpu.conv_input_grad(x[:, :1] + b[:, None, None], w, None, window))
            )
    conv_amx.plan.cache_clear()
    for y, dx in results[1:]:
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(dx, results[0][1])


# Numbers that tiles, or their pieces, would treat in another way: each alone among numbers of 1, in x or in w.
ODD = [
    np.inf, -np.inf, np.nan, np.uint32(0x7FFFFFFF).view(np.float32), np.uint32(0xFF800001).view(np.float32),
    3.4028e38, -3.4028235e38, 1e30, 1e-45, -1e-40, 1.2e-38, 1e-30, 1e-20,
]  # fmt: skip


def check_like_vectors(x, w, window, served, monkeypatch):
    """Where tiles serve, results are within the bound; where they do not, bits are those of float32 in vectors."""
    with np.errstate(all="ignore"):
        y = cpu.conv_forward(x, w, None, window)
        if served[-1]:
            check(y, reference.conv_forward, (x, w), None, window, w[0].size)
        with monkeypatch.context() as patch:
            patch.setattr(cpu.conv, "is_amx", lambda *_: False)
            plain = cpu.conv_forward(x, w, None, window)
    if not served[-1]:
        np.testing.assert_array_equal(y, plain)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(plain))


@FORMATS
@pytest.mark.parametrize("odd", ODD, ids=str)
def test_odd_numbers(odd, last, served, monkeypatch):
    for place in ("x", "w"):
        x, w, _, window = drawn(PROBLEMS[2], last)
        (x if place == "x" else w)[0, 3, 2, 1] = odd
        check_like_vectors(x, w, window, served, monkeypatch)
    expected = np.isfinite(odd) and abs(odd) < 1e38
    assert served == [expected, expected]


@FORMATS
@pytest.mark.parametrize(
    "scale_x, scale_w", [(1e-38, 1), (1e-20, 1e-20), (1e-30, 1e-10), (1, 1e-42), (1e25, 1e-25), (1e20, 1e17)]
)
def test_scales(scale_x, scale_w, last, served, monkeypatch):
    x, w, _, window = drawn(PROBLEMS[2], last)
    check_like_vectors(x * np.float32(scale_x), w * np.float32(scale_w), window, served, monkeypatch)
    assert served == [scale_x == 1e25]


def test_small_numbers_beside_zeros(served):
    """A pixel whose sum is of small numbers only is computed anew; where zeros alone meet, tiles are right."""
    x, w, _, window = drawn(PROBLEMS[2], False)
    x[:, :, :, 4:] = 0
    cpu.conv_forward(x, w, None, window)
    x[0, :, :3, 8] = 1e-38
    check(cpu.conv_forward(x, w, None, window), reference.conv_forward, (x, w), None, window, 180)
    assert served == [True, False]


def test_frozen_filters_are_packed_once(monkeypatch):
    x, w, b, window = drawn(PROBLEMS[2], False)
    w.flags.writeable = False
    first = cpu.conv_forward(x, w, b, window)
    monkeypatch.setattr(conv_amx, "pack_weights", None)
    np.testing.assert_array_equal(cpu.conv_forward(x, w, b, window), first)


@kernel
def tiles(steps, table, x, x_piece, w, hardware, sums, other):
    if hardware:
        amx.open_tiles()
        amx.multiply_tiles(steps, table, x, 0, x_piece, w, 0)
        amx.store_sums(sums)
        amx.close_tiles()
    amx.emulate(steps, table, x, 0, x_piece, w, 0, other)


@pytest.mark.skipif(not amx.available(), reason="this processor has no AMX, or the system does not lend it")
@pytest.mark.parametrize("spread", [0, 40])
def test_the_emulation_is_exact(spread):
    rng = np.random.default_rng(3)
    steps, rows = 3, 40

    def pairs(count):
        numbers = rng.standard_normal(2 * count) * 2.0 ** rng.integers(-spread - 80, spread - 80 + 1, 2 * count)
        words = (numbers.astype(np.float32).view(np.uint32) >> 16).astype(np.uint32)
        return (words[::2] | words[1::2] << 16).view(np.int32)

    x, w = pairs(3 * rows * 16), pairs(steps * amx.STEP)
    w = np.where(rng.random(w.size) < 0.02, np.int32(0x00010001), w).astype(np.int32)  # subnormal ones
    sums, other = np.full(1024, np.nan, np.float32), np.full(1024, np.nan, np.float32)
    tiles(steps, np.array([0, 16, 5 * 16], np.int64), x, rows * 16, w, True, sums, other)
    np.testing.assert_array_equal(sums.view(np.uint32), other.view(np.uint32))


def test_what_is_chosen(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(amx, "available", lambda: True)
    _, _, _, window = drawn((4, 128, 128, (8, 8), (1, 1), 1, 0, 1, 1), False)
    sampling, *_ = cpu.conv._forward_sampling(window)
    single = np.dtype(np.float32)
    assert conv_amx.is_amx(sampling, single, True)
    assert conv_amx.is_amx(sampling, single, False)
    assert not conv_amx.is_amx(sampling, np.dtype(np.float64), True)
    assert not conv_amx.is_amx(sampling._replace(channels=31), single, True)
    assert not conv_amx.is_amx(sampling._replace(filters=127), single, True)
    assert not conv_amx.is_amx(sampling._replace(batch=1, count=(1, 1, 255)), single, True)
    strided = sampling._replace(step=(1, 2, 2), taps=9)
    assert [conv_amx.is_amx(strided, single, last) for last in (True, False)] == [True, False]
    assert not conv_amx.is_amx(strided._replace(count=(2, 8, 16)), single, True)
    spread = sampling._replace(spread=(1, 2, 2))
    assert [conv_amx.is_amx(spread, single, last) for last in (True, False)] == [True, False]
    assert conv_amx.is_amx(spread._replace(batch=32, count=(1, 8, 8)), single, False)
    with fastconv.amx("off"):
        assert fastconv.get_amx() == "off"
        assert not conv_amx.is_amx(sampling, single, True)
    assert fastconv.get_amx() == "auto"


def test_the_environment_decides_first(monkeypatch):
    monkeypatch.setattr(conv_amx._mode, "_chosen", None)
    monkeypatch.setenv("FASTCONV_AMX", "off")
    assert fastconv.get_amx() == "off"
    monkeypatch.setattr(conv_amx._mode, "_chosen", None)
    monkeypatch.setenv("FASTCONV_AMX", "on")
    with pytest.raises(ShapeError, match="FASTCONV_AMX"):
        fastconv.get_amx()


@pytest.mark.parametrize("mode, error", [("on", ShapeError), (True, DTypeError), (None, DTypeError)])
def test_modes_that_are_none(mode, error):
    with pytest.raises(error, match="set_amx: mode"):
        fastconv.set_amx(mode)
    with pytest.raises(error), fastconv.amx(mode):
        pass
    assert fastconv.get_amx() in ("auto", "off")
