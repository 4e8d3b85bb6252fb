"""Depthwise convolution by the kernels under the emulator: what the shared cases leave out."""

import contextlib

import numpy as np
import pytest

from fastconv import reference
from fastconv.cases.case import dtype_of, dtypes
from fastconv.cases.conv import conv_window
from fastconv.cuda import conv_depthwise as depthwise
from fastconv.cuda import max_workspace
from fastconv.cuda.runtime import emulator, launch
from fastconv.tolerance import assert_within, bound
from tests.emulation import SCHEDULES, require, schedule

# N, C, K, size, kernel, stride, padding, dilation, groups: around tiles of 64 columns and 4 rows, runs of 4 and 8, and
# 32 channels
TILED = [
    (2, 3, 3, (13, 66), (3, 3), 1, 1, 1, 3),  # two tiles across
    (1, 2, 2, (70, 9), (7, 7), 1, 3, 1, 2),  # two tiles down
    (3, 33, 33, (7, 7), (7, 7), 1, 3, 1, 33),  # small planes share a block
    (2, 40, 40, (5, 3), (5, 5), 1, 2, 1, 40),
    (2, 32, 32, (8, 16), (3, 3), 1, 1, 1, 32),  # whole vectors
    (1, 8, 8, (9, 72), (3, 3), 1, 1, 1, 8),
    (1, 2, 2, (9, 40), (5, 31), 1, (2, 15), 1, 2),
    (1, 5, 5, (12, 20), (3, 3), 2, 1, 1, 5),
    (2, 9, 9, (15, 14), (5, 4), (3, 2), ((2, 0), (1, 3)), 1, 9),
    (1, 4, 4, (20, 20), (3, 3), 1, 6, 6, 4),
    (2, 3, 3, (4, 5), (2, 2), 1, 5, 1, 3),  # padding beyond the kernel: negative in the gradient
    (1, 6, 6, (6, 9, 8), (3, 3, 3), 1, 1, 1, 6),
    (1, 16, 16, (9, 30, 30), (3, 3, 3), 1, 1, 1, 16),  # a ring of slices
    (2, 4, 4, (7, 8, 9), (3, 3, 3), (2, 1, 2), (1, 0, 1), (2, 1, 1), 4),
    (1, 5, 5, (8, 12, 12), (5, 1, 1), 1, (2, 0, 0), 1, 5),
    (2, 17, 17, (130,), (9,), 1, 4, 1, 17),
    (2, 3, 6, (9, 9), (3, 3), 1, 1, 1, 3),
    (1, 2, 6, (5, 6, 7), (2, 3, 2), 1, 1, 1, 2),
]

# What no tile holds.
DIRECT = [
    (1, 3, 3, (40, 260), (3, 3), 1, 1, (19, 129), 3),
    (1, 2, 2, (9, 30), (3, 3), (9, 10), 1, 1, 2),
    (1, 3, 6, (21, 24), (3, 3), (9, 1), 1, 1, 3),
]

ACTIONS = {
    "forward": (depthwise.forward, reference.conv_forward),
    "input_grad": (depthwise.input_grad, reference.conv_input_grad),
    "weight_grad": (depthwise.weight_grad, reference.conv_weight_grad),
}


@pytest.fixture(autouse=True)
def built():
    require("plain")


def arguments(action, row, dtype="float32", last=False, seed=0):
    """The arrays of an action and its window."""
    generator, window = np.random.default_rng(seed), conv_window(row)

    def draw(shape, images=True):
        values = generator.standard_normal(shape).astype(dtype_of(dtype))
        if last and images:
            values = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 1, -1)), -1, 1)
        return values

    x, dy = draw(window.input_shape), draw(window.output_shape)
    w = draw(window.weight_shape, images=False)
    b = draw((window.filters if action == "forward" else window.channels,), images=False)
    return {"forward": (x, w, b, window), "input_grad": (dy, w, b, window), "weight_grad": (x, dy, window)}[action]


def check(action, arrays):
    """Compare an action with the reference."""
    run, expect = ACTIONS[action]
    *operands, window = arrays
    y = run(*arrays)
    wide = [a.astype("float64") for a in operands]
    expected = expect(*wide, window)
    scale = expect(*(np.abs(np.nan_to_num(a, nan=1, posinf=1, neginf=1)) for a in wide), window)
    sums = {"weight_grad": window.batch * np.prod(window.output)}.get(action, np.prod(window.kernel) * 3 + 1)
    finite = np.nan_to_num(expected, nan=0, posinf=0, neginf=0)
    assert_within(y, expected, bound(finite, scale, sums, y.dtype, 2.0))
    return y


@contextlib.contextmanager
def kernels():
    """A list that receives the names of the kernels that run within the block."""
    extension, names = emulator("plain"), []
    extension.reset_counters()
    extension.set_counting(True)
    try:
        yield names
    finally:
        names += [c.kernel for c in extension.counters()]
        extension.set_counting(False)
        extension.reset_counters()


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("row", TILED, ids=str)
def test_around_the_tiles(row, last, action):
    check(action, arguments(action, row, "float32", last))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("dtype", [d for d in dtypes() if d != "float32"])
@pytest.mark.parametrize("row", TILED[2:6], ids=str)
def test_other_dtypes(row, dtype, last, action):
    check(action, arguments(action, row, dtype, last))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("row", DIRECT, ids=str)
def test_what_no_tile_holds(row, last, action):
    with kernels() as names:
        check(action, arguments(action, row, "float32", last))
    assert any("_direct_kernel" in name for name in names)


@pytest.mark.parametrize(
    ("row", "last", "expected"),
    [
        (TILED[0], False, "planes"),
        (TILED[4], True, "pixels"),
        (TILED[12], False, "planes"),
        (TILED[12], True, "pixels"),
    ],
)
def test_tiles_serve_what_they_hold(row, last, expected):
    for action in ACTIONS:
        with kernels() as names:
            check(action, arguments(action, row, "float32", last))
        assert f"{expected}_kernel" in names[0]


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_strided_input_grad(last):
    for stride, dilation in ((2, 1), (3, 2), (2, 2), ((1, 4), (3, 2))):
        check(
            "input_grad", arguments("input_grad", (2, 3, 3, (14, 15), (3, 4), stride, 2, dilation, 3), "float32", last)
        )


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("row", [TILED[2], TILED[7], TILED[11]], ids=str)
def test_what_is_not_finite_meets_no_padding(row, last):
    for action in ACTIONS:
        arrays = arguments(action, row, "float32", last)
        for value in (np.inf, np.nan):
            arrays[1][0].flat[-1] = value  # a filter, or an image of dy
            y = check(action, arrays)
            assert np.isfinite(y).any()
    for value in (np.inf, np.nan):
        x, dy, window = arguments("weight_grad", row, "float32", last)
        x[(0,) * x.ndim] = value
        assert np.isfinite(check("weight_grad", (x, dy, window))).any()


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_activations(last):
    x, w, b, window = arguments("forward", TILED[8], "float32", last)
    for activation in ("relu", "gelu", "silu"):
        expected = reference.conv_forward(
            x.astype("float64"), w.astype("float64"), b.astype("float64"), window, activation
        )
        y = depthwise.forward(x, w, b, window, activation)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("row", [TILED[0], TILED[2], TILED[12], DIRECT[0]], ids=str)
def test_the_weight_gradient_fits_its_workspace(row, last):
    arrays = arguments("weight_grad", row, "float32", last)
    size = 4 * np.prod(arrays[-1].weight_shape)
    for limit in (0, 2 * size - 1, 2 * size, 2**28):
        with max_workspace(int(limit)), kernels() as names:
            check("weight_grad", arrays)
        assert limit >= 2 * size or len(names) == 1


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_every_schedule_gives_the_same_bits(last, action):
    for row in (TILED[2], TILED[8], TILED[11], DIRECT[1]):
        arrays = arguments(action, row, "float32", last)
        expected = ACTIONS[action][0](*arrays).tobytes()
        for how in SCHEDULES[1:]:
            with schedule(*how):
                assert ACTIONS[action][0](*arrays).tobytes() == expected


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_arrays_that_vectors_do_not_fit(dtype, last, action):
    """Dense, and one element behind an address that 16 bytes divide."""
    *arrays, window = arguments(action, TILED[4], dtype, last)
    expected = ACTIONS[action][0](*arrays, window)

    def moved(array):
        order = np.moveaxis(array, 1, -1) if last and array.ndim > 2 and array.shape[1] > 1 else array
        block = np.empty(array.size + 1, array.dtype)
        block[1:] = order.reshape(-1)
        view = block[1:].reshape(order.shape)
        return np.moveaxis(view, -1, 1) if order is not array else view

    y = ACTIONS[action][0](*(moved(a) for a in arrays), window)
    if action == "weight_grad":
        np.testing.assert_allclose(y.astype("float64"), expected.astype("float64"), rtol=0, atol=2e-2)
    else:
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_no_images_and_no_pixels(last):
    for row in ((0, 3, 3, (5, 5), (3, 3), 1, 1, 1, 3), (0, 3, 3, (0, 4), (1, 1), 1, 1, 1, 3)):
        for action, (run, _) in ACTIONS.items():
            *arrays, window = arguments(action, row, "float32", last)
            y = run(*arrays, window)
            assert action != "weight_grad" or not y.any()


def test_more_elements_than_32_bits_count():
    """The last plane of 2**31 elements and a few; memory that nothing writes takes no room."""
    window = conv_window((1, 131080, 131080, (128, 128), (3, 3), 1, 1, 1, 131080))
    try:
        x, y = (np.zeros(window.input_shape, "float16") for _ in range(2))
    except MemoryError:
        pytest.skip("no room for 8 GB that are never touched")
    w = np.ones(window.weight_shape, "float16")
    x[0, -1] = 1
    with launch("test", x) as gpu:
        extension = gpu.extension

        def run(block):
            extension.only_block(block)
            try:
                extension.depthwise_forward(
                    gpu.dtype(x),
                    gpu.format(False),
                    x.ctypes.data,
                    w.ctypes.data,
                    0,
                    y.ctypes.data,
                    gpu.window(window),
                    gpu.activation(None),
                    0,
                )
            finally:
                extension.only_block(-1)

        extension.reset_counters()
        extension.set_counting(True)
        run(0)
        blocks = extension.counters()[0].grid[0]
        extension.set_counting(False)
        extension.reset_counters()
        run(blocks - 1)
    assert y[0, -1, -1, -1] == 4
    assert y[0, -1, -2, -2] == 9
    assert not y[0, 0].any()
