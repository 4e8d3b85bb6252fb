"""The operators once more, as loops over single elements in plain Python: the oracle of the oracle.

They share nothing with fastconv.reference: a convolution is its list of products, a pooling the list of the
elements of each window, and the gradient of batch normalisation the derivative of its forward formula. Sums are
exact before they are rounded once. Arguments and results are those of fastconv.backend, in float64.

The derivative is taken by a complex step, Im f(x + ih) / h, which subtracts nothing and so has no error but
rounding. Source: Squire & Trapp, Using complex variables to estimate derivatives, SIAM Review 40(1), 1998.
"""

import cmath
import collections
import fractions
import itertools
import math

import numpy

_STEP = 1e-30


def conv_forward(x, w, b, window):
    """y [N, K, *output]."""
    terms = collections.defaultdict(list)
    for at_y, at_x, at_w in _products(window):
        terms[at_y].append(x.item(at_x) * w.item(at_w))
    if b is not None:
        for at in numpy.ndindex(*window.output_shape):
            terms[at].append(b.item(at[1]))
    return _sums(window.output_shape, terms)


def conv_input_grad(dy, w, b, window):
    """dx [N, C, *size]."""
    terms = collections.defaultdict(list)
    for at_y, at_x, at_w in _products(window):
        terms[at_x].append(dy.item(at_y) * w.item(at_w))
    if b is not None:
        for at in numpy.ndindex(*window.input_shape):
            terms[at].append(b.item(at[1]))
    return _sums(window.input_shape, terms)


def conv_weight_grad(x, dy, window):
    """dw [K, C // groups, *kernel]."""
    terms = collections.defaultdict(list)
    for at_y, at_x, at_w in _products(window):
        terms[at_w].append(x.item(at_x) * dy.item(at_y))
    return _sums(window.weight_shape, terms)


def max_pool_forward(x, window):
    """y and indices [N, C, *output]."""
    return _largest(x, window.output_shape, _windows(window))


def adaptive_max_pool_forward(x, output_size):
    """y and indices [N, C, *output_size]."""
    return _largest(x, (*x.shape[:2], *output_size), _cells(x.shape[2:], output_size))


def avg_pool_forward(x, window, count_include_pad, divisor_override):
    """y [N, C, *output]."""
    terms = collections.defaultdict(list)
    divisors = _divisors(window, count_include_pad, divisor_override)
    for p, elements in _windows(window).items():
        for n, c in numpy.ndindex(*x.shape[:2]):
            terms[(n, c, *p)] = [x.item(n, c, *i) / divisors[p] for i in elements]
    return _sums(window.output_shape, terms)


def avg_pool_input_grad(dy, window, count_include_pad, divisor_override):
    """dx [N, C, *size]."""
    divisors = _divisors(window, count_include_pad, divisor_override)
    return _spread_back(dy, window.size, _windows(window), divisors)


def adaptive_avg_pool_forward(x, output_size):
    """y [N, C, *output_size]."""
    terms = collections.defaultdict(list)
    for p, elements in _cells(x.shape[2:], output_size).items():
        for n, c in numpy.ndindex(*x.shape[:2]):
            terms[(n, c, *p)] = [x.item(n, c, *i) / len(elements) for i in elements]
    return _sums((*x.shape[:2], *output_size), terms)


def adaptive_avg_pool_input_grad(dy, size):
    """dx [N, C, *size]."""
    cells = _cells(size, dy.shape[2:])
    return _spread_back(dy, size, cells, {p: len(elements) for p, elements in cells.items()})


def pool_gather(x, indices):
    """y[n,c,p] = x[n,c,indices[n,c,p]]."""
    y = numpy.zeros(indices.shape)
    positions = list(numpy.ndindex(*x.shape[2:]))
    for at in numpy.ndindex(*indices.shape):
        y[at] = x.item(*at[:2], *positions[indices.item(at)])
    return y


def pool_scatter(dy, indices, size):
    """dx[n,c,indices[n,c,p]] += dy[n,c,p]."""
    terms = collections.defaultdict(list)
    positions = list(numpy.ndindex(*size))
    for at in numpy.ndindex(*indices.shape):
        terms[(*at[:2], *positions[indices.item(at)])].append(dy.item(at))
    return _sums((*dy.shape[:2], *size), terms)


def max_pool_input_grad(dy, indices, window):
    """dx[n,c,indices[n,c,p]] += dy[n,c,p]."""
    return pool_scatter(dy, indices, window.size)


def adaptive_max_pool_input_grad(dy, indices, size):
    """dx[n,c,indices[n,c,p]] += dy[n,c,p]."""
    return pool_scatter(dy, indices, size)


def batch_norm_statistics(x):
    """mean and biased variance [C]; NaN for channels without a value."""
    pairs = [_statistics(_channel(x, c)) for c in range(x.shape[1])]
    return tuple(numpy.array([pair[i] for pair in pairs]) for i in range(2))


def batch_norm_forward(x, mean, variance, w, b, eps):
    """y [N, C, *size]."""
    y = numpy.zeros(x.shape)
    for at in numpy.ndindex(*x.shape):
        c = at[1]
        h = (x.item(at) - mean.item(c)) / math.sqrt(variance.item(c) + eps)
        y[at] = h * (1 if w is None else w.item(c)) + (0 if b is None else b.item(c))
    return y


def batch_norm_grad(dy, x, mean, variance, w, eps):
    """dx [N, C, *size], dw [C] and db [C]; mean and variance are computed anew, from x."""
    dx, dw, db = numpy.zeros(x.shape), numpy.zeros(x.shape[1]), numpy.zeros(x.shape[1])
    for c in range(x.shape[1]):
        values, errors = _channel(x, c), _channel(dy, c)
        factor = 1 if w is None else w.item(c)
        places = [at for at in numpy.ndindex(*x.shape) if at[1] == c]
        for j, at in enumerate(places):
            moved = [v + (1j * _STEP if i == j else 0) for i, v in enumerate(values)]
            slopes = [h.imag / _STEP for h in _normalised(moved, eps)]
            dx[at] = factor * _sum([e * slope for e, slope in zip(errors, slopes, strict=True)])
        dw[c] = _sum([e * h.real for e, h in zip(errors, _normalised(values, eps), strict=True)])
        db[c] = _sum(errors)
    return dx, dw, db


def resize_forward(x, output_size, mode, align_corners, scales):
    """y [N, C, *output_size]."""
    terms = collections.defaultdict(list)
    for n, c in numpy.ndindex(*x.shape[:2]):
        for p, i, share in _meetings(x.shape[2:], output_size, mode, align_corners, scales, x.dtype):
            terms[(n, c, *p)].append(share * float(x[(n, c, *i)]))
    return _sums((*x.shape[:2], *output_size), terms)


def resize_input_grad(dy, size, mode, align_corners, scales):
    """dx [N, C, *size]."""
    terms = collections.defaultdict(list)
    for n, c in numpy.ndindex(*dy.shape[:2]):
        for p, i, share in _meetings(size, dy.shape[2:], mode, align_corners, scales, dy.dtype):
            terms[(n, c, *i)].append(share * float(dy[(n, c, *p)]))
    return _sums((*dy.shape[:2], *size), terms)


def matmul(a, b):
    """[..., M, L] @ [..., L, K]."""
    c = numpy.zeros((*a.shape[:-1], b.shape[-1]))
    for at in numpy.ndindex(*c.shape):
        *lead, m, k = at
        c[at] = _sum([a.item(*lead, m, i) * b.item(*lead, i, k) for i in range(a.shape[-1])])
    return c


def _products(window):
    """(index into y, into x, into w) of every product that a convolution sums."""
    channels, filters = window.channels // window.groups, window.filters // window.groups
    meetings = [
        (p, r, i)
        for p in numpy.ndindex(*window.output)
        for r in numpy.ndindex(*window.kernel)
        if _inside(i := _meeting(window, p, r), window.size)
    ]
    for n, k, c in itertools.product(range(window.batch), range(window.filters), range(channels)):
        source = k // filters * channels + c
        for p, r, i in meetings:
            yield (n, k, *p), (n, source, *i), (k, c, *r)


def _meeting(window, p, r):
    return tuple(
        at * stride - before + tap * dilation
        for at, tap, stride, dilation, (before, _) in zip(
            p, r, window.stride, window.dilation, window.padding, strict=True
        )
    )


def _inside(i, size, padding=None):
    padding = padding or ((0, 0),) * len(size)
    return all(-before <= at < s + after for at, s, (before, after) in zip(i, size, padding, strict=True))


def _windows(window):
    """Output position -> the input positions of its window, in order."""
    return {
        p: [i for r in numpy.ndindex(*window.kernel) if _inside(i := _meeting(window, p, r), window.size)]
        for p in numpy.ndindex(*window.output)
    }


def _cells(size, output_size):
    """Output position -> the input positions that it overlaps, both axes cut into equal lengths."""
    axes = [
        [[i for i in range(s) if (i + 1) * o > p * s and i * o < (p + 1) * s] for p in range(o)]
        for s, o in zip(size, output_size, strict=True)
    ]
    return {
        p: list(itertools.product(*(cells[at] for cells, at in zip(axes, p, strict=True))))
        for p in numpy.ndindex(*output_size)
    }


def _divisors(window, count_include_pad, divisor_override):
    """Output position -> what its sum is divided by."""
    padding = window.padding if count_include_pad else None
    return {
        p: divisor_override
        or sum(_inside(_meeting(window, p, r), window.size, padding) for r in numpy.ndindex(*window.kernel))
        for p in numpy.ndindex(*window.output)
    }


def _spread_back(dy, size, windows, divisors):
    terms = collections.defaultdict(list)
    for p, elements in windows.items():
        for n, c in numpy.ndindex(*dy.shape[:2]):
            for i in elements:
                terms[(n, c, *i)].append(dy.item(n, c, *p) / divisors[p])
    return _sums((*dy.shape[:2], *size), terms)


def _meetings(size, output, mode, align_corners, scales, dtype):
    """(output position, input position, share) of all that meet when an image is resized."""
    axes = [
        _neighbours(s, o, mode, align_corners, scale, numpy.float64 if dtype.name == "float64" else numpy.float32)
        for s, o, scale in zip(size, output, scales or (None,) * len(size), strict=True)
    ]
    for entries in itertools.product(*axes):
        p, i, shares = zip(*entries, strict=True)
        yield p, i, math.prod(shares)


def _neighbours(size, output, mode, align_corners, factor, number):
    """The same of one axis, in coordinates of the dtype `number`."""
    aligned = mode == "linear" and align_corners
    scale = number(size) / number(output) if factor is None else number(1 / factor)
    if aligned:
        scale = number(size - 1) / number(output - 1) if output > 1 else number(0)
    for p in range(output):
        moved = fractions.Fraction(p) if mode == "nearest" or aligned else fractions.Fraction(2 * p + 1, 2)
        back = moved - p
        r = number(max(fractions.Fraction(float(scale)) * moved - back, 0))
        low = min(int(numpy.float32(r + number(0.5 if mode == "nearest-exact" else 0))), size - 1)
        if mode != "linear":
            yield p, low, 1.0
        elif size == output:
            yield p, p, 1.0
            yield p, p, 0.0
        else:
            share = min(max(r - number(low), number(0)), number(1))
            yield p, low, float(number(1) - share)
            yield p, min(low + 1, size - 1), float(share)


def _largest(x, shape, windows):
    """The largest element of each window and its position in the flattened input: of equals the first, NaN over all."""
    y, indices = numpy.zeros(shape), numpy.zeros(shape, "int64")
    for p, elements in windows.items():
        for n, c in numpy.ndindex(*shape[:2]):
            values = [x.item(n, c, *i) for i in elements]
            nans = [at for at, v in enumerate(values) if math.isnan(v)]
            best = nans[-1] if nans else values.index(max(values))
            y[(n, c, *p)] = values[best]
            indices[(n, c, *p)] = numpy.ravel_multi_index(elements[best], x.shape[2:])
    return y, indices


def _channel(x, c):
    return [x.item(at) for at in numpy.ndindex(*x.shape) if at[1] == c]


def _statistics(values):
    """Mean and biased variance of real or complex values."""
    if not values:
        return math.nan, math.nan
    mean = _sum(values) / len(values)
    return mean, _sum([(v - mean) * (v - mean) for v in values]) / len(values)


def _normalised(values, eps):
    """(v - mean) / sqrt(variance + eps) of real or complex values, as complex numbers."""
    mean, variance = _statistics(values)
    return [(v - mean) / cmath.sqrt(variance + eps) for v in values]


def _sums(shape, terms):
    """An array of the sum of each element's terms; zero where there are none."""
    result = numpy.zeros(shape)
    for at, values in terms.items():
        result[at] = _sum(values)
    return result


def _sum(values):
    """The exact sum, rounded once; infinities and NaN as in arithmetic."""
    if any(isinstance(v, complex) for v in values):
        return complex(_sum([v.real for v in values]), _sum([v.imag for v in values]))
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
