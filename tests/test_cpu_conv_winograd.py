"""Winograd's algorithm on the CPU: results within the error model, what does not fit it, and how it is chosen."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

import fastconv
from fastconv import cpu, reference
from fastconv.cpu import conv_choice, conv_winograd, threads
from fastconv.cpu.conv_choice import is_winograd
from fastconv.errors import DTypeError, ShapeError
from fastconv.tolerance import assert_within, bound
from fastconv.window import Window

# N, C, K, size, padding, groups: sizes that no tile of 4 divides, around vectors (16), tiles (14 x 32) and runs (56);
# many channels where padding of 2, or of 0 in the gradient, leaves corners a ninth of what their tiles hold
PROBLEMS = [
    (1, 16, 16, (1, 1), 1, 1),
    (3, 37, 45, (13, 18), 1, 1),
    (1, 65, 97, (7, 59), ((0, 2), (1, 0)), 1),
    (1, 130, 140, (9, 31), 2, 2),
    (7, 20, 66, (4, 5), 0, 1),
    (1, 17, 80, (58, 130), 1, 1),
    (2, 16, 18, (5, 9, 10), 1, 1),
    (1, 132, 130, (6, 7, 9), ((0, 1), (2, 0), (1, 2)), 2),
    (2, 16, 17, (1, 3, 3), ((2, 2), (1, 1), (1, 1)), 1),
]
# Worst seen over all of these: 0.32 of the bound (Intel Sapphire Rapids, AVX-512).
C = 2.0
FORMATS = pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])


@pytest.fixture(autouse=True)
def always():
    with fastconv.winograd("always"):
        yield


@pytest.fixture
def taken(monkeypatch):
    """The calls that Winograd's algorithm served."""
    calls = []
    convolve = cpu.conv.winograd.convolve
    monkeypatch.setattr(cpu.conv.winograd, "convolve", lambda *a: (calls.append(a), convolve(*a)))
    return calls


def stored(a, last):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if last else a


def normal(rng, shape, dtype="float32"):
    return rng.standard_normal(shape).astype(dtype)


def drawn(problem, last, dtype="float32", kernel=3):
    n, channels, filters, size, padding, groups = problem
    rng = np.random.default_rng(0)
    x = stored(normal(rng, (n, channels, *size), dtype), last)
    w = normal(rng, (filters, channels // groups, *(kernel,) * len(size)), dtype)
    b = normal(rng, filters, dtype)
    window = Window.conv(x, w, b, 1, padding, 1, groups, rank=len(size))
    return x, w, b, stored(normal(rng, window.output_shape, dtype), last), normal(rng, channels, dtype), window


def check(actual, operator, arrays, length):
    wide = [None if a is None else a.astype("float64") for a in arrays[:-1]]
    expected = operator(*wide, arrays[-1])
    scale = operator(*[None if a is None else np.abs(a) for a in wide], arrays[-1])
    assert_within(actual, expected, bound(expected, scale, length, actual.dtype, C))


@pytest.fixture(params=[None, 256, 5], ids=["filters_before", "filters_as_needed", "filters_for_few_tiles"])
def order(request, monkeypatch):
    """Both orders of the work, whatever the problem."""
    monkeypatch.setattr(conv_winograd, "_is_deep", lambda *_: request.param is not None)
    if request.param:
        monkeypatch.setattr(conv_winograd, "_SHARING", request.param)
        monkeypatch.setattr(conv_winograd, "_PASS_BYTES", request.param << 15)
        monkeypatch.setattr(conv_winograd, "_FEWEST_TILES", request.param)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@FORMATS
@pytest.mark.parametrize("problem", PROBLEMS)
def test_both_directions(problem, last, dtype, order, taken):
    x, w, b, dy, c, window = drawn(problem, last, dtype)
    taps = 3 ** len(problem[3])
    y = cpu.conv_forward(x, w, b, window)
    assert y.dtype == dtype and y.strides == np.empty_like(dy).strides
    check(y, reference.conv_forward, (x, w, b, window), x.shape[1] // window.groups * taps)
    for bias in (None, c):
        dx = cpu.conv_input_grad(dy, w, bias, window)
        check(dx, reference.conv_input_grad, (dy, w, bias, window), dy.shape[1] // window.groups * taps)
    assert len(taken) == 3


@FORMATS
def test_float64_when_asked(last, taken):
    x, w, b, dy, c, window = drawn((2, 5, 3, (6, 9), 1, 1), last, "float64")
    check(cpu.conv_forward(x, w, b, window), reference.conv_forward, (x, w, b, window), 45)
    check(cpu.conv_input_grad(dy, w, c, window), reference.conv_input_grad, (dy, w, c, window), 27)
    assert len(taken) == 2
    with fastconv.winograd("auto"):
        cpu.conv_forward(x, w, b, window)
    assert len(taken) == 2


@FORMATS
def test_relative_error_in_float64_is_that_of_few_roundings(last):
    """Small integers through float64: a wrong coefficient would show in any digit."""
    rng = np.random.default_rng(1)
    x, w = (
        stored(rng.integers(-9, 9, (1, 16, 10, 11)).astype("f8"), last),
        rng.integers(-9, 9, (16, 16, 3, 3)).astype("f8"),
    )
    window = Window.conv(x, w, None, 1, 1, 1, 1, rank=2)
    np.testing.assert_allclose(
        cpu.conv_forward(x, w, None, window), reference.conv_forward(x, w, None, window), rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("kernel", [(1, 3, 3), (2, 3, 3), (5, 3, 3)])
@FORMATS
def test_other_depths(kernel, last, order, taken):
    rng = np.random.default_rng(2)
    x, w = stored(normal(rng, (2, 16, 6, 5, 9)), last), normal(rng, (16, 16, *kernel))
    window = Window.conv(x, w, None, 1, tuple(k // 2 for k in kernel), 1, 1, rank=3)
    check(cpu.conv_forward(x, w, None, window), reference.conv_forward, (x, w, None, window), w[0].size)
    dy = stored(normal(rng, window.output_shape), last)
    check(cpu.conv_input_grad(dy, w, None, window), reference.conv_input_grad, (dy, w, None, window), w[0].size)
    assert len(taken) == 2


@FORMATS
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_activations(activation, last, order):
    x, w, b, _, _, window = drawn((2, 16, 20, (7, 9), 1, 1), last)
    y = cpu.conv_forward(x, w, b, window, activation)
    np.testing.assert_allclose(y, reference.conv_forward(x, w, b, window, activation), rtol=1e-4, atol=1e-4)
    x[1, 3, 4, 4] = np.nan
    y, expected = cpu.conv_forward(x, w, b, window, activation), reference.conv_forward(x, w, b, window, activation)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@FORMATS
@pytest.mark.parametrize("size", [(9, 14), (4, 9, 6)])
def test_results_that_are_not_finite_are_those_of_the_direct_algorithm(size, last, order):
    x, w, b, dy, c, window = drawn((5, 18, 17, size, 1, 1), last)
    middle = tuple(s // 2 for s in size)
    x[(1, 3, *middle)] = dy[(1, 3, *middle)] = np.nan
    x[(3, 0, *middle)] = dy[(3, 0, *middle)] = np.inf
    x[(3, 1, *(0,) * len(size))] = -np.inf
    x[4] *= np.float32(2e37)  # sums are beyond float32 in part, transforms in many more
    dy[4] *= np.float32(2e37)
    direct = []
    for mode in ("always", "off"):
        with fastconv.winograd(mode):
            direct.append((cpu.conv_forward(x, w, b, window), cpu.conv_input_grad(dy, w, c, window)))
    for ours, theirs in zip(*direct, strict=True):
        np.testing.assert_array_equal(ours[1], theirs[1])
        np.testing.assert_array_equal(ours[3:5], theirs[3:5])
        assert np.isnan(ours[1]).sum() == 3 ** len(size) * ours.shape[1]
        assert 0 < np.isfinite(ours[4]).sum() < ours[4].size
        assert np.isfinite(ours[[0, 2]]).all()


def test_filters_that_are_not_finite():
    x, w, b, _, _, window = drawn((2, 16, 40, (9, 7), 1, 1), False)
    w[33, 2, 0, 0] = np.inf
    y = cpu.conv_forward(x, w, b, window)
    with fastconv.winograd("off"):
        np.testing.assert_array_equal(y, cpu.conv_forward(x, w, b, window))
    assert np.isfinite(y[:, :33]).all()


@FORMATS
@pytest.mark.parametrize("problem", PROBLEMS[1:7:2] + PROBLEMS[6:7])
def test_bits_do_not_depend_on_the_threads(problem, last, order):
    x, w, b, dy, c, window = drawn(problem, last)
    results = []
    for count in (1, 2, 3):
        with threads.num_threads(count):
            results.append((cpu.conv_forward(x, w, b, window), cpu.conv_input_grad(dy, w, c, window)))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0][0], other[0])
        np.testing.assert_array_equal(results[0][1], other[1])


@FORMATS
def test_nothing_is_read_or_written_beyond_the_arrays(last, order, monkeypatch):
    empty = np.empty

    def poisoned(shape, dtype=float, *rest, **more):
        array = empty(shape, dtype, *rest, **more)
        if array.dtype.kind == "f":
            array[...] = np.nan
        return array

    monkeypatch.setattr(np, "empty", poisoned)
    for problem in PROBLEMS:
        x, w, b, dy, c, window = drawn(problem, last)
        between = np.full((3, *x.shape), np.nan, "f4")
        between[1] = x
        inner = stored(between, False)[1]
        for result in (cpu.conv_forward(inner, w, b, window), cpu.conv_input_grad(dy, w, c, window)):
            assert np.isfinite(result).all()


@FORMATS
def test_inputs_of_any_kind(last):
    x, w, b, _, _, window = drawn((2, 16, 18, (6, 7), 1, 1), last)
    y = cpu.conv_forward(x, w, b, window)
    frozen = w.copy()
    frozen.flags.writeable = False
    for _ in range(2):
        np.testing.assert_array_equal(cpu.conv_forward(x, frozen, b, window), y)
    np.testing.assert_array_equal(cpu.conv_forward(x.astype(">f4"), w.astype(">f4"), b, window), y)
    np.testing.assert_array_equal(cpu.conv_forward(np.repeat(x, 2, axis=3)[..., ::2], w, b, window), y)


@pytest.mark.parametrize(
    "shape, kernel, arguments",
    [
        ((2, 16, 9, 9), (3, 3), (2, 1, 1, 1)),
        ((2, 16, 9, 9), (3, 3), (1, 1, 2, 1)),
        ((2, 16, 9, 9), (3, 3), (1, 3, 1, 1)),
        ((2, 16, 9, 9), (5, 5), (1, 1, 1, 1)),
        ((2, 16, 9), (3,), (1, 1, 1, 1)),
        ((2, 0, 9, 9), (3, 3), (1, 1, 1, 1)),
    ],
)
def test_what_does_not_fit_is_done_otherwise(shape, kernel, arguments, taken):
    rng = np.random.default_rng(3)
    x, w = normal(rng, shape), normal(rng, (16, shape[1], *kernel))
    window = Window.conv(x, w, None, *arguments, rank=len(kernel))
    check(cpu.conv_forward(x, w, None, window), reference.conv_forward, (x, w, None, window), max(w[0].size, 1))
    assert not taken


@pytest.mark.parametrize(
    "shape, filters, dtype, groups, expected",
    [
        ((8, 64, 56, 56), 64, "f4", 1, True),
        ((8, 64, 56, 56), 64, "f8", 1, False),
        ((1, 32, 24, 24, 24), 32, "f4", 1, True),
        ((8, 8, 56, 56), 64, "f4", 1, False),
        ((8, 64, 56, 56), 64, "f4", 64, False),
        ((1, 256, 5, 5), 256, "f4", 1, False),
    ],
)
def test_the_choice(shape, filters, dtype, groups, expected):
    x, w = np.empty(shape, dtype), np.empty((filters, shape[1] // groups, *(3,) * (len(shape) - 2)), dtype)
    window = Window.conv(x, w, None, 1, 1, 1, groups, rank=len(shape) - 2)
    for mode, chosen in (("auto", expected), ("off", False), ("always", True)):
        with fastconv.winograd(mode):
            assert is_winograd(window, x.dtype, False) == chosen


def test_corners_that_see_one_pixel_need_more_channels():
    x, w = np.empty((4, 32, 56, 56), "f4"), np.empty((32, 32, 3, 3), "f4")
    with fastconv.winograd("auto"):
        for padding, expected in ((0, (True, False)), (1, (True, True)), (2, (False, True))):
            window = Window.conv(x, w, None, 1, padding, 1, 1, rank=2)
            assert (is_winograd(window, x.dtype, False), is_winograd(window, x.dtype, True)) == expected


@pytest.mark.parametrize("mode, error", [("Off", ShapeError), ("", ShapeError), (None, DTypeError), (True, DTypeError)])
def test_wrong_modes_are_refused(mode, error):
    with pytest.raises(error, match="set_winograd: mode"):
        fastconv.set_winograd(mode)
    with pytest.raises(error), fastconv.winograd(mode):
        pass
    assert fastconv.get_winograd() == "always"


def test_the_mode_comes_back():
    with pytest.raises(KeyError), fastconv.winograd("off"):
        assert fastconv.get_winograd() == "off"
        raise KeyError
    assert fastconv.get_winograd() == "always"


@pytest.mark.parametrize("value, expected", [(None, "auto"), ("", "auto"), ("off", "off"), ("always", "always")])
def test_environment(monkeypatch, value, expected):
    monkeypatch.setattr(conv_choice._winograd, "_chosen", None)
    monkeypatch.delenv("FASTCONV_WINOGRAD", raising=False)
    if value is not None:
        monkeypatch.setenv("FASTCONV_WINOGRAD", value)
    assert fastconv.get_winograd() == expected


def test_a_wrong_environment_is_refused(monkeypatch):
    monkeypatch.setattr(conv_choice._winograd, "_chosen", None)
    monkeypatch.setenv("FASTCONV_WINOGRAD", "yes")
    with pytest.raises(ShapeError, match="FASTCONV_WINOGRAD: value: got 'yes'"):
        fastconv.get_winograd()


@pytest.mark.parametrize("features", ["+avx2,+fma", "+sse2"])
def test_narrower_vectors(features, tmp_path):
    """The transforms for a lesser machine, compiled and run here in a process of its own."""
    if platform.machine() != "x86_64":
        pytest.skip("these are x86-64 feature names")
    code = (
        "import numpy as np\n"
        "from fastconv import cpu, reference\n"
        "from fastconv.window import Window\n"
        "rng = np.random.default_rng(0)\n"
        "x, w = rng.standard_normal((2, 17, 9, 9)).astype('f4'), rng.standard_normal((19, 17, 3, 3)).astype('f4')\n"
        "window = Window.conv(x, w, None, 1, 1, 1, 1, rank=2)\n"
        "for x in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):\n"
        "    y = cpu.conv_forward(x, w, None, window)\n"
        "    e = reference.conv_forward(x.astype('f8'), w.astype('f8'), None, window)\n"
        "    assert np.abs(y - e).max() < 2e-4, np.abs(y - e).max()\n"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features,
                   "NUMBA_CACHE_DIR": str(tmp_path), "FASTCONV_WINOGRAD": "always"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
