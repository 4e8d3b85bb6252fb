"""The operators once more, as loops over single elements in plain Python: the oracle of the oracle.

They share nothing with fastconv.reference: a convolution is its list of products, a pooling the list of the
elements of each window, and the gradient of batch normalisation the derivative of its forward formula. Sums are
exact before they are rounded once. Arguments and results are those of fastconv.backend, in float64.

The derivative is taken by a complex step, Im f(x + ih) / h, which subtracts nothing and so has no error but
rounding. Source: Squire & Trapp, Using complex variables to estimate derivatives, SIAM Review 40(1), 1998.
"""

import cmath
import collections
import itertools
import math

import numpy

from fastconv.cases.loops_detection import *  # noqa: F403 -- the same operators, in a file of their own
from fastconv.cases.loops_elementwise import *  # noqa: F403 -- the same operators, in a file of their own
from fastconv.cases.loops_grid import *  # noqa: F403
from fastconv.cases.loops_resize import *  # noqa: F403
from fastconv.cases.sums import exact_sum as _sum
from fastconv.cases.sums import exact_sums as _sums

_STEP = 1e-30


def conv_forward(x, w, b, window, activation=None):
    """y [N, K, *output]."""
    terms = collections.defaultdict(list)
    for at_y, at_x, at_w in _products(window):
        terms[at_y].append(x.item(at_x) * w.item(at_w))
    if b is not None:
        for at in numpy.ndindex(*window.output_shape):
            terms[at].append(b.item(at[1]))
    y = _sums(window.output_shape, terms)
    for at in numpy.ndindex(*y.shape) if activation else ():
        y[at] = _activated(y.item(at), activation)
    return y


def _activated(y, activation):
    if math.isnan(y):
        return y
    if activation == "relu":
        return y if y > 0 else 0.0
    if activation == "gelu":
        return y * (0.5 * math.erfc(-y * math.sqrt(0.5)))
    return y * _sigmoid(y)


def _sigmoid(y):
    return 1 / (1 + math.exp(-y)) if y > -700 else 0.0


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


def conv_bias_grad(dy):
    """db [K]."""
    terms = collections.defaultdict(list)
    for at in numpy.ndindex(*dy.shape):
        terms[at[1:2]].append(dy.item(at))
    return _sums(dy.shape[1:2], terms)


def max_pool_forward(x, window, in_window=False):
    """y and indices [N, C, *output]."""
    y, indices = _largest(x, window.output_shape, _windows(window))
    if in_window:
        numbers = {(p, i): number for p, number, i in _taps(window)}
        for at in numpy.ndindex(*indices.shape):
            indices[at] = numbers[at[2:], indices.item(at)]
    return y, indices.astype("uint8") if in_window else indices


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


def pool_place(x, indices, size):
    """Zeros, but y[n,c,indices[n,c,p]] = x[n,c,p], p after p."""
    y = numpy.zeros((*x.shape[:2], *size))
    positions = list(numpy.ndindex(*size))
    for at in numpy.ndindex(*indices.shape):
        y[(*at[:2], *positions[indices.item(at)])] = x.item(at)
    return y


def max_pool_input_grad(dy, indices, window):
    """dx[n,c,indices[n,c,p]] += dy[n,c,p]."""
    if indices.dtype == numpy.uint8:
        positions = {(p, number): i for p, number, i in _taps(window)}
        indices = numpy.array([positions[at[2:], indices.item(at)] for at in numpy.ndindex(*indices.shape)], "int64")
        indices = indices.reshape(dy.shape)
    return pool_scatter(dy, indices, window.size)


def adaptive_max_pool_input_grad(dy, indices, size):
    """dx[n,c,indices[n,c,p]] += dy[n,c,p]."""
    return pool_scatter(dy, indices, size)


def batch_norm_statistics(x):
    """mean and biased variance [C]; NaN for channels without a value."""
    pairs = [_statistics(_channel(x, c)) for c in range(x.shape[1])]
    return tuple(numpy.array([pair[i] for pair in pairs]) for i in range(2))


def batch_norm_forward(x, mean, variance, w, b, eps, residual=None, relu=False):
    """y [N, C, *size]."""
    y = numpy.zeros(x.shape)
    for at in numpy.ndindex(*x.shape):
        c = at[1]
        h = (x.item(at) - mean.item(c)) / math.sqrt(variance.item(c) + eps)
        value = h * (1 if w is None else w.item(c)) + (0 if b is None else b.item(c))
        value += 0 if residual is None else residual.item(at)
        y[at] = 0 if relu and value <= 0 else value
    return y


def batch_norm_grad(dy, x, mean, variance, w, eps, y=None):
    """dx [N, C, *size], dw and db [C]; mean and variance are computed anew, from x. With y dresidual too."""
    if y is not None:
        dy = numpy.array([0 if v <= 0 else e for e, v in zip(dy.flat, y.flat, strict=True)]).reshape(x.shape)
    dx, dw, db = numpy.zeros(x.shape), numpy.zeros(x.shape[1]), numpy.zeros(x.shape[1])
    for c in range(x.shape[1]):
        places = [at for at in numpy.ndindex(*x.shape) if at[1] == c]
        _add_gradients(places, dy, x, w, eps, dx, dw, db)
    return (dx, dw, db) if y is None else (dx, dw, db, dy)


def batch_norm_weight_grad(dy, x, mean, variance, eps):
    """dw and db [C]."""
    dw, db = numpy.zeros(x.shape[1]), numpy.zeros(x.shape[1])
    for c in range(x.shape[1]):
        errors, root = _channel(dy, c), math.sqrt(variance.item(c) + eps)
        dw[c] = _sum([e * ((v - mean.item(c)) / root) for e, v in zip(errors, _channel(x, c), strict=True)])
        db[c] = _sum(errors)
    return dw, db


def group_norm_forward(x, groups, w, b, eps):
    """y [N, C, *size], mean and variance [N, groups]."""
    y, mean, variance = numpy.zeros(x.shape), numpy.zeros((x.shape[0], groups)), numpy.zeros((x.shape[0], groups))
    for n, group, places in _groups(x, groups):
        values = [x.item(at) for at in places]
        mean[n, group], variance[n, group] = _statistics(values)
        for at, h in zip(places, _normalised(values, eps), strict=True):
            y[at] = h.real * (1 if w is None else w.item(at[1])) + (0 if b is None else b.item(at[1]))
    return y, mean, variance


def group_norm_grad(dy, x, mean, variance, groups, w, eps):
    """dx [N, C, *size], dw and db [C]; mean and variance are computed anew, from x."""
    dx, dw, db = numpy.zeros(x.shape), numpy.zeros(x.shape[1]), numpy.zeros(x.shape[1])
    for _, _, places in _groups(x, groups):
        _add_gradients(places, dy, x, w, eps, dx, dw, db)
    return dx, dw, db


def _groups(x, groups):
    """(image, group, places of its elements) of every statistic of group norm."""
    members = x.shape[1] // groups
    for n, group in numpy.ndindex(x.shape[0], groups):
        yield n, group, [at for at in numpy.ndindex(*x.shape) if at[0] == n and at[1] // members == group]


def _add_gradients(places, dy, x, w, eps, dx, dw, db):
    """What the elements of one statistic get and give."""
    values, errors = [x.item(at) for at in places], [dy.item(at) for at in places]
    factors = [1 if w is None else w.item(at[1]) for at in places]
    for j, at in enumerate(places):
        moved = [v + (1j * _STEP if i == j else 0) for i, v in enumerate(values)]
        slopes = [h.imag / _STEP for h in _normalised(moved, eps)]
        dx[at] = _sum([f * e * slope for f, e, slope in zip(factors, errors, slopes, strict=True)])
    normalised = _normalised(values, eps)
    for c in sorted({at[1] for at in places}):
        mine = [(e, h.real) for e, h, at in zip(errors, normalised, places, strict=True) if at[1] == c]
        dw[c] += _sum([e * h for e, h in mine])
        db[c] += _sum([e for e, _ in mine])


def cross_entropy_forward(x, target, weight, ignore_index, label_smoothing):
    """loss and logsumexp [N, *size]."""
    loss, sums = numpy.zeros(target.shape), numpy.zeros(target.shape)
    for at in numpy.ndindex(*target.shape):
        scores = [x.item(at[0], c, *at[1:]) for c in range(x.shape[1])]
        sums[at] = _log_sum(scores).real
        if target.item(at) != ignore_index:
            loss[at] = _entropy(scores, target.item(at), weight, label_smoothing).real
    return loss, sums


def nll_forward(x, target, weight, ignore_index):
    """loss and factor [N, *size]."""
    loss, factor = numpy.zeros(target.shape), numpy.zeros(target.shape)
    for at in numpy.ndindex(*target.shape):
        c = target.item(at)
        if c != ignore_index:
            factor[at] = 1 if weight is None else weight.item(c)
            loss[at] = -factor[at] * x.item(at[0], c, *at[1:])
    return loss, factor


def cross_entropy_grad(dloss, x, logsumexp, target, weight, ignore_index, label_smoothing):
    """dx [N, C, *size]; logsumexp is computed anew, from x."""
    dx = numpy.zeros(x.shape)
    for at in numpy.ndindex(*x.shape):
        n, c, *place = at
        t = target.item(n, *place)
        scores = [x.item(n, i, *place) for i in range(x.shape[1])]
        if t == ignore_index:
            dx[at] = 0 * abs(_log_sum(scores))
            continue
        moved = [v + (1j * _STEP if i == c else 0) for i, v in enumerate(scores)]
        slope = _entropy(moved, t, weight, label_smoothing)
        dx[at] = dloss.item(n, *place) * (slope.imag / _STEP if math.isfinite(abs(_log_sum(scores))) else math.nan)
    return dx


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


def _log_sum(scores):
    """Logarithm of the sum of exponentials of real or complex scores."""
    largest = max((v.real for v in scores), default=-math.inf)
    if any(math.isnan(v.real) for v in scores) or largest == math.inf:
        return complex(math.nan)
    if largest == -math.inf:
        return complex(-math.inf)
    return largest + cmath.log(_sum([cmath.exp(v - largest) for v in scores]))


def _entropy(scores, t, weight, smoothing):
    """The loss of one position."""
    whole = _log_sum(scores)
    terms = [whole - v for v in scores]
    factors = [1 if weight is None else weight.item(c) for c in range(len(scores))]
    loss = factors[t] * terms[t]
    if smoothing:
        spread = sum(f * e for f, e in zip(factors, terms, strict=True))
        loss = (1 - smoothing) * loss + smoothing / len(scores) * spread
    return loss


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


def _taps(window):
    """Every output position, its taps that meet the input by their numbers, and where in the flattened input."""
    for p in numpy.ndindex(*window.output):
        for number, tap in enumerate(numpy.ndindex(*window.kernel)):
            if _inside(i := _meeting(window, p, tap), window.size):
                yield p, number, int(numpy.ravel_multi_index(i, window.size))


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
