"""The oracle against loops over single elements and against PyTorch, and against awkward storage."""

import itertools
import math

import ml_dtypes
import numpy as np
import pytest

from fastconv import reference
from fastconv.tolerance import assert_within, batch_norm_scales, bound
from fastconv.window import Window, adaptive_output
from tests.storage import storages

torch = pytest.importorskip("torch", reason="PyTorch is the second witness")

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
C = 1  # measured worst case: 0.40 of a bound

# size, kernel, stride, padding, dilation, groups, channels of a group, filters of a group
CONVS = [
    ((1,), (1,), (1,), ((0, 0),), (1,), 1, 1, 1),
    ((7,), (3,), (2,), ((2, 0),), (1,), 1, 2, 3),
    ((5,), (2,), (4,), ((0, 3),), (3,), 2, 2, 1),
    ((3, 1), (1, 1), (2, 3), ((0, 0), (0, 0)), (1, 1), 1, 3, 2),
    ((4, 5), (3, 2), (1, 2), ((1, 2), (0, 1)), (1, 1), 1, 2, 2),
    ((5, 3), (2, 3), (3, 1), ((1, 1), (4, 0)), (2, 1), 3, 1, 2),  # groups = C, taps that never meet the input
    ((5, 5), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), 1, 1, 1),  # a last row and column that no tap meets
    ((3, 2, 4), (2, 1, 3), (1, 1, 2), ((0, 1), (0, 0), (1, 1)), (1, 2, 1), 2, 1, 1),
]

# size, kernel, stride, padding, dilation, ceil_mode
POOLS = [
    ((1,), (1,), (1,), ((0, 0),), (1,), False),
    ((7,), (3,), (2,), ((1, 0),), (1,), True),
    ((7,), (2,), (5,), ((0, 0),), (3,), False),
    ((5, 4), (3, 2), (2, 3), ((0, 1), (1, 0)), (1, 1), True),
    ((5, 6), (2, 3), (1, 2), ((1, 1), (1, 1)), (2, 1), True),
    ((3, 4, 2), (2, 3, 2), (2, 2, 1), ((1, 0), (0, 1), (1, 1)), (1, 1, 1), True),
]

ADAPTIVE = [((1,), (1,)), ((7,), (3,)), ((3,), (5,)), ((5, 4), (2, 4)), ((4, 3, 5), (3, 1, 2)), ((4, 5), (0, 2))]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def conv_window(case, batch=2):
    size, kernel, stride, padding, dilation, groups, channels, filters = case
    x = np.empty((batch, groups * channels, *size))
    w = np.empty((groups * filters, channels, *kernel))
    return Window.conv(x, w, None, stride, padding, dilation, groups, len(size))


def lengths(window):
    """Products that one element of y, dx and dw sums, and one bias."""
    taps = math.prod(window.kernel)
    y, dx = (channels // window.groups * taps + 1 for channels in (window.channels, window.filters))
    return y, dx, window.batch * math.prod(window.output)


def pool_window(case, batch=2):
    size, kernel, stride, padding, dilation, ceil_mode = case
    return Window.pool("pool", np.empty((batch, 3, *size)), kernel, stride, padding, dilation, ceil_mode, len(size))


def products(window):
    """(index into y, into x, into w) of every product that a convolution sums, one at a time."""
    channels = window.channels // window.groups
    filters = window.filters // window.groups
    for n, k, *p in np.ndindex(*window.output_shape):
        for c, *r in np.ndindex(*window.weight_shape[1:]):
            i = [p[a] * window.stride[a] - window.padding[a][0] + r[a] * window.dilation[a] for a in range(window.rank)]
            if all(0 <= i[a] < window.size[a] for a in range(window.rank)):
                yield (n, k, *p), (n, k // filters * channels + c, *i), (k, c, *r)


@pytest.mark.parametrize("case", CONVS)
def test_convolution_and_gradients_are_the_sums_of_their_formulas(case):
    window = conv_window(case)
    x, w = normal(*window.input_shape), normal(*window.weight_shape, seed=1)
    dy, b = normal(*window.output_shape, seed=2), normal(window.filters, seed=3)
    y, dx, dw = np.zeros(window.output_shape), np.zeros(window.input_shape), np.zeros(window.weight_shape)
    for at_y, at_x, at_w in products(window):
        y[at_y] += x[at_x] * w[at_w]
        dx[at_x] += dy[at_y] * w[at_w]
        dw[at_w] += x[at_x] * dy[at_y]
    along_channels = (-1, *(1,) * window.rank)
    bias_of_x = normal(window.channels, seed=4)
    scales = [
        reference.conv_forward(abs(x), abs(w), abs(b), window),
        reference.conv_input_grad(abs(dy), abs(w), abs(bias_of_x), window),
        reference.conv_weight_grad(abs(x), abs(dy), window),
    ]
    expected = [y + b.reshape(along_channels), dx + bias_of_x.reshape(along_channels), dw]
    actual = [
        reference.conv_forward(x, w, b, window),
        reference.conv_input_grad(dy, w, bias_of_x, window),
        reference.conv_weight_grad(x, dy, window),
    ]
    for got, want, scale, length in zip(actual, expected, scales, lengths(window), strict=True):
        assert_within(got, want, bound(want, scale, length, "float64", C))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("stride, padding, dilation, groups", [(1, 0, 1, 1), (2, 1, 1, 2), (3, 2, 2, 4), (5, 0, 1, 4)])
def test_convolution_and_gradients_are_pytorchs(rank, stride, padding, dilation, groups):
    x = normal(2, 4, 7, 6, 5)[(..., *[slice(None)] * rank, *[0] * (3 - rank))]
    w = normal(8, 4 // groups, *[3, 2, 1][:rank], seed=1)
    b = normal(8, seed=2)
    window = Window.conv(x, w, b, stride, padding, dilation, groups, rank)
    tx, tw = (torch.tensor(a, requires_grad=True) for a in (x, w))
    ty = getattr(torch, f"conv{rank}d")(tx, tw, torch.tensor(b), stride, padding, dilation, groups)
    dy = normal(*ty.shape, seed=3)
    ty.backward(torch.tensor(dy))
    checks = [
        (ty.detach(), reference.conv_forward, (x, w, b)),
        (tx.grad, reference.conv_input_grad, (dy, w, np.zeros(4))),
        (tw.grad, reference.conv_weight_grad, (x, dy)),
    ]
    for (want, operator, arguments), length in zip(checks, lengths(window), strict=True):
        got, scale = operator(*arguments, window), operator(*map(abs, arguments), window)
        want = want.numpy()
        assert_within(got, want, bound(want, scale, length, "float64", C))


@pytest.mark.parametrize("stride, padding, extra, dilation", [(2, 1, 1, 1), (3, 0, 2, 1), (1, 0, 0, 2), (2, 3, 2, 3)])
def test_transposed_convolution_is_pytorchs(stride, padding, extra, dilation):
    x, w, b = normal(2, 4, 4, 5), normal(4, 3, 3, 2, seed=1), normal(6, seed=2)
    window = Window.conv_transpose(x, w, b, stride, padding, extra, 2, dilation, 2)
    want = torch.conv_transpose2d(*map(torch.tensor, (x, w, b)), stride, padding, extra, 2, dilation).numpy()
    scale = reference.conv_input_grad(abs(x), abs(w), abs(b), window)
    got = reference.conv_input_grad(x, w, b, window)
    assert_within(got, want, bound(want, scale, lengths(window)[1], "float64", C))


def elements(window, p):
    """Positions of the elements of one window in the flattened input, in their order."""
    for r in itertools.product(*map(range, window.kernel)):
        i = [p[a] * window.stride[a] - window.padding[a][0] + r[a] * window.dilation[a] for a in range(window.rank)]
        if all(0 <= i[a] < window.size[a] for a in range(window.rank)):
            yield np.ravel_multi_index(i, window.size)


def slots(window, p):
    """How many places of one window lie in the padded input."""
    count = 0
    for r in itertools.product(*map(range, window.kernel)):
        i = [p[a] * window.stride[a] - window.padding[a][0] + r[a] for a in range(window.rank)]
        count += all(-window.padding[a][0] <= i[a] < window.size[a] + window.padding[a][1] for a in range(window.rank))
    return count


def winner(plane, positions):
    """Position of the maximum: the first of equal elements, the last of NaNs."""
    best = None
    for i in positions:
        if best is None or plane[i] > plane[best] or np.isnan(plane[i]):
            best = i
    return best


def with_ties(*shape):
    """Few distinct values, so that many windows hold their maximum more than once; NaNs and infinities too."""
    x = np.random.default_rng(5).integers(-2, 2, shape).astype(float)
    x.flat[::7], x.flat[3::11], x.flat[5::13] = np.nan, -np.inf, np.inf
    return x


@pytest.mark.parametrize("case", POOLS)
def test_max_pooling_is_the_search_of_its_definition(case):
    window = pool_window(case)
    x = with_ties(*window.input_shape)
    y, indices = reference.max_pool_forward(x, window)
    assert y.shape == indices.shape == window.output_shape
    assert indices.dtype == np.int64
    for n, c, *p in np.ndindex(*y.shape):
        plane = x[n, c].ravel()
        assert indices[(n, c, *p)] == winner(plane, elements(window, p))
        np.testing.assert_equal(y[(n, c, *p)], plane[indices[(n, c, *p)]])


def test_a_window_without_an_element_has_no_maximum():
    window = Window.pool("pool", np.empty((1, 1, 1)), 2, 1, 1, 2, False, 1)
    y, indices = reference.max_pool_forward(np.zeros((1, 1, 1)), window)
    assert y.tolist() == [[[-np.inf]]]
    assert indices.tolist() == [[[-1]]]


@pytest.mark.parametrize("case", [case for case in POOLS if set(case[4]) == {1}])
@pytest.mark.parametrize("count_include_pad, divisor", [(True, None), (False, None), (True, -3)])
def test_average_pooling_and_gradient_are_the_sums_of_their_formulas(case, count_include_pad, divisor):
    window = pool_window(case)
    x, dy = normal(*window.input_shape), normal(*window.output_shape, seed=1)
    y, dx = np.zeros(window.output_shape), np.zeros(window.input_shape)
    planes, dplanes = x.reshape(*x.shape[:2], -1), dx.reshape(*dx.shape[:2], -1)
    for n, c, *p in np.ndindex(*y.shape):
        inside = list(elements(window, p))
        number = divisor or (slots(window, p) if count_include_pad else len(inside))
        y[(n, c, *p)] = sum(planes[n, c, i] for i in inside) / number
        for i in inside:
            dplanes[n, c, i] += dy[(n, c, *p)] / number
    got = reference.avg_pool_forward(x, window, count_include_pad, divisor)
    scale = abs(reference.avg_pool_forward(abs(x), window, count_include_pad, divisor))
    assert_within(got, y, bound(y, scale, math.prod(window.kernel), "float64", C))
    got = reference.avg_pool_input_grad(dy, window, count_include_pad, divisor)
    scale = abs(reference.avg_pool_input_grad(abs(dy), window, count_include_pad, divisor))
    assert_within(got, dx, bound(dx, scale, math.prod(window.kernel), "float64", C))


def cells(size, output):
    """(p, positions in the flattened input) of every adaptive window."""
    for p in np.ndindex(*output):
        ranges = [
            [i for i in range(s) if p[a] * s // output[a] <= i < ((p[a] + 1) * s + output[a] - 1) // output[a]]
            for a, s in enumerate(size)
        ]
        yield p, [np.ravel_multi_index(i, size) for i in itertools.product(*ranges)]


@pytest.mark.parametrize("size, output", ADAPTIVE)
def test_adaptive_pooling_and_gradient_follow_their_definition(size, output):
    x, dy = with_ties(2, 3, *size), normal(2, 3, *output, seed=1)
    maxima, indices = reference.adaptive_max_pool_forward(x, output)
    finite = normal(2, 3, *size)
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    for n, c in np.ndindex(2, 3):
        for p, positions in cells(size, output):
            at = (n, c, *p)
            assert indices[at] == winner(x[n, c].ravel(), positions)
            np.testing.assert_equal(maxima[at], x[n, c].ravel()[indices[at]])
            y[at] = sum(finite[n, c].ravel()[i] for i in positions) / len(positions)
            for i in positions:
                dx[(n, c, *np.unravel_index(i, size))] += dy[at] / len(positions)
    length = max(math.prod(size), math.prod(output))  # more than any window holds, or windows hold one element
    scale = reference.adaptive_avg_pool_forward(abs(finite), output)
    got = reference.adaptive_avg_pool_forward(finite, output)
    assert_within(got, y, bound(y, scale, length, "float64", C))
    scale = reference.adaptive_avg_pool_input_grad(abs(dy), size)
    got = reference.adaptive_avg_pool_input_grad(dy, size)
    assert_within(got, dx, bound(dx, scale, length, "float64", C))


def test_scatter_is_the_transpose_of_gather():
    indices = np.random.default_rng(0).integers(0, 12, (2, 3, 5, 4))  # most positions more than once
    x, dy = normal(2, 3, 3, 4), normal(2, 3, 5, 4, seed=1)
    y, dx = reference.pool_gather(x, indices), reference.pool_scatter(dy, indices, (3, 4))
    expected = np.zeros((2, 3, 12))
    for at in np.ndindex(*indices.shape):
        assert y[at] == x[at[:2]].ravel()[indices[at]]
        expected[(*at[:2], indices[at])] += dy[at]
    np.testing.assert_array_equal(dx, expected.reshape(2, 3, 3, 4))


@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (2, 3, 7), (3, 2, 4, 5), (1, 2, 3, 2, 3)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_and_gradient_are_pytorchs(shape, affine):
    x, dy = normal(*shape), normal(*shape, seed=1)
    w, b = normal(shape[1], seed=2), normal(shape[1], seed=3)
    mean, variance = reference.batch_norm_statistics(x)
    for c in range(shape[1]):
        values = [float(v) for v in x[:, c].ravel()]
        average = sum(values) / len(values)
        assert mean[c] == pytest.approx(average, rel=1e-12)
        assert variance[c] == pytest.approx(sum((v - average) ** 2 for v in values) / len(values), rel=1e-12)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    ty = torch.nn.functional.batch_norm(tx, None, None, tw if affine else None, tb if affine else None, True, 0.1, 1e-3)
    ty.backward(torch.tensor(dy))
    w, b = (w, b) if affine else (None, None)
    got = [reference.batch_norm_forward(x, mean, variance, w, b, 1e-3)]
    got += reference.batch_norm_grad(dy, x, mean, variance, w, 1e-3)
    want = [ty.detach(), tx.grad, tw.grad, tb.grad] if affine else [ty.detach(), tx.grad]
    if not affine:  # PyTorch gives neither dw nor db; they are what ones and zeros would have
        tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, np.ones(shape[1]), np.zeros(shape[1])))
        torch.nn.functional.batch_norm(tx, None, None, tw, tb, True, 0.1, 1e-3).backward(torch.tensor(dy))
        want += [tw.grad, tb.grad]
    scales = batch_norm_scales(dy, x, mean, variance, w, b, 1e-3)
    for actual, expected, scale in zip(got, want, scales, strict=True):
        assert_within(actual, expected.numpy(), bound(expected, scale, x.size // shape[1], "float64", C))


def test_matmul_is_the_sum_of_its_formula():
    a, b = normal(2, 3, 4, 5), normal(2, 3, 5, 1, seed=1)
    expected = np.zeros((2, 3, 4, 1))
    for *lead, m, k in np.ndindex(*expected.shape):
        for l in range(5):  # noqa: E741 -- the contract's letter
            expected[(*lead, m, k)] += a[(*lead, m, l)] * b[(*lead, l, k)]
    scale = reference.matmul(abs(a), abs(b))
    assert_within(reference.matmul(a, b), expected, bound(expected, scale, 5, "float64", C))


def every_operator(x, w, dy, b):
    """(name, arguments before the geometry, call) of every operator, on x [2,4,5,6] and 3x2 windows of stride 2."""
    conv = Window.conv(x, w, b, 2, 1, 1, 2, 2)
    pool = Window.pool("pool", x, (3, 2), 2, 1, 1, False, 2)
    indices = np.random.default_rng(0).integers(0, 30, dy.shape)
    wide = np.zeros(4, "float64" if x.dtype == np.float64 else "float32")
    return [
        ("conv_forward", (x, w, b), lambda *a: reference.conv_forward(*a, conv)),
        ("conv_input_grad", (dy, w, b), lambda *a: reference.conv_input_grad(*a, conv)),
        ("conv_weight_grad", (x, dy), lambda *a: reference.conv_weight_grad(*a, conv)),
        ("max_pool_forward", (x,), lambda *a: reference.max_pool_forward(*a, pool)),
        ("avg_pool_forward", (x,), lambda *a: reference.avg_pool_forward(*a, pool, False, None)),
        ("avg_pool_input_grad", (dy,), lambda *a: reference.avg_pool_input_grad(*a, pool, True, None)),
        ("adaptive_avg_pool_forward", (x,), lambda *a: reference.adaptive_avg_pool_forward(*a, (2, 4))),
        ("adaptive_avg_pool_input_grad", (dy,), lambda *a: reference.adaptive_avg_pool_input_grad(*a, (7, 3))),
        ("adaptive_max_pool_forward", (x,), lambda *a: reference.adaptive_max_pool_forward(*a, (2, 4))),
        ("pool_gather", (x, indices), reference.pool_gather),
        ("pool_scatter", (dy, indices), lambda *a: reference.pool_scatter(*a, (5, 6))),
        ("batch_norm_statistics", (x,), reference.batch_norm_statistics),
        ("batch_norm_forward", (x, wide, wide + 1, b, b), lambda *a: reference.batch_norm_forward(*a, 1e-5)),
        ("batch_norm_grad", (x, x, wide, wide + 1, b), lambda *a: reference.batch_norm_grad(*a, 1e-5)),
        ("matmul", (x, np.swapaxes(x, 2, 3)), reference.matmul),
    ]


def sample(dtype, batch=2):
    shapes = (batch, 4, 5, 6), (4, 2, 3, 2), (batch, 4, 3, 4), (4,)
    return [normal(*shape, seed=i).astype(dtype) for i, shape in enumerate(shapes)]


def results(outcome):
    return outcome if isinstance(outcome, tuple) else (outcome,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_computed_in_float64_and_rounded_once(dtype):
    narrow = sample(dtype)
    # In float64, the same values: nothing but the last rounding may differ.
    wide = [a.astype("float64") for a in narrow]
    for (name, arguments, call), (_, exact_arguments, exact) in zip(
        every_operator(*narrow), every_operator(*wide), strict=True
    ):
        assert name in dir(reference)
        for got, want in zip(results(call(*arguments)), results(exact(*exact_arguments)), strict=True):
            if name == "batch_norm_statistics":
                assert got.dtype == (np.float64 if dtype == "float64" else np.float32)
            elif got.dtype != np.int64:
                assert got.dtype == np.dtype(dtype), name
            np.testing.assert_array_equal(got, want.astype(got.dtype), err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_storage_changes_no_result_and_no_argument(dtype):
    for name, arguments, call in every_operator(*sample(dtype)):
        expected = results(call(*arguments))
        variants = [dict(storages(a)) for a in arguments]
        for storage in variants[0]:
            stored = [v[storage] for v in variants]
            before = [a.tobytes() for a in stored]
            for got, want in zip(results(call(*stored)), expected, strict=True):
                np.testing.assert_array_equal(got, want, err_msg=f"{name} {storage}")
                assert got.dtype == want.dtype and got.dtype.isnative
                assert got.flags.c_contiguous and got.flags.writeable
            assert [a.tobytes() for a in stored] == before


def test_an_empty_batch_gives_empty_results_and_zero_weight_gradients():
    for name, arguments, call in every_operator(*sample("float32", batch=0)):
        for got in results(call(*arguments)):
            if name == "batch_norm_statistics":
                assert np.isnan(got).all()
            elif got.shape[0] == 0:
                assert got.size == 0
            else:
                assert name in ("conv_weight_grad", "batch_norm_grad")
                assert (got == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_reaches_what_it_takes_part_in_and_nothing_else(value):
    window = conv_window(CONVS[4])
    x, w, dy = normal(*window.input_shape), normal(*window.weight_shape), normal(*window.output_shape)
    finite = [reference.conv_forward(x, w, None, window), reference.conv_weight_grad(x, dy, window)]
    x[0, 1, 2, 2] = value
    reached_y, reached_w = np.zeros(window.output_shape, bool), np.zeros(window.weight_shape, bool)
    for at_y, at_x, at_w in products(window):
        if at_x == (0, 1, 2, 2):
            reached_y[at_y] = reached_w[at_w] = True
    assert 0 < reached_y.sum() < reached_y.size
    touched = [reference.conv_forward(x, w, None, window), reference.conv_weight_grad(x, dy, window)]
    for before, after, reached in zip(finite, touched, (reached_y, reached_w), strict=True):
        np.testing.assert_array_equal(np.isfinite(after), ~reached)
        np.testing.assert_array_equal(after[~reached], before[~reached])


def test_an_infinite_weight_over_padding_adds_nothing():
    x, w = np.ones((1, 1, 2)), np.array([[[np.inf, 1.0, 1.0]]])
    window = Window.conv(x, w, None, 1, 1, 1, 1, 1)
    assert reference.conv_forward(x, w, None, window).tolist() == [[[2.0, np.inf]]]


def test_a_result_beyond_the_dtype_is_infinite_without_a_warning():
    x = np.full((1, 2, 4), 60000, "float16")
    assert reference.matmul(x, np.swapaxes(x, 1, 2)).tolist() == [[[np.inf] * 2] * 2]


def test_adaptive_output_feeds_the_adaptive_operators():
    x = normal(1, 2, 5, 7)
    output = adaptive_output("adaptive_avg_pool2d", x, (None, 3), 2)
    want = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(x), (None, 3)).numpy()
    scale = reference.adaptive_avg_pool_forward(abs(x), output)
    assert_within(reference.adaptive_avg_pool_forward(x, output), want, bound(want, scale, 3, "float64", C))


def test_bound_grows_with_the_rounding_of_the_result_and_the_length_of_the_sum():
    eps = np.finfo("float32").eps
    y, scale = np.array([2.0, 0.0]), np.array([3.0, 5.0])
    np.testing.assert_allclose(bound(y, scale, 16, "float32", 0.5), [2 * eps + 6 * eps, 10 * eps])
    half = np.finfo("float16")
    tiny = float(half.smallest_normal)
    np.testing.assert_allclose(bound(y, scale * 0, 16, "float16", 0.5), [2 * float(half.eps), tiny * float(half.eps)])


@pytest.mark.parametrize(
    "actual, expected, allowed",
    [
        ([1.0, 2.5], [1.0, 2.0], 0.1),
        ([1.0, np.nan], [1.0, 2.0], 0.1),
        ([1.0, 2.0], [1.0, np.nan], 0.1),
        ([1.0, np.inf], [1.0, -np.inf], 0.1),
        ([1.0, np.inf], [1.0, 2.0], np.inf),
        ([1.0, 2.0], [1.0, 2.0], np.nan),
        ([[1.0, 2.0]], [1.0, 2.0], 0.1),
    ],
)
def test_assert_within_refuses(actual, expected, allowed):
    with pytest.raises(AssertionError):
        assert_within(np.array(actual), np.array(expected), np.array(allowed))


def test_assert_within_accepts_and_gives_the_worst_fraction():
    actual = np.array([1.0, np.nan, np.inf, -3.0])
    expected = np.array([1.25, np.nan, np.inf, -3.0])
    assert assert_within(actual, expected, np.full(4, 0.5)) == 0.5
    assert assert_within(np.zeros(0), np.zeros(0), np.zeros(0)) == 0.0
