"""Sampling at the points of a grid: PyTorch's values, gradients, special values and refusals; second derivatives."""

import itertools
import warnings
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch.nn.functional as T

import fastconv.functional as F
from fastconv import backend, cpu, reference
from fastconv.autograd import grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from fastconv.grid import multiply_add
from tests.gradients import check_gradients
from tests.storage import storages
from tests.witness import as_torch, check_like_torch, torch

MODES = {2: ("bilinear", "nearest", "bicubic"), 3: ("bilinear", "nearest")}
PADDINGS = ("zeros", "border", "reflection")
# rank, mode, padding_mode, align_corners
RULES = [
    (rank, *rule) for rank in MODES for rule in itertools.product(MODES[rank], PADDINGS, (False, True))
]  # fmt: skip
SIZES = {2: [((4, 5), (3, 7)), ((1, 6), (2, 2)), ((1, 1), (1, 3))], 3: [((3, 2, 5), (2, 3, 4)), ((1, 4, 1), (1, 2, 3))]}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def points(*shape, reach=1.4, seed=0):
    """Coordinates in and around an image, a third of them at edges and between positions of small images."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(-reach, reach, shape)
    drawn.flat[::3] = rng.integers(-6, 7, drawn.flat[::3].size) / 4
    return drawn


def last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's advice on align_corners
        yield


@pytest.mark.parametrize("rank, mode, padding, aligned", RULES)
def test_values_and_gradients_are_pytorchs(rank, mode, padding, aligned):
    def ours(x, grid):
        return F.grid_sample(x, grid, mode, padding, aligned)

    def theirs(x, grid):
        return T.grid_sample(x, grid, mode, padding, aligned)

    for size, output in SIZES[rank]:
        x, grid = normal(2, 3, *size), points(2, *output, rank)
        far = points(2, *output, rank, reach=9)
        for g in (grid, far):
            check_like_torch(ours, theirs, x, g, rtol=1e-11, atol=1e-11)
            check_like_torch(ours, theirs, x.astype("float32"), g.astype("float32"), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(ours(last(x), grid), ours(x, grid), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rank, mode, padding, aligned", RULES)
def test_rounding_at_centres_chooses_pytorchs_neighbours(rank, mode, padding, aligned, dtype):
    """The grid of no map at all lies on the centres, where derivatives jump."""

    def ours(x, grid):
        return F.grid_sample(x, grid, mode, padding, aligned)

    def theirs(x, grid):
        return T.grid_sample(x, grid, mode, padding, aligned)

    for size in ((7, 12), (33, 6)) if rank == 2 else ((7, 6, 3), (2, 5, 12)):
        theta = np.eye(rank, rank + 1)[None].astype(dtype)
        grid = F.affine_grid(theta, (1, 1, *size), aligned)
        tolerance = 64 * float(np.finfo(dtype).eps)
        check_like_torch(ours, theirs, normal(1, 2, *size).astype(dtype), grid, rtol=tolerance, atol=60 * tolerance)


@pytest.mark.parametrize("rank, mode, padding, aligned", RULES)
def test_first_and_second_derivatives(rank, mode, padding, aligned):
    for size, output in SIZES[rank][:2]:
        x, grid = normal(2, 2, *size), np.random.default_rng(1).uniform(-1.4, 1.4, (2, *output, rank))
        check_gradients(lambda a, g: F.grid_sample(a, g, mode, padding, aligned), x, grid)


def test_third_derivatives():
    """The curvature of bicubic sampling by one coordinate, differentiated once more."""
    x, grid = normal(1, 2, 5, 6), np.random.default_rng(1).uniform(-0.9, 0.9, (1, 2, 3, 2))

    def slope(g):
        y = F.grid_sample(tensor(x), g, "bicubic", "border", False)
        (first,) = grad((y * y).sum(), g, create_graph=True)
        return (first * first).sum() if first.requires_grad else first.sum()

    def curvature(g):
        (second,) = grad(slope(g), g, create_graph=True)
        return (second * np.arange(12.0).reshape(1, 2, 3, 2)).sum()

    leaf = tensor(grid, requires_grad=True)
    (third,) = grad(curvature(leaf), leaf)
    step, direction = 1e-6, normal(1, 2, 3, 2, seed=3)
    ahead, behind = (curvature(tensor(grid + h * direction, requires_grad=True)).item() for h in (step, -step))
    exact = float((third.data * direction).sum())
    assert abs((ahead - behind) / (2 * step) - exact) < 1e-4 * abs(exact)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
@pytest.mark.parametrize("mode", MODES[2])
def test_halves_are_rounded_once(dtype, mode):
    x, grid = normal(2, 3, 5, 4).astype(dtype), points(2, 3, 4, 2).astype(dtype)
    dy = normal(2, 3, 3, 4).astype(dtype)
    rule = mode, "reflection", False, (0, 0)
    eps = float(ml_dtypes.finfo(dtype).eps)

    def close(y, expected):
        assert y.dtype == dtype
        np.testing.assert_allclose(y.astype("float32"), expected, rtol=eps, atol=eps * abs(expected).max())

    wide = [v.astype("float32") for v in (x, grid, dy)]
    close(F.grid_sample(x, grid, *rule[:3]), cpu.grid_sample_forward(*wide[:2], *rule))
    dx = cpu.grid_sample_input_grad(wide[2], wide[1], (5, 4), *rule)
    close(cpu.grid_sample_input_grad(dy, grid, (5, 4), *rule), dx)
    close(cpu.grid_sample_grid_grad(dy, x, grid, *rule), cpu.grid_sample_grid_grad(wide[2], wide[0], wide[1], *rule))


ODD = [np.nan, np.inf, -np.inf, 1e20, -1e20]


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("rank, mode, padding, aligned", RULES)
def test_coordinates_that_are_not_finite(rank, mode, padding, aligned, name):
    size = (5, 4) if rank == 2 else (3, 5, 4)
    for dtype, value in itertools.product(("float32", "float64"), ODD):
        if padding == "reflection" and abs(value) == 1e20:
            continue  # what is left of it by rounding is nowhere in particular
        x = np.arange(1, 1 + np.prod(size), dtype=dtype).reshape(1, 1, *size)
        grid = np.full((1, *(1,) * rank, rank), 0.1, dtype)
        grid[..., 0] = value
        with backend.use_backend(name):
            y = F.grid_sample(x, grid, mode, padding, aligned)
        if rank == 3 and (padding == "reflection" or (padding == "border" and np.isnan(value))):
            grid[..., 0] = -1  # as PyTorch's documentation says and its kernel of images does; that of volumes takes 1
        expected = T.grid_sample(as_torch(x), as_torch(grid), mode, padding, aligned).numpy()
        np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_gradients_where_coordinates_are_not_finite(name):
    """Zeros outside: as in PyTorch. Moved to an edge: what was read there gets the gradient, the coordinate none."""
    for value in (np.nan, np.inf):
        grid = np.full((1, 1, 1, 2), 0.1)
        grid[..., 0] = value
        x, dy = normal(1, 1, 5, 4), np.ones((1, 1, 1, 1))
        leaves = as_torch(x, True), as_torch(grid, True)
        expected = torch.autograd.grad(T.grid_sample(*leaves, "bilinear", "zeros", False).sum(), leaves)
        with backend.use_backend(name):
            mine = tensor(x, requires_grad=True), tensor(grid, requires_grad=True)
            found = grad(F.grid_sample(*mine).sum(), mine)
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a.data, b.numpy())
            rule = "bilinear", "reflection", False, (0, 0)
            operators = reference if name == "reference" else cpu
            dx = operators.grid_sample_input_grad(dy, grid, (5, 4), *rule)
            np.testing.assert_allclose(dx[..., 0].sum(), 1)
            dgrid = operators.grid_sample_grid_grad(dy, x, grid, *rule)
            assert dgrid[..., 0] == 0
            assert dgrid[..., 1] != 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_affine_grids_are_pytorchs(dtype):
    rng = np.random.default_rng(0)
    for size in ((2, 1, 4, 5), (2, 3, 2, 9), (2, 3, 7, 3, 2), [2, 1, 33, 2], (2, 1, 1, 5), (2, 1, 3, 1, 1)):
        rank = len(size) - 2
        if dtype == "float16" and 1 in size[2:]:
            continue  # which PyTorch has not
        theta = rng.standard_normal((2, rank, rank + 1)).astype(dtype)
        for aligned in (None, False, True):
            tolerance = 8 * float(np.finfo(dtype).eps)
            check_like_torch(
                lambda t, size=size, aligned=aligned: F.affine_grid(t, size, aligned),
                lambda t, size=size, aligned=aligned: T.affine_grid(t, list(size), align_corners=aligned),
                theta, rtol=20 * tolerance, atol=20 * tolerance,
            )  # fmt: skip
    check_gradients(lambda t: F.affine_grid(t, (2, 1, 3, 4)), rng.standard_normal((2, 2, 3)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("aligned", [False, True])
def test_the_grid_of_no_map_is_exactly_pytorchs(dtype, aligned):
    theta = np.eye(2, 3)[None].astype(dtype)
    for n in range(1, 130, 3):
        found = F.affine_grid(theta, (1, 1, n, n + 1), aligned)
        expected = T.affine_grid(as_torch(theta), [1, 1, n, n + 1], align_corners=aligned).numpy()
        np.testing.assert_array_equal(found, expected)


def test_products_and_sums_are_rounded_once():
    a = np.random.default_rng(0).uniform(0, 2, 1000)
    for b in (0.5, 3.5, 127.0):
        exact = np.array([float(Fraction(x) * Fraction(b) - Fraction(1, 2)) for x in a])
        np.testing.assert_array_equal(multiply_add(a, b, -0.5), exact)
    assert np.isinf(multiply_add(np.array([np.inf, 1e308]), 9.5, -0.5)).all()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_storage_changes_nothing(mode):
    x, dy, grid = normal(2, 3, 4, 5), normal(2, 3, 6, 3), points(2, 6, 3, 2)
    rule = mode, "border", False, (0, 0)
    y = reference.grid_sample_forward(x, grid, *rule)
    dx = reference.grid_sample_input_grad(dy, grid, (4, 5), *rule)
    dgrid = reference.grid_sample_grid_grad(dy, x, grid, *rule)
    for (kind, xs), (_, dys), (_, grids) in zip(storages(x), storages(dy), storages(grid), strict=True):
        same = dict(rtol=1e-12, atol=1e-12, err_msg=kind)
        np.testing.assert_allclose(cpu.grid_sample_forward(xs, grids, *rule), y, **same)
        np.testing.assert_allclose(cpu.grid_sample_input_grad(dys, grids, (4, 5), *rule), dx, **same)
        np.testing.assert_allclose(cpu.grid_sample_grid_grad(dys, xs, grids, *rule), dgrid, **same)


def test_the_format_of_the_input_is_kept():
    x, grid = normal(2, 3, 4, 5), points(2, 6, 3, 2)
    leaf = tensor(last(x), requires_grad=True)
    y = F.grid_sample(leaf, grid)
    assert np.moveaxis(y.data, 1, -1).flags.c_contiguous
    y.backward(tensor(last(normal(*y.shape))))
    assert np.moveaxis(leaf.grad.data, 1, -1).flags.c_contiguous
    assert F.grid_sample(x, grid).flags.c_contiguous


@pytest.mark.parametrize("shape, output", [((0, 3, 4, 5), (2, 2)), ((2, 0, 4, 5), (2, 2)), ((2, 3, 4, 5), (0, 3))])
def test_empty_inputs(shape, output):
    x, grid = tensor(np.ones(shape), requires_grad=True), tensor(np.ones((shape[0], *output, 2)), requires_grad=True)
    for mode in MODES[2]:
        y = F.grid_sample(x, grid, mode)
        assert y.shape == (*shape[:2], *output)
        dx, dgrid = grad(y.sum(), (x, grid), create_graph=True)
        np.testing.assert_array_equal(dx.data, np.zeros(shape))
        np.testing.assert_array_equal(dgrid.data, np.zeros(grid.shape))
        (dx.sum() + dgrid.sum()).backward()


def test_only_what_is_wanted_is_kept():
    x, grid = tensor(normal(1, 2, 3, 3), requires_grad=True), points(1, 2, 2, 2)
    y = F.grid_sample(x, grid)
    x.data[...] = 0  # no rule reads it
    y.sum().backward()
    assert x.grad.shape == x.shape


X, GRID, VOLUME, PLACES = normal(2, 3, 4, 5), points(2, 3, 3, 2), normal(2, 3, 2, 4, 5), points(2, 1, 3, 3, 3)
THETA = normal(2, 2, 3)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.grid_sample(X, GRID, "trilinear"), ShapeError, "grid_sample: mode: got 'trilinear'"),
        (lambda: F.grid_sample(X, GRID, padding_mode="wrap"), ShapeError, "grid_sample: padding_mode: got 'wrap'"),
        (lambda: F.grid_sample(X, GRID, align_corners=1), DTypeError, "grid_sample: align_corners: got 1"),
        (lambda: F.grid_sample(X, GRID[:1]), ShapeError, r"grid_sample: grid: got \[1, 3, 3, 2\]"),
        (lambda: F.grid_sample(X, GRID[..., :1]), ShapeError, r"grid_sample: grid: got \[2, 3, 3, 1\]"),
        (lambda: F.grid_sample(X, GRID[0]), ShapeError, r"grid_sample: grid: got \[3, 3, 2\]"),
        (lambda: F.grid_sample(X, PLACES), ShapeError, r"grid_sample: grid: got \[2, 1, 3, 3, 3\]"),
        (lambda: F.grid_sample(VOLUME, GRID), ShapeError, r"expected \[2, D, H, W, 3\] for input \[2, 3, 2, 4, 5\]"),
        (lambda: F.grid_sample(VOLUME, PLACES, "bicubic"), ShapeError, "grid_sample: mode: got 'bicubic'"),
        (lambda: F.grid_sample(X[0], GRID[0]), ShapeError, r"grid_sample: input: got \[3, 4, 5\]"),
        (lambda: F.grid_sample(X[..., :0], GRID), ShapeError, r"grid_sample: input: got \[2, 3, 4, 0\]"),
        (lambda: F.grid_sample(X, GRID.astype("float32")), DTypeError, "grid_sample: grid: got float32"),
        (lambda: F.grid_sample(X.astype(int), GRID), DTypeError, "grid_sample: input: got int64"),
        (lambda: F.grid_sample(X, [0.0]), DTypeError, "grid_sample: grid: got list"),
        (lambda: F.affine_grid(THETA, (2, 3, 4)), ShapeError, r"affine_grid: size: got \[2, 3, 4\]"),
        (lambda: F.affine_grid(THETA, (1, 3, 4, 5)), ShapeError, r"affine_grid: theta: got \[2, 2, 3\]"),
        (lambda: F.affine_grid(THETA, (2, 3, 4, 5, 6)), ShapeError, r"affine_grid: theta: .* \[2, 3, 4\]"),
        (lambda: F.affine_grid(THETA, (2, 0, 4, 5)), ShapeError, r"affine_grid: size: got \[2, 0, 4, 5\]"),
        (lambda: F.affine_grid(THETA, (2, 3, 1, 0), True), ShapeError, r"affine_grid: size: got \[2, 3, 1, 0\]"),
        (lambda: F.affine_grid(THETA, (2, 3, 4.0, 5)), DTypeError, "affine_grid: size: got float"),
        (lambda: F.affine_grid(THETA, 4), DTypeError, "affine_grid: size: got 4"),
        (lambda: F.affine_grid(THETA.astype(int), (2, 3, 4, 5)), DTypeError, "affine_grid: theta: got int64"),
        (lambda: F.affine_grid(THETA, (2, 3, 4, 5), "a"), DTypeError, "affine_grid: align_corners: got 'a'"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_corners_aligned_and_an_axis_of_one_position_accept_no_channels():
    """As PyTorch does."""
    assert F.affine_grid(THETA, (2, 0, 1, 5), True).shape == (2, 1, 5, 2)
