"""Reference pooling, 1-D to 3-D.

Output position p and tap r meet at input position i = p * stride - padding_before + r * dilation.

    max      y[p] = max over r of x[i]; of equal elements the first counts, of NaNs the last, as in PyTorch
    average  y[p] = sum over r of x[i] / divisor
    adaptive the same over i from floor(p * size / output) up to, not including, ceil((p + 1) * size / output)

Meetings outside the input are left out: they add nothing to a sum and are never a maximum. The
divisor is divisor_override, or the number of elements of the window that lie in the input, or, with
count_include_pad, in the padded input. Source: PyTorch, aten/src/ATen/native/cpu/{Avg,Max}PoolKernel.cpp.
"""

import functools
import itertools

import numpy

from fastconv.errors import ShapeError
from fastconv.pool import in_plane
from fastconv.reference.conv import meetings


def max_pool_forward(x, window, in_window=False):
    """y [N, C, *output] and its int64 positions in the flattened *size, of x [N, C, *size].

    A window without an element, which only a dilation larger than the input makes, gives -inf and -1. With in_window
    the positions are uint8, in the flattened *kernel of at most 256 elements.
    """
    wide, positions = x.astype(numpy.float64, "C"), _positions(window.size)
    y = numpy.full(window.output_shape, -numpy.inf)
    indices = numpy.full(window.output_shape, -1)
    for number, tap in enumerate(numpy.ndindex(*window.kernel)):  # in the order of the flattened input
        at_y, at_x = meetings(window, tap)
        _keep_larger(y[at_y], indices[at_y], wide[at_x], number if in_window else positions[at_x])
    return y.astype(x.dtype.newbyteorder("="), "C"), indices.astype("uint8") if in_window else indices


def adaptive_max_pool_forward(x, output_size):
    """y [N, C, *output_size] and its int64 positions in the flattened *size, of x [N, C, *size]."""
    wide, positions = x.astype(numpy.float64, "C"), _positions(x.shape[2:])
    y = numpy.full(x.shape[:2] + tuple(output_size), -numpy.inf)
    indices = numpy.full(y.shape, -1)
    for p, cell in _cells(x.shape[2:], output_size):
        for i in itertools.product(*(range(part.start, part.stop) for part in cell)):
            _keep_larger(y[(..., *p)], indices[(..., *p)], wide[(..., *i)], positions[i])
    return y.astype(x.dtype.newbyteorder("="), "C"), indices


def max_pool_input_grad(dy, indices, window):
    """dx [N, C, *size] of dy [N, C, *output]; indices of max_pool_forward."""
    return _scattered("max_pool_input_grad", dy, in_plane(indices, window), window.size)


def adaptive_max_pool_input_grad(dy, indices, size):
    """dx [N, C, *size] of dy [N, C, *output_size]; indices of adaptive_max_pool_forward."""
    return _scattered("adaptive_max_pool_input_grad", dy, indices, size)


@numpy.errstate(over="ignore", invalid="ignore")
def avg_pool_forward(x, window, count_include_pad, divisor_override):
    """y [N, C, *output] of x [N, C, *size]."""
    wide = x.astype(numpy.float64, "C")
    y = numpy.zeros(window.output_shape)
    for tap in numpy.ndindex(*window.kernel):
        at_y, at_x = meetings(window, tap)
        y[at_y] += wide[at_x]
    y /= _divisors(window, count_include_pad, divisor_override)
    return y.astype(x.dtype.newbyteorder("="), "C")


@numpy.errstate(over="ignore", invalid="ignore")
def avg_pool_input_grad(dy, window, count_include_pad, divisor_override):
    """dx [N, C, *size] of dy [N, C, *output]."""
    share = dy.astype(numpy.float64, "C") / _divisors(window, count_include_pad, divisor_override)
    dx = numpy.zeros(window.input_shape)
    for tap in numpy.ndindex(*window.kernel):
        at_y, at_x = meetings(window, tap)
        dx[at_x] += share[at_y]
    return dx.astype(dy.dtype.newbyteorder("="), "C")


@numpy.errstate(over="ignore", invalid="ignore")
def adaptive_avg_pool_forward(x, output_size):
    """y [N, C, *output_size] of x [N, C, *size]."""
    wide = x.astype(numpy.float64, "C")
    y = numpy.zeros(x.shape[:2] + tuple(output_size))
    for p, cell in _cells(x.shape[2:], output_size):
        y[(..., *p)] = wide[(..., *cell)].mean(axis=tuple(range(2, x.ndim)))
    return y.astype(x.dtype.newbyteorder("="), "C")


@numpy.errstate(over="ignore", invalid="ignore")
def adaptive_avg_pool_input_grad(dy, size):
    """dx [N, C, *size] of dy [N, C, *output_size]."""
    wide = dy.astype(numpy.float64, "C")
    dx = numpy.zeros(dy.shape[:2] + tuple(size))
    for p, cell in _cells(size, dy.shape[2:]):
        elements = numpy.prod([part.stop - part.start for part in cell])
        dx[(..., *cell)] += wide[(..., *p)].reshape(*dy.shape[:2], *(1,) * len(p)) / elements
    return dx.astype(dy.dtype.newbyteorder("="), "C")


def pool_gather(x, indices):
    """y[n,c,p] = x[n,c,indices[n,c,p]]; y and indices [N, C, *output], x [N, C, *size]."""
    _check_indices("pool_gather", indices, x.shape[2:])
    planes, flat = _planes(x), _planes(indices)
    y = numpy.take_along_axis(planes, flat.astype(numpy.int64), axis=2).reshape(indices.shape)
    return y.astype(x.dtype.newbyteorder("="), "C")


def pool_scatter(dy, indices, size):
    """dx[n,c,indices[n,c,p]] += dy[n,c,p]; dy and indices [N, C, *output], dx [N, C, *size]."""
    return _scattered("pool_scatter", dy, indices, size)


def pool_place(x, indices, size):
    """Zeros [N, C, *size], but y[n,c,indices[n,c,p]] = x[n,c,p]; x and indices [N, C, *output]."""
    _check_indices("pool_place", indices, size)
    y = numpy.zeros((*x.shape[:2], *size), x.dtype.newbyteorder("="))
    n, c, _ = numpy.indices(_planes(x).shape, sparse=True)
    _planes(y)[n, c, _planes(indices)] = _planes(x)  # NumPy assigns in order, so that the last value stays
    return y


@numpy.errstate(over="ignore", invalid="ignore")
def _scattered(operator, dy, indices, size):
    _check_indices(operator, indices, size)
    dx = numpy.zeros(dy.shape[:2] + tuple(size))
    planes = _planes(dx)
    n, c, _ = numpy.indices(_planes(dy).shape, sparse=True)
    numpy.add.at(planes, (n, c, _planes(indices)), _planes(dy).astype(numpy.float64, "C"))
    return dx.astype(dy.dtype.newbyteorder("="), "C")


def _check_indices(operator, indices, size):
    positions = numpy.prod(size, dtype=int)
    if indices.size and not (indices.min() >= 0 and indices.max() < positions):
        expected = f"positions below {positions}, in a plane of {list(size)}"
        raise ShapeError(operator, "indices", "an index out of range", expected)


def _keep_larger(y, indices, candidates, positions):
    """Where a candidate beats y, put it and its position there, in place."""
    first = indices == -1
    wins = first | (candidates > y) | numpy.isnan(candidates)
    numpy.copyto(y, candidates, where=wins)
    numpy.copyto(indices, positions, where=wins)


def _cells(size, output_size):
    """Every output position of an adaptive pooling, with the slices of the input that it covers."""
    for p in numpy.ndindex(*output_size):
        axes = zip(p, size, output_size, strict=True)
        yield p, tuple(slice(q * i // o, -(-(q + 1) * i // o)) for q, i, o in axes)


def _divisors(window, count_include_pad, divisor_override):
    """What each sum is divided by: a number, or [*output]."""
    if divisor_override is not None:
        return divisor_override
    counts = []
    for i in range(window.rank):
        before, after = window.padding[i] if count_include_pad else (0, 0)
        start = numpy.arange(window.output[i]) * window.stride[i] - window.padding[i][0]
        stop = start + window.kernel[i]
        counts.append(numpy.minimum(stop, window.size[i] + after) - numpy.maximum(start, -before))
    return functools.reduce(numpy.multiply.outer, counts)


def _positions(size):
    """[*size], each element its own position when flattened."""
    return numpy.arange(numpy.prod(size, dtype=int)).reshape(size)


def _planes(array):
    """[N, C, *size] -> [N, C, positions]; a view of a contiguous array."""
    return array.reshape(*array.shape[:2], numpy.prod(array.shape[2:], dtype=int))
