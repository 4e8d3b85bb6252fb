"""Elementwise functions, softmax, glu, prelu, normalize, RMS norm by single elements: see fastconv.cases.loops.

Where no slope is given it is that of a complex step, and infinity and NaN, at which formulas differ, are spelt out.
"""

import cmath
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy

__all__ = [
    "binary_forward",
    "binary_grad",
    "binary_sum",
    "glu_forward",
    "glu_input_grad",
    "normalize_forward",
    "normalize_grad",
    "prelu_forward",
    "prelu_grad",
    "response_norm_forward",
    "response_norm_input_grad",
    "rms_norm_forward",
    "rms_norm_input_grad",
    "rms_norm_weight_grad",
    "softmax_forward",
    "softmax_input_grad",
    "unary_forward",
    "unary_input_grad",
]

_STEP = 1e-30
_NAN, _INF = math.nan, math.inf


class _Curve(NamedTuple):
    """One function.

    Attributes:
        value: Function of (x, *parameters), complex x too where there is no slope.
        slope: Function of (v, *parameters), v being x or the result, whichever the operator reads; or None.
        at_infinity: Function of the parameters that gives value and slope at infinity.
        at_nan: Function of the parameters that gives the slope at NaN.
    """

    value: Callable
    slope: Callable | None = None
    at_infinity: Callable = lambda *parameters: (_INF, 1.0)
    at_nan: Callable = lambda *parameters: _NAN


def unary_forward(x, function, parameters):
    """y of the shape of x."""
    curve = _CURVES[function]

    def value(v):
        if math.isnan(v):
            return v
        return curve.at_infinity(*parameters)[0] if v == _INF else curve.value(v, *parameters)

    return _mapped(value, x)


def unary_input_grad(dy, v, function, parameters):
    """dx of the shape of v."""
    curve = _CURVES[function]

    def slope(v):
        if math.isnan(v):
            return curve.at_nan(*parameters)
        if v == _INF:
            return curve.at_infinity(*parameters)[1]
        if curve.slope is None:
            return curve.value(complex(v, _STEP), *parameters).imag / _STEP
        return curve.slope(v, *parameters)

    return _mapped(lambda d, v: d * slope(v), dy, v)


def binary_forward(a, b, function, parameters):
    """y of the shape of the operand that has axes."""
    value, _, _ = _PAIRS[function]
    return _mapped(lambda a, b: value(a, b, *parameters), *numpy.broadcast_arrays(a, b))


def binary_sum(a, b, function, parameters):
    """The sum of y."""
    return numpy.asarray(sum(binary_forward(a, b, function, parameters).ravel().tolist()))


def binary_grad(dy, a, b, function, parameters, operand):
    """The gradient of a or b, of its shape."""
    slope = _PAIRS[function]["ab".index(operand) + 1]
    return _mapped(lambda d, a, b: d * slope(a, b, *parameters), numpy.broadcast_to(dy, a.shape), a, b)


def softmax_forward(x, axis, log):
    """y of the shape of x."""
    y = numpy.empty_like(x)
    for at in _rows(x, axis):
        values = x[at].tolist()
        if any(math.isnan(v) or v == _INF for v in values):
            y[at] = _NAN
            continue
        largest = max(values, default=0.0)
        total = math.fsum(math.exp(v - largest) for v in values)
        y[at] = [v - largest - math.log(total) if log else math.exp(v - largest) / total for v in values]
    return y


def softmax_input_grad(dy, y, axis, log):
    """dx of the shape of y, by the matrix of derivatives."""
    dx = numpy.empty_like(y)
    for at in _rows(y, axis):
        d, values = dy[at].tolist(), y[at].tolist()
        if any(map(math.isnan, values)):
            dx[at] = _NAN
            continue
        shares = [math.exp(v) if log else v for v in values]
        for j, share in enumerate(shares):
            slopes = [(i == j) - share if log else values[i] * ((i == j) - share) for i in range(len(values))]
            dx[at][j] = math.fsum(a * b for a, b in zip(d, slopes, strict=True))
    return dx


def glu_forward(x, axis):
    """y of half the size of x on the axis."""
    a, b = numpy.split(x, 2, axis=axis)
    return _mapped(lambda a, b: a * _gate(b), a, b)


def glu_input_grad(dy, x, axis):
    """dx of the shape of x."""
    a, b = numpy.split(x, 2, axis=axis)
    da = _mapped(lambda d, b: d * _gate(b), dy, b)
    db = _mapped(lambda d, a, b: d * a * (_gate(b) * (1 - _gate(b))), dy, a, b)
    return numpy.concatenate([da, db], axis=axis)


def prelu_forward(x, w):
    """y of the shape of x."""
    y = numpy.empty_like(x)
    for at in numpy.ndindex(*x.shape):
        v = x.item(at)
        y[at] = v if v > 0 else v * _slope(w, at)
    return y


def prelu_grad(dy, x, w):
    """dx of the shape of x, dw of the shape of w."""
    dx, terms = numpy.empty_like(x), [[] for _ in range(w.size)]
    for at in numpy.ndindex(*x.shape):
        right = x.item(at) > 0
        dx[at] = dy.item(at) * (1 if right else _slope(w, at))
        if not right:
            terms[0 if w.size == 1 else at[1]].append(dy.item(at) * x.item(at))
    return dx, numpy.array([math.fsum(t) for t in terms]).reshape(w.shape)


def normalize_forward(x, axis, eps):
    """y of the shape of x."""
    y = numpy.empty_like(x)
    for at in _rows(x, axis):
        values = x[at].tolist()
        length = max(math.hypot(*values), eps) if not any(map(math.isnan, values)) else _NAN
        y[at] = [_NAN if abs(v) == length == _INF else v / length for v in values]
    return y


def normalize_grad(dy, x, axis, eps):
    """dx of the shape of x, by the matrix of derivatives."""
    dx = numpy.empty_like(x)
    for at in _rows(x, axis):
        d, values = dy[at].tolist(), x[at].tolist()
        if not all(map(math.isfinite, values)):
            dx[at] = _NAN
            continue
        length = math.hypot(*values)
        for j, v in enumerate(values):
            if length < eps:
                dx[at][j] = d[j] / eps
            else:
                slopes = [((i == j) - u * v / length**2) / length for i, u in enumerate(values)]
                dx[at][j] = math.fsum(a * b for a, b in zip(d, slopes, strict=True))
    return dx


def response_norm_forward(x, size, alpha, beta, k):
    """y of the shape of x."""
    y = numpy.empty_like(x)
    for at in _rows(x, 1):
        values = x[at].tolist()
        y[at] = [v / _base(values, c, size, alpha, k) ** beta for c, v in enumerate(values)]
    return y


def response_norm_input_grad(dy, x, size, alpha, beta, k):
    """dx of the shape of x, by the matrix of derivatives; by the formula where that is of infinity or NaN."""
    dx = numpy.empty_like(x)
    for at in _rows(x, 1):
        errors, values = dy[at].tolist(), x[at].tolist()
        bases = [_base(values, c, size, alpha, k) for c in range(len(values))]
        for j, v in enumerate(values):
            reached = [c for c in range(len(values)) if j - (size - 1) // 2 <= c <= j + size // 2]
            if all(math.isfinite(bases[c]) for c in reached):
                moved = [w + (1j * _STEP if i == j else 0) for i, w in enumerate(values)]
                slopes = [moved[c] / _base(moved, c, size, alpha, k) ** beta for c in reached]
                dx[at][j] = math.fsum(errors[c] * s.imag / _STEP for c, s in zip(reached, slopes, strict=True))
            else:
                through = sum(errors[c] * values[c] / bases[c] ** (beta + 1) for c in reached)
                dx[at][j] = errors[j] / bases[j] ** beta - 2 * alpha * beta / size * v * through
    return dx


def _base(values, c, size, alpha, k):
    neighbours = values[max(c - size // 2, 0) : c + (size - 1) // 2 + 1]
    return k + alpha / size * sum(v * v for v in neighbours)


def rms_norm_forward(x, w, eps):
    """y [rows, length] and the means of squares [rows]."""
    y, square = numpy.empty_like(x), numpy.empty(x.shape[0])
    for row, values in enumerate(x.tolist()):
        square[row] = _mean_square(values)
        factors = [1.0] * len(values) if w is None else w.tolist()
        y[row] = [v / math.sqrt(square[row] + eps) * f for v, f in zip(values, factors, strict=True)]
    return y, square


def rms_norm_input_grad(dy, x, square, w, eps):
    """dx [rows, length]; square is computed anew, from x."""
    dx = numpy.empty_like(x)
    for row, (errors, values) in enumerate(zip(dy.tolist(), x.tolist(), strict=True)):
        if not all(map(math.isfinite, values)):
            dx[row] = _NAN
            continue
        weighted = [e * (1.0 if w is None else w.item(c)) for c, e in enumerate(errors)]
        for j, value in enumerate(values):
            total = math.fsum(v * v for v in values) + 2j * _STEP * value
            root = cmath.sqrt(total / len(values) + eps)
            slopes = [((v + (1j * _STEP if i == j else 0)) / root).imag / _STEP for i, v in enumerate(values)]
            dx[row, j] = math.fsum(e * slope for e, slope in zip(weighted, slopes, strict=True))
    return dx


def rms_norm_weight_grad(dy, x, square, eps):
    """dw [length]; square is computed anew, from x."""
    dw = numpy.zeros(x.shape[1])
    roots = [math.sqrt(_mean_square(values) + eps) for values in x.tolist()]
    for c in range(x.shape[1]):
        terms = [dy.item(row, c) * (x.item(row, c) / root) for row, root in enumerate(roots)]
        dw[c] = math.fsum(terms) if all(map(math.isfinite, terms)) else sum(terms)
    return dw


def _mean_square(values):
    return sum(v * v for v in values) / len(values) if values else _NAN


def _gate(b):
    return b if math.isnan(b) else 1.0 if b == _INF else _logistic(b)


def _slope(w, at):
    return w.item(0 if w.size == 1 else at[1])


def _mapped(function, *arrays):
    values = [function(*v) for v in zip(*(a.ravel().tolist() for a in arrays), strict=True)]
    return numpy.array(values, numpy.float64).reshape(arrays[0].shape)


def _rows(x, axis):
    """An index for each row along the axis."""
    for at in numpy.ndindex(*x.shape[:axis], *x.shape[axis + 1 :]):
        yield (*at[:axis], slice(None), *at[axis:])


def _logistic(x):
    return 1 / (1 + cmath.exp(-x)) if isinstance(x, complex) else 1 / (1 + math.exp(-x))


def _log_sum(x):
    return cmath.log(1 + cmath.exp(x)) if isinstance(x, complex) else math.log1p(math.exp(x))


def _tanh(x):
    return cmath.tanh(x) if isinstance(x, complex) else math.tanh(x)


def _left(x):
    return (x.real if isinstance(x, complex) else x) <= 0


def _elu(x, alpha, scale, steepness):
    if not _left(x):
        return scale * x
    return scale * alpha * (cmath.exp(steepness * x) - 1 if isinstance(x, complex) else math.expm1(steepness * x))


def _gelu_tanh(x):
    return 0.5 * x * (1 + _tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _softplus(x, beta, threshold):
    return x if (x.real if isinstance(x, complex) else x) * beta > threshold else _log_sum(beta * x) / beta


def _tail(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _between(x, low, high):
    return min(max(x, low), high)


def _beyond(x, bound):
    return float(abs(x) > bound)


_CURVES = {
    "relu": _Curve(lambda x: max(x, 0.0), lambda y: float(y > 0), at_nan=lambda: 1.0),
    "hardtanh": _Curve(_between, lambda y, low, high: float(low < y < high), lambda low, high: (high, 0.0),
                       lambda *p: 1.0),
    "threshold": _Curve(lambda x, limit, value: x if x > limit else value, lambda x, limit, value: float(x > limit),
                        at_nan=lambda *p: 1.0),
    "leaky_relu": _Curve(lambda x, slope: x if x > 0 else slope * x, lambda x, slope: 1.0 if x > 0 else slope,
                         at_nan=lambda slope: slope),
    "elu": _Curve(_elu, None, lambda alpha, scale, steepness: (_INF, scale),
                  lambda alpha, scale, steepness: scale),
    "silu": _Curve(lambda x: x * _logistic(x), None, lambda: (_INF, _NAN)),
    "gelu": _Curve(lambda x: x * _tail(x), lambda x: _tail(x) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
                   lambda: (_INF, _NAN)),
    "gelu_tanh": _Curve(_gelu_tanh),
    "mish": _Curve(lambda x: x * _tanh(_log_sum(x)), None, lambda: (_INF, _NAN)),
    "softplus": _Curve(_softplus),
    "softsign": _Curve(lambda x: x / (1 + abs(x)), lambda x: (1 + abs(x)) ** -2, lambda: (_NAN, 0.0)),
    "hardsigmoid": _Curve(lambda x: _between(x / 6 + 0.5, 0, 1), lambda x: (abs(x) < 3) / 6, lambda: (1.0, 0.0),
                          lambda: 0.0),
    "hardswish": _Curve(lambda x: x * _between(x / 6 + 0.5, 0, 1),
                        lambda x: float(x > 0) if abs(x) >= 3 else x / 3 + 0.5, at_nan=lambda: 1.0),
    "logsigmoid": _Curve(lambda x: -_log_sum(-x), None, lambda: (0.0, 0.0)),
    "sigmoid": _Curve(_logistic, lambda y: y - y * y, lambda: (1.0, _NAN)),
    "tanh": _Curve(_tanh, lambda y: 1 - y * y, lambda: (1.0, _NAN)),
    "tanhshrink": _Curve(lambda x: x - _tanh(x), lambda x: math.tanh(x) ** 2),
    "softshrink": _Curve(lambda x, bound: math.copysign(max(abs(x) - bound, 0), x), _beyond, at_nan=lambda bound: 1.0),
    "hardshrink": _Curve(lambda x, bound: x if abs(x) > bound else 0.0, _beyond, at_nan=lambda bound: 1.0),
}  # fmt: skip


def _signum(d):
    return float(d > 0) - float(d < 0)


def _chosen(choose):
    return lambda a, b: _NAN if math.isnan(a) or math.isnan(b) else choose(a, b)


def _exp(x):
    return _INF if x > 700 else math.exp(x)


def _odds(z):
    return _NAN if z == -_INF or z != z else 1 / (1 + _exp(z))


def _soft_margin(a, b):
    return math.log1p(_exp(-a * b))


# Function of (a, b, *parameters), its slope along a, and that along b.
_PAIRS = {
    "add": (lambda a, b: a + b, None, None),
    "sub": (lambda a, b: a - b, None, None),
    "mul": (lambda a, b: a * b, None, None),
    "div": (lambda a, b: a / b, None, None),
    "maximum": (_chosen(max), None, None),
    "minimum": (_chosen(min), None, None),
    "square": (lambda a, b: (a - b) * (a - b), lambda a, b: 2 * a - 2 * b, lambda a, b: 2 * b - 2 * a),
    "absolute": (lambda a, b: abs(a - b), lambda a, b: _signum(a - b), lambda a, b: _signum(b - a)),
    "smooth_l1": (
        lambda a, b, beta: (a - b) ** 2 / (2 * beta) if abs(a - b) < beta else abs(a - b) - beta / 2,
        lambda a, b, beta: _between(a - b, -beta, beta) / beta,
        lambda a, b, beta: _between(b - a, -beta, beta) / beta,
    ),
    "huber": (
        lambda a, b, delta: (a - b) ** 2 / 2 if abs(a - b) < delta else delta * abs(a - b) - delta * delta / 2,
        lambda a, b, delta: _between(a - b, -delta, delta),
        lambda a, b, delta: _between(b - a, -delta, delta),
    ),
    "entropy": (
        lambda a, b: -b * math.log(a) - (1 - b) * math.log1p(-a),
        lambda a, b: (1 - b) / (1 - a) - b / a,
        lambda a, b: math.log((1 - a) / a),
    ),
    "entropy_of_logits": (
        lambda a, b: (1 - b) * a + math.log1p(_exp(-a)),
        lambda a, b: _gate(a) - b,
        lambda a, b: -a,
    ),
    "divergence": (
        lambda a, b: b * (math.log(b) - a),
        lambda a, b: -b,
        lambda a, b: math.log(b) + 1 - a,
    ),
    "divergence_of_logs": (
        lambda a, b: _exp(b) * (b - a),
        lambda a, b: -_exp(b),
        lambda a, b: _exp(b) + _exp(b) * (b - a),
    ),
    "poisson": (
        lambda a, b, eps: a - b * math.log(a + eps),
        lambda a, b, eps: (a + eps - b) / (a + eps),
        lambda a, b, eps: -math.log(a + eps),
    ),
    "poisson_of_logs": (lambda a, b: _exp(a) - b * a, lambda a, b: _exp(a) - b, lambda a, b: -a),
    "soft_margin": (_soft_margin, lambda a, b: -b * _odds(a * b), lambda a, b: -a * _odds(a * b)),
}
