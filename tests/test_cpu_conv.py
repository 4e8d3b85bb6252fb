"""The Numba convolutions against the reference, every element within the error model."""

import numpy as np
import pytest

from fastconv import blocks, cpu, reference
from fastconv.cpu.threads import num_threads
from fastconv.tolerance import assert_within, bound
from fastconv.window import Window

# N, C, K, size, kernel, stride, padding, dilation, groups; around tiles (14 x 32, 6 x 16) and blocks (112, 128, 256)
PROBLEMS = [
    (1, 1, 1, (1,), (1,), 1, 0, 1, 1),
    (1, 257, 13, (3,), (3,), 1, 1, 1, 1),
    (3, 5, 31, (129,), (3,), 2, 0, 1, 1),
    (2, 33, 15, (13, 17), (3, 3), 1, 1, 1, 1),
    (1, 64, 225, (1, 1), (1, 1), 1, 0, 1, 1),
    (1, 29, 257, (7, 7), (3, 3), 1, ((0, 2), (1, 0)), 1, 1),
    (5, 3, 33, (15, 14), (7, 7), 2, 3, 1, 1),
    (2, 4, 6, (16, 15), (3, 3), 5, 0, 1, 2),
    (2, 12, 20, (9, 31), (3, 5), (1, 3), (2, 4), (2, 1), 4),
    (2, 37, 37, (9, 10), (3, 3), 1, 1, 1, 37),
    (1, 7, 21, (9, 40), (5, 3), (2, 1), 2, 1, 7),
    (2, 5, 10, (6, 7, 5), (3, 3, 3), (1, 2, 2), 1, 1, 1),
    (1, 16, 16, (5, 6, 7), (3, 1, 3), 1, (1, 0, 2), (1, 1, 2), 16),
    (2, 3, 4, (4, 4, 4), (2, 2, 2), 2, 0, 1, 1),
    (2, 19, 35, (17, 15), (1, 1), 2, 0, 1, 1),
    (2, 19, 35, (9, 5), (1, 1), (2, 3), 0, 1, 1),
    (1, 34, 70, (20, 17), (1, 1), 1, 0, 1, 2),
    (2, 300, 40, (5, 7, 6), (1, 1, 1), 1, (0, 1, 0), 1, 1),
    (3, 270, 1000, (7, 7), (1, 1), 1, 0, 1, 1),
    (2, 24, 36, (9, 11), (3, 3), 1, 1, 1, 6),
    (2, 30, 20, (9, 8), (3, 3), 2, 1, 1, 10),
]
# Worst seen over all of these: 0.59 of the bound (AMD EPYC, AVX-512).
C = 1.0


def stored(a, last):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if last else a


def check(actual, operator, arrays, length, dtype):
    wide = [None if a is None else a.astype("float64") for a in arrays[:-1]]
    expected = operator(*wide, arrays[-1])
    scale = operator(*[None if a is None else np.abs(a) for a in wide], arrays[-1])
    assert actual.dtype == dtype
    assert_within(actual, expected, bound(expected, scale, length, np.dtype(dtype), C))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_all_three_directions(problem, last, dtype):
    n, channels, filters, size, kernel, stride, padding, dilation, groups = problem
    rng = np.random.default_rng(0)
    x = stored(rng.standard_normal((n, channels, *size)).astype(dtype), last)
    w = rng.standard_normal((filters, channels // groups, *kernel)).astype(dtype)
    b = rng.standard_normal(filters).astype(dtype)
    window = Window.conv(x, w, b, stride, padding, dilation, groups, rank=len(size))
    dy = stored(rng.standard_normal(window.output_shape).astype(dtype), last)
    taps = int(np.prod(kernel))
    arguments = (x, w, b, window)
    check(cpu.conv_forward(*arguments), reference.conv_forward, arguments, channels // groups * taps, dtype)
    c = rng.standard_normal(channels).astype(dtype)
    for bias in (None, c):
        arguments = (dy, w, bias, window)
        check(cpu.conv_input_grad(*arguments), reference.conv_input_grad, arguments, filters // groups * taps, dtype)
    pixels = n * int(np.prod(window.output))
    check(cpu.conv_weight_grad(x, dy, window), reference.conv_weight_grad, (x, dy, window), pixels, dtype)


@pytest.mark.parametrize("problem", [(2, 19, 35, (17, 15), (1, 1), 2), (1, 270, 300, (20, 20), (1, 1), 1),
                                     (2, 7, 40, (15, 33), (3, 3), 2), (3, 5, 6, (7, 7), (3, 3), 2)])  # fmt: skip
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_bits_depend_neither_on_threads_nor_on_where_the_rectifier_is(problem, last):
    n, channels, filters, size, kernel, stride = problem
    rng = np.random.default_rng(5)
    x = stored(rng.standard_normal((n, channels, *size)).astype("f4"), last)
    w = rng.standard_normal((filters, channels, *kernel)).astype("f4")
    b = rng.standard_normal(filters).astype("f4")
    x[0, 0, 0, 0] = np.nan
    window = Window.conv(x, w, b, stride, 0, 1, 1, rank=len(size))
    results = []
    for count in (1, 2, 3):
        with num_threads(count):
            y = cpu.conv_forward(x, w, b, window)
            rectified = cpu.conv_forward(x, w, b, window, "relu")
            results.append((y, rectified, cpu.conv_input_grad(y, w, None, window)))
    for result in results:
        for actual, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(actual, expected)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(rectified, np.where(y < 0, 0, y))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_what_is_not_finite_stays_in_its_group(last, value):
    rng = np.random.default_rng(6)
    x = rng.standard_normal((2, 32, 9, 7)).astype("f4")
    w = rng.standard_normal((32, 4, 3, 3)).astype("f4")
    window = Window.conv(x, w, None, 1, 1, 1, 8, rank=2)
    y = cpu.conv_forward(stored(x, last), w, None, window)
    dx = cpu.conv_input_grad(stored(x, last), w, None, window)
    x[1, 9, 4, 4] = value  # in group 2, which computes channels 8 to 11
    for operator, before in ((cpu.conv_forward, y), (cpu.conv_input_grad, dx)):
        after = operator(stored(x, last), w, None, window)
        touched = ~np.isfinite(after)
        assert touched[1, 8:12, 3:6, 3:6].all()
        assert touched.sum() == 4 * 9
        np.testing.assert_array_equal(after[~touched], before[~touched])


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_every_element_is_written(monkeypatch, last):
    empty = np.empty

    def poisoned(shape, dtype=float, *rest, **more):
        array = empty(shape, dtype, *rest, **more)
        array[...] = np.nan
        return array

    monkeypatch.setattr(np, "empty", poisoned)
    monkeypatch.setattr(blocks, "LEAST", float("inf"))
    rng = np.random.default_rng(1)
    for stride in (1, 2, 4):
        x = stored(rng.standard_normal((2, 5, 11, 9)).astype("f4"), last)
        w = rng.standard_normal((7, 5, 3, 2)).astype("f4")
        window = Window.conv(x, w, None, stride, 1, 1, 1, rank=2)
        y = cpu.conv_forward(x, w, None, window)
        for result in (y, cpu.conv_input_grad(y, w, None, window), cpu.conv_weight_grad(x, y, window)):
            assert np.isfinite(result).all()


def test_transposed_with_output_padding_beyond_the_stride():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((3, 2, 2, 2))
    window = Window.conv_transpose(x, w, None, 2, 0, 2, 1, 3, 2)
    expected = reference.conv_input_grad(x, w, None, window)
    np.testing.assert_allclose(cpu.conv_input_grad(x, w, None, window), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (5, 7, 3), (130, 300, 70), (3, 0, 4), (0, 3, 4), (200, 13, 1), (29, 513, 33)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matmul(shape, dtype):
    m, length, k = shape
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((m, length)).astype(dtype), rng.standard_normal((length, k)).astype(dtype)
    expected = reference.matmul(a.astype("f8"), b.astype("f8"))
    limit = bound(expected, np.abs(a) @ np.abs(b), max(length, 1), np.dtype(dtype), C)
    for left in (a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2]):
        for right in (b, np.asfortranarray(b), b[::-1][::-1]):
            assert_within(np.ascontiguousarray(cpu.matmul(left, right)), expected, limit)
    batched = cpu.matmul(np.stack([a, 2 * a]), np.stack([b, b]))
    assert_within(batched[0], expected, limit)
    np.testing.assert_array_equal(batched[1], 2 * batched[0])


@pytest.mark.parametrize("features", ["+avx2,+fma", "+sse2"])
def test_narrower_vectors(features, tmp_path):
    """The tile for a lesser machine, compiled and run here in a process of its own."""
    import os
    import platform
    import subprocess
    import sys

    if platform.machine() != "x86_64":
        pytest.skip("these are x86-64 feature names")
    code = (
        "import numpy as np\n"
        "from fastconv import cpu, reference\n"
        "from fastconv.cpu.microkernel import TILE\n"
        "from fastconv.window import Window\n"
        "rng = np.random.default_rng(0)\n"
        "for last in (False, True):\n"
        "    for r, stride in ((3, 1), (3, 2), (1, 1), (1, 2)):\n"
        "        x, w, b = [rng.standard_normal(s).astype('f4') for s in ((2, 17, 19, 17), (19, 17, r, r), (19,))]\n"
        "        if last:\n"
        "            x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)\n"
        "        window = Window.conv(x, w, b, stride, r // 2, 1, 1, rank=2)\n"
        "        y = cpu.conv_forward(x, w, b, window, 'relu')\n"
        "        e = np.maximum(reference.conv_forward(*[a.astype('f8') for a in (x, w, b)], window), 0)\n"
        "        assert np.abs(y - e).max() < 1e-4, np.abs(y - e).max()\n"
        "        dx = cpu.conv_input_grad(y, w, None, window)\n"
        "        e = reference.conv_input_grad(y.astype('f8'), w.astype('f8'), None, window)\n"
        "        assert np.abs(dx - e).max() < 1e-3, np.abs(dx - e).max()\n"
        "print(TILE.vector_bits)\n"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features,
                   "NUMBA_CACHE_DIR": str(tmp_path)}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["256" if "avx2" in features else "128"]
