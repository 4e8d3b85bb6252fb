"""Sampling of images and volumes at the points of a grid, the grids of affine maps, and their gradients.

Sampling is linear in the input, and its derivative by a coordinate is sampling with other weights, see fastconv.grid.
So three operators are each other's rules, to derivatives of any order.
"""

from fastconv import autograd, backend
from fastconv import grid as geometry
from fastconv.arrays import accumulator, check_float, namespace_of
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.indexing import getitem
from fastconv.functional.linear import matmul
from fastconv.functional.operands import array, as_ints
from fastconv.functional.shape import reshape, transpose, unsqueeze


def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """Sample images or volumes at the points of a grid, as torch.nn.functional.grid_sample.

    Args:
        input: [N, C, H, W] or [N, C, D, H, W].
        grid: [N, P, Q, 2] or [N, O, P, Q, 3], of the dtype of input: x, y and z of each point, along the last axis of
            input, the one before it and so on, where -1 and 1 are its ends.
        mode: "bilinear", between two positions of each axis, of volumes too; "nearest"; or "bicubic", between four,
            for images only.
        padding_mode: What lies outside: "zeros"; "border", the nearest position inside; or "reflection".
        align_corners: Whether -1 and 1 are the centres of the outer pixels rather than their outer edges. None is
            False, of which PyTorch warns.

    Returns:
        [N, C, P, Q] or [N, C, O, P, Q]; dtype, device and memory format of input; a Tensor if either is one. NaN in
        grid is taken for -1 by "border" and "reflection", for which PyTorch takes 1 in volumes on a CPU. Gradients have
        gradients, which PyTorch's have not.

    Raises:
        ShapeError: Shapes disagree, a spatial axis of input is empty, or there is no such mode or not for volumes.
        DTypeError: The dtypes differ or are not floating point, an argument is no array, or align_corners no bool.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    x, points = autograd.arrays(input, grid)
    geometry.check("grid_sample", x, points, mode, padding_mode, align_corners)
    rank = x.ndim - 2
    return _sample(input, grid, (mode, padding_mode, bool(align_corners)), (0,) * rank)


def affine_grid(theta, size, align_corners=None):
    """The grid of points that an affine map takes an image to, as torch.nn.functional.affine_grid.

    Args:
        theta: [N, 2, 3] for images or [N, 3, 4] for volumes: what (x, y, 1) or (x, y, z, 1) is multiplied with.
        size: (N, C, H, W) or (N, C, D, H, W): the size of what grid_sample shall give. C is read by nothing.
        align_corners: Whether -1 and 1 are the centres of the outer pixels rather than their outer edges. None is
            False, of which PyTorch warns.

    Returns:
        [N, H, W, 2] or [N, D, H, W, 3]; dtype and device of theta; a Tensor if theta is one.

    Raises:
        ShapeError: A size is below 1, there are not four or five of them, or theta does not fit them.
        DTypeError: theta is no floating array, a size no int, or align_corners no bool.

    Source: Jaderberg et al., Spatial transformer networks, arXiv:1506.02025.
    """
    name = "affine_grid"
    geometry.check_align_corners(name, align_corners)
    matrices = array(name, "theta", theta)
    check_float(name, "theta", matrices)
    if not isinstance(size, (tuple, list)):
        raise DTypeError(name, "size", repr(size), "a tuple of ints")
    sizes = as_ints(name, "size", (tuple(size),))
    rank = len(sizes) - 2
    if rank not in (2, 3):
        raise ShapeError(name, "size", list(sizes), "(N, C, H, W) or (N, C, D, H, W)")
    if matrices.shape != (sizes[0], rank, rank + 1):
        expected = f"[{sizes[0]}, {rank}, {rank + 1}] for size {list(sizes)}"
        raise ShapeError(name, "theta", list(matrices.shape), expected)
    # PyTorch asks this of neither N nor C where corners are aligned and an axis has size 1.
    if min(sizes) < 1 and not (align_corners and min(sizes[2:]) == 1):
        raise ShapeError(name, "size", list(sizes), "at least 1 of everything")
    points = _identity(matrices, sizes[2:], bool(align_corners))
    return reshape(matmul(points, transpose(theta, 1, 2)), sizes[0], *sizes[2:], rank)


def _identity(like, size, align_corners):
    """[1, points, axes + 1]: the coordinates of every pixel, x first, and a one, in the dtype of an array."""
    xp, dtype = namespace_of(like), like.dtype.newbyteorder("=")
    made = xp.ones((*size, len(size) + 1), accumulator(dtype))
    for axis, n in enumerate(size):
        coordinates = _coordinates(xp, n, align_corners, made.dtype)
        made[..., len(size) - 1 - axis] = coordinates.reshape(-1, *(1,) * (len(size) - 1 - axis))
    return made.reshape(1, -1, len(size) + 1).astype(dtype, copy=False)


def _coordinates(xp, n, align_corners, dtype):
    """n coordinates from -1 to 1, or those of the centres of n pixels between; 0 if there is but one."""
    if n == 1:
        return xp.zeros(1, dtype)
    i = xp.arange(n, dtype=dtype)
    step = dtype.type(2) / dtype.type(n - 1)
    # From both ends, so that they are symmetric; rounded as in torch.linspace.
    ends = xp.where(i < n // 2, geometry.multiply_add(i, step, -1), geometry.multiply_add(n - 1 - i, -step, 1))
    return ends if align_corners else ends * (n - 1) / n


def _sample(x, grid, rule, orders):
    """y [N, C, *output], the weights differentiated so often by each coordinate."""
    plain = autograd.arrays(x, grid)
    y = backend.of(*plain).grid_sample_forward(*plain, *rule, orders)
    size = x.shape[2:]
    kept = x if autograd.wants_grad(grid) else None  # what no rule reads is let go of

    def gradients(dy, _):
        return (
            lambda: _input_grad(dy, grid, size, rule, orders),
            lambda: _grid_grad(dy, kept, grid, rule, orders),
        )

    return autograd.record("grid_sample", y, (x, grid), gradients, saves=(kept, grid))


def _input_grad(dy, grid, size, rule, orders):
    """dx [N, C, *size]."""
    plain = autograd.arrays(dy, grid)
    dx = backend.of(*plain).grid_sample_input_grad(*plain, size, *rule, orders)
    kept = dy if autograd.wants_grad(grid) else None

    def gradients(ddx, _):
        return (
            lambda: _sample(ddx, grid, rule, orders),
            lambda: _grid_grad(kept, ddx, grid, rule, orders),
        )

    return autograd.record("grid_sample", dx, (dy, grid), gradients, saves=(kept, grid))


def _grid_grad(dy, x, grid, rule, orders):
    """dgrid [N, *output, axes]."""
    plain = autograd.arrays(dy, x, grid)
    dgrid = backend.of(*plain).grid_sample_grid_grad(*plain, *rule, orders)
    size = x.shape[2:]

    def gradients(ddgrid, _):
        """Each coordinate is a direction that sampling is differentiated in once more."""
        along = [unsqueeze(getitem(ddgrid, (..., a)), 1) for a in range(len(orders))]
        once_more = [tuple(order + (i == a) for i, order in enumerate(orders)) for a in range(len(orders))]
        directions = list(zip(along, once_more, strict=True))
        return (
            lambda: _sum(v * _sample(x, grid, rule, o) for v, o in directions),
            lambda: _sum(_input_grad(v * dy, grid, size, rule, o) for v, o in directions),
            lambda: _sum(_grid_grad(v * dy, x, grid, rule, o) for v, o in directions),
        )

    return autograd.record("grid_sample", dgrid, (dy, x, grid), gradients, saves=(dy, x, grid))


def _sum(terms):
    first, *rest = terms
    return sum(rest, first)
