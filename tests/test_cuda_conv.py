"""Dense convolution and its gradients by the implicit GEMM, under the emulator, beyond the shared cases."""

import numpy as np
import pytest

from fastconv import cuda, emulated, reference
from fastconv.cases import dtype_of
from fastconv.cuda import conv, runtime
from fastconv.tolerance import assert_within, bound
from fastconv.window import Window
from tests.emulation import SCHEDULES, require, schedule

ALGORITHMS = ("implicit_gemm", "implicit_gemm_large")
OPERATORS = ("conv_forward", "conv_input_grad", "conv_weight_grad")
C = 1.0

# N, C, K, size, kernel, stride, padding, dilation, groups; around tiles of 64 and 128 rows, columns and of depth 8, 16
PROBLEMS = [
    (1, 3, 129, (9, 15), (2, 2), 1, 0, 1, 1),
    (2, 16, 128, (8, 8), (1, 1), 1, 0, 1, 1),  # whole tiles
    (1, 131, 5, (5, 13), (3, 2), (1, 2), ((0, 2), (1, 0)), 1, 1),
    (2, 32, 70, (7, 9), (3, 3), 2, 1, 1, 2),
    (1, 8, 66, (17, 8), (2, 3), (3, 1), 2, (1, 3), 1),
]


@pytest.fixture(autouse=True)
def built():
    require("plain")


def last_of(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def made(problem, dtype, last=False, seed=0):
    """x, w, dy and the Window of a problem."""
    n, channels, filters, size, kernel, stride, padding, dilation, groups = problem
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, channels, *size)).astype(dtype_of(dtype))
    w = rng.standard_normal((filters, channels // groups, *kernel)).astype(x.dtype)
    window = Window.conv(x, w, None, stride, padding, dilation, groups, len(size))
    dy = rng.standard_normal(window.output_shape).astype(x.dtype)
    return (*((last_of(a) for a in (x, w, dy)) if last else (x, w, dy)), window)


def arguments(operator, x, w, dy, window):
    return {
        "conv_forward": (x, w, None, window),
        "conv_input_grad": (dy, w, None, window),
        "conv_weight_grad": (x, dy, window),
    }[operator]


def check(operator, args, actual):
    wide = [a.astype("float64") if isinstance(a, np.ndarray) else a for a in args]
    absolute = [abs(a) if isinstance(a, np.ndarray) else a for a in wide]
    length = max(a.size for a in args if isinstance(a, np.ndarray))
    run = getattr(reference, operator)
    assert_within(actual, run(*wide), bound(run(*wide), run(*absolute), min(length, 1000), actual.dtype, C))


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_tile(problem, operator, dtype, last):
    args = arguments(operator, *made(problem, dtype, last))
    for algorithm in ALGORITHMS[: 1 if dtype == "float64" else 2]:
        with cuda.use_algorithm(operator, algorithm):
            actual = getattr(emulated, operator)(*args)
        check(operator, args, actual)
        if operator != "conv_weight_grad":
            assert cuda.layout.is_channels_last(actual) == last


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_schedules_give_the_same_bits(operator, algorithm):
    for last in (False, True):
        args = arguments(operator, *made(PROBLEMS[3], "float32", last))
        seen = set()
        for order in SCHEDULES:
            with schedule(*order), cuda.use_algorithm(operator, algorithm):
                seen.add(getattr(emulated, operator)(*args).tobytes())
        assert len(seen) == 1


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_a_weight_that_is_no_number_is_left_out_over_padding(dtype, last):
    for problem in ((1, 5, 6, (6, 7), (3, 3), 2, 1, 1, 1), (1, 16, 8, (5, 5), (3, 3), 1, 2, 1, 1)):
        x, w, dy, window = made(problem, dtype, last)
        w[1, 2, 0, 0], w[3, 1, 2, 2], w[4, 0, 0, 1] = np.inf, -np.inf, np.nan
        dy[0, 2, 0, 0], dy[0, 3, -1, -1] = np.inf, np.nan
        x[0, 1, 2, 2], x[0, 0, 1, 1] = -0.0, 0.0  # zeros of the image are no padding: times infinity they are NaN
        for operator in OPERATORS:
            args = arguments(operator, x, w, dy, window)
            expected = getattr(reference, operator)(*args)
            actual = getattr(emulated, operator)(*args)
            assert np.isfinite(expected.astype("f8")).any() and not np.isfinite(expected.astype("f8")).all()
            check(operator, args, actual)


def test_views_that_are_not_aligned_for_vectors():
    x, w, dy, window = made(PROBLEMS[1], "float32")

    def shifted(a):
        memory = np.empty(a.size + 1, a.dtype)[1:].reshape(a.shape)
        memory[...] = a
        return memory

    for operator in OPERATORS:
        plain = getattr(emulated, operator)(*arguments(operator, x, w, dy, window))
        moved = getattr(emulated, operator)(*arguments(operator, *map(shifted, (x, w, dy)), window))
        np.testing.assert_array_equal(moved, plain)


def test_splits_fit_the_workspace():
    x, _, dy, window = made((3, 4, 6, (20, 20), (3, 3), 1, 1, 1, 1), "float32")
    size = 6 * 4 * 9 * 4
    seen = []
    for limit in (0, 2 * size, 3 * size + 1, 2**20):
        with cuda.max_workspace(limit):
            dw = emulated.conv_weight_grad(x, dy, window)
            assert dw.tobytes() == emulated.conv_weight_grad(x, dy, window).tobytes()
            check("conv_weight_grad", (x, dy, window), dw)
            seen.append(conv._splits(window, False, 4))
    assert seen == [1, 2, 3, 9]


def test_parts_of_a_bias_gradient_fit_the_workspace():
    dy = np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype("float32")
    for layout in (dy, last_of(dy)):
        for limit in (0, 24, 2**20):
            with cuda.max_workspace(limit):
                db = emulated.conv_bias_grad(layout)
            np.testing.assert_allclose(db, dy.sum(axis=(0, 2, 3), dtype="f8"), rtol=1e-5)


@pytest.mark.parametrize("n, channels, size", [(0, 3, (4, 4)), (2, 0, (4, 4))])
def test_empty_images(n, channels, size):
    x, w = np.ones((n, channels, *size), "f4"), np.ones((5, channels, 3, 3), "f4")
    b = np.arange(5, dtype="f4")
    window = Window.conv(x, w, b, 1, 1, 1, 1, 2)
    dy = np.ones(window.output_shape, "f4")
    np.testing.assert_array_equal(emulated.conv_forward(x, w, b, window), np.broadcast_to(b[:, None, None], dy.shape))
    assert emulated.conv_input_grad(dy, w, None, window).shape == x.shape
    np.testing.assert_array_equal(emulated.conv_weight_grad(x, dy, window), np.zeros_like(w))


def test_offsets_beyond_32_bits():
    x = np.zeros((1, 1, 65537, 40000), "float16")  # 2.6e9 elements of untouched memory
    w = np.ones((2, 1, 1, 1), "float16")
    x[0, 0, 0, 0], x[0, 0, 0, -1], x[0, 0, -1, 0], x[0, 0, -1, -1] = 1, 2, 3, 4
    window = Window.conv(x, w, None, (65536, 39999), 0, 1, 1, 2)
    y = emulated.conv_forward(x, w, None, window)
    assert y[0, 1].tolist() == [[1, 2], [3, 4]]
    dy = np.ones(window.output_shape, "float16")
    assert emulated.conv_weight_grad(x, dy, window).ravel().tolist() == [10, 10]


def test_a_grid_that_is_too_large_is_refused():
    x = np.broadcast_to(np.float16(0), (1, 1, 2**19, 2**19))
    window = Window.conv(x, np.ones((1, 1, 1, 1), "float16"), None, 1, 0, 1, 1, 2)
    extension = runtime.emulator("plain")
    compiled = runtime._compiled_window(extension, window)
    with pytest.raises(extension.LaunchError, match="a grid of 4294967296 blocks, expected at most 2147483647"):
        extension.conv_forward_implicit_gemm(
            extension.Dtype.float16, extension.Format.channels_first, False, 1, 1, 0, 1, compiled,
            extension.Activation.none, 0,
        )  # fmt: skip


def test_float64_has_no_large_tile():
    extension = runtime.emulator("plain")
    *_, window = made(PROBLEMS[0], "float64")
    compiled = runtime._compiled_window(extension, window)
    with pytest.raises(extension.DispatchError, match="float64 has no large tile"):
        extension.conv_weight_grad_implicit_gemm(
            extension.Dtype.float64, extension.Format.channels_first, True, 1, 1, 1, 0, 1, compiled, 0
        )


def test_large_tiles_are_chosen_where_they_fill_a_gpu():
    def chosen(operator, shape, filters, dtype="float32"):
        x, w = np.broadcast_to(np.float32(0), shape), np.broadcast_to(np.float32(0), (filters, shape[1], 3, 3))
        window = Window.conv(x, w, None, 1, 1, 1, 1, 2)
        return cuda.choice.choose(operator, cuda.choice.Problem(window, dtype, False, 90, shape))

    assert chosen("conv_forward", (32, 128, 56, 56), 128) == "implicit_gemm_large"
    assert chosen("conv_forward", (32, 128, 56, 56), 128, "float64") == "implicit_gemm"
    assert chosen("conv_forward", (1, 128, 56, 56), 128) == "implicit_gemm"
    assert chosen("conv_forward", (32, 128, 56, 56), 64) == "implicit_gemm"
    assert chosen("conv_input_grad", (32, 128, 56, 56), 64) == "implicit_gemm_large"
    assert chosen("conv_weight_grad", (1, 128, 56, 56), 128) == "implicit_gemm_large"
