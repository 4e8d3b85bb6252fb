"""Depthwise convolution on the CPU: all kernels against the reference, whatever the cut, and the same with any number
of threads."""

import math

import numpy as np
import pytest

from fastconv import cpu, reference
from fastconv.cpu import conv_depthwise_plan as plan
from fastconv.cpu import conv_depthwise_weight_grad as weight_grad
from fastconv.cpu.threads import num_threads
from fastconv.tolerance import assert_within, bound
from fastconv.window import Window

# N, C, multiplier, size, kernel, stride, padding, dilation; around strips (14, 7) and vectors (16, 8)
PROBLEMS = [
    (1, 2, 1, (3, 3), (3, 3), 1, 4, 4),  # taps that meet padding only
    (3, 5, 1, (7, 7), (3, 3), 2, 1, 1),
    (2, 17, 1, (15, 29), (3, 3), 1, 1, 1),
    (2, 16, 1, (13, 43), (7, 7), 1, 3, 1),
    (1, 33, 1, (9, 8), (5, 5), 2, 2, 1),
    (1, 19, 1, (16, 15), (3, 3), 5, 0, 1),  # steps over inputs
    (2, 18, 1, (20, 30), (3, 3), 1, 2, 2),
    (2, 20, 1, (15, 33), (3, 5), (2, 3), ((1, 0), (2, 3)), 1),
    (1, 40, 1, (14, 14), (13, 13), 1, 6, 1),
    (1, 16, 1, (9, 40), (2, 31), 1, (0, 15), 1),
    (1, 7, 3, (9, 40), (5, 3), (2, 1), 2, 1),
    (2, 9, 2, (9, 17), (3, 3), 1, 1, 1),
    (1, 18, 1, (300,), (31,), 1, 15, 1),
    (3, 24, 1, (77,), (1,), 1, 0, 1),
    (1, 40, 1, (700,), (5,), 2, 2, 1),
    (2, 24, 1, (8, 9, 20), (3, 3, 3), (1, 2, 2), 1, 1),
    (1, 17, 1, (5, 6, 7), (3, 1, 3), 1, (1, 0, 2), (1, 1, 2)),
    (1, 16, 1, (6, 9, 9), (5, 5, 5), 1, 2, 1),
]
# Worst seen over all of these: 0.59 of the bound (Intel Sapphire Rapids, AVX-512).
C = 1.0


def stored(a, last):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if last else a


def drawn(problem, last, dtype):
    n, channels, multiplier, size, kernel, stride, padding, dilation = problem
    rng = np.random.default_rng(0)
    x = stored(rng.standard_normal((n, channels, *size)).astype(dtype), last)
    w = rng.standard_normal((channels * multiplier, 1, *kernel)).astype(dtype)
    b = rng.standard_normal(channels * multiplier).astype(dtype)
    window = Window.conv(x, w, b, stride, padding, dilation, channels, rank=len(size))
    dy = stored(rng.standard_normal(window.output_shape).astype(dtype), last)
    return x, w, b, dy, rng.standard_normal(channels).astype(dtype), window


def check(actual, operator, arrays, length, dtype, *rest):
    wide = [None if a is None else a.astype("float64") for a in arrays[:-1]]
    expected = operator(*wide, arrays[-1], *rest)
    scale = operator(*[None if a is None else np.abs(a) for a in wide], arrays[-1])
    assert actual.dtype == dtype
    assert_within(actual, expected, bound(expected, scale, length, np.dtype(dtype), C))


def compare(problem, last, dtype):
    x, w, b, dy, c, window = drawn(problem, last, dtype)
    taps = math.prod(window.kernel)
    for activation in (None, "relu"):
        arguments = (x, w, b, window)
        check(cpu.conv_forward(*arguments, activation), reference.conv_forward, arguments, taps, dtype, activation)
    for bias in (None, c):
        arguments = (dy, w, bias, window)
        check(cpu.conv_input_grad(*arguments), reference.conv_input_grad, arguments, problem[2] * taps, dtype)
    pixels = problem[0] * math.prod(window.output)
    check(cpu.conv_weight_grad(x, dy, window), reference.conv_weight_grad, (x, dy, window), pixels, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_all_three_directions(problem, last, dtype):
    compare(problem, last, dtype)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("problem", [PROBLEMS[i] for i in (2, 3, 7, 12, 15)])
def test_boxes_of_any_size(problem, last, monkeypatch):
    """Boxes that are far smaller than the output, and that divide it nowhere."""
    from fastconv.cpu import conv

    bands = {0: [2], 1: [3, 1], 2: [10]}
    monkeypatch.setattr(plan, "bands", lambda length, axis: [min(length, b) for b in bands[axis]])
    monkeypatch.setattr(plan, "TASKS", 1000)
    monkeypatch.setattr(weight_grad, "BOX", 20)
    monkeypatch.setattr(weight_grad, "WIDE", 10)
    conv._depthwise_problem.cache_clear()
    conv._depthwise_sums.cache_clear()
    try:
        compare(problem, last, "float32")
    finally:
        conv._depthwise_problem.cache_clear()
        conv._depthwise_sums.cache_clear()


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_other_activations(activation):
    x, w, b, _, _, window = drawn(PROBLEMS[2], True, "float32")
    expected = reference.conv_forward(x, w, b, window, activation)
    np.testing.assert_allclose(cpu.conv_forward(x, w, b, window, activation), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_every_element_is_written(last, monkeypatch):
    from fastconv.cpu import conv, layout

    def poisoned(shape, dtype, channels_last):
        y, flat = empty(shape, dtype, channels_last)
        flat[...] = np.nan
        return y, flat

    empty = layout.empty
    monkeypatch.setattr(conv, "empty", poisoned)
    for problem in (PROBLEMS[1], PROBLEMS[4], PROBLEMS[5], PROBLEMS[7], PROBLEMS[10]):
        x, w, b, dy, _, window = drawn(problem, last, "float32")
        assert np.isfinite(cpu.conv_forward(x, w, b, window)).all()
        assert np.isfinite(cpu.conv_input_grad(dy, w, None, window)).all()
        assert np.isfinite(cpu.conv_weight_grad(x, dy, window)).all()


@pytest.mark.parametrize("channels", [3, 21])
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_infinities_reach_just_what_sees_them(channels, last):
    """Padding is left out of the sums: an infinite weight over it adds nothing."""
    rng = np.random.default_rng(4)
    x = stored(rng.uniform(1, 2, (2, channels, 9, 17)).astype("f4"), last)
    w = rng.uniform(1, 2, (channels, 1, 3, 3)).astype("f4")
    w[1, 0, 0, 2], w[2, 0, 1, 0] = np.inf, np.nan
    x[0, 1, 5, 7], x[1, 0, 0, 0] = -np.inf, np.nan
    window = Window.conv(x, w, None, 1, 1, 1, channels, rank=2)
    for actual, operator in (
        (cpu.conv_forward(x, w, None, window), reference.conv_forward),
        (cpu.conv_input_grad(x, w, None, window), reference.conv_input_grad),
    ):
        np.testing.assert_allclose(actual, operator(x.astype("f8"), w.astype("f8"), None, window), rtol=1e-5)
    dy = stored(rng.uniform(1, 2, x.shape).astype("f4"), last)
    dy[0, 0, 0, 3], dy[1, 2, 8, 16] = np.inf, -np.inf
    expected = reference.conv_weight_grad(x.astype("f8"), dy.astype("f8"), window)
    np.testing.assert_allclose(cpu.conv_weight_grad(x, dy, window), expected, rtol=1e-5)


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("problem", [(3, 40, 1, (41, 43), (3, 3), 1, 1, 1), (2, 16, 1, (9000,), (5,), 2, 2, 1)])
def test_results_do_not_depend_on_the_number_of_threads(problem, last):
    x, w, b, dy, _, window = drawn(problem, last, "float32")
    results = []
    for threads in (1, 2, 3):
        with num_threads(threads):
            results.append(
                [
                    cpu.conv_forward(x, w, b, window),
                    cpu.conv_input_grad(dy, w, None, window),
                    cpu.conv_weight_grad(x, dy, window),
                ]
            )
    for run in results[1:]:
        for a, b in zip(run, results[0], strict=True):
            np.testing.assert_array_equal(a, b)


_NARROW = """
import numpy as np
from fastconv import cpu, reference
from fastconv.cpu.conv_depthwise_strip import LONG
from fastconv.window import Window
rng = np.random.default_rng(0)
for last in (False, True):
    for channels, kernel, stride in ((17, 3, 1), (17, 5, 2), (3, 7, 1)):
        x = rng.standard_normal((2, channels, 9, 15)).astype("f4")
        if last:
            x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        w = rng.standard_normal((channels, 1, kernel, kernel)).astype("f4")
        window = Window.conv(x, w, None, stride, 1, 1, channels, rank=2)
        y = cpu.conv_forward(x, w, None, window)
        for actual, operator, arrays in (
            (y, reference.conv_forward, (x, w, None)),
            (cpu.conv_input_grad(y, w, None, window), reference.conv_input_grad, (y, w, None)),
            (cpu.conv_weight_grad(x, y, window), reference.conv_weight_grad, (x, y)),
        ):
            expected = operator(*[None if a is None else a.astype("f8") for a in arrays], window)
            assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()
print(LONG)
"""


def test_fewer_registers(tmp_path):
    """The strips of a lesser machine, compiled and run here in a process of its own."""
    import os
    import platform
    import subprocess
    import sys

    if platform.machine() != "x86_64":
        pytest.skip("these are x86-64 feature names")
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+avx2,+fma",
                   "NUMBA_CACHE_DIR": str(tmp_path)}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", _NARROW], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["6"]
