"""Scales of the errors of resizing, elementwise functions, softmax, glu, prelu, normalize and RMS norm.

What a scale is: fastconv.tolerance.bound.
"""

import numpy

from fastconv import reference, resize
from fastconv.elementwise import FUNCTIONS
from fastconv.reference.resize import moved
from fastconv.reference.response_norm import divisors
from fastconv.tolerance import batch_norm_scales


def unary_forward_scale(x, function, parameters):
    """|y| + |x * dy/dx|: as if x and y were each rounded once; and |x| where x itself is subtracted."""
    y = reference.unary_forward(x, function, parameters)
    v = y if FUNCTIONS[function].reads == "output" else x
    with numpy.errstate(invalid="ignore"):
        moved = abs(x * reference.unary_input_grad(numpy.ones_like(x), v, function, parameters))
    scale = abs(y) + numpy.where(numpy.isfinite(moved), moved, 0)
    return scale + abs(x) if function == "tanhshrink" else scale


def unary_input_grad_scale(dy, v, function, parameters):
    """|dx| + |dy|: derivatives are sums of terms of about 1."""
    return abs(reference.unary_input_grad(dy, v, function, parameters)) + abs(dy)


_EXACT = ("add", "sub", "mul", "div", "maximum", "minimum", "square", "absolute", "smooth_l1", "huber")


@numpy.errstate(all="ignore")
def binary_forward_scale(a, b, function, parameters):
    """|y| of functions that round a few times; of exponentials and logarithms also their terms and arguments."""
    y = abs(reference.binary_forward(a, b, function, parameters))
    if function in _EXACT:
        return y
    size = _finite(a) + _finite(b)
    return y * (1 + size) + size + _finite(a) * _finite(b)


def binary_sum_scale(a, b, function, parameters):
    """The sum of those of the terms."""
    return binary_forward_scale(a, b, function, parameters).sum()


@numpy.errstate(all="ignore")
def binary_grad_scale(dy, a, b, function, parameters, operand):
    """|da| or |db|, and of exponentials and logarithms their terms and arguments."""
    grad = abs(reference.binary_grad(dy, a, b, function, parameters, operand))
    if function in _EXACT:
        return grad
    size = 1 + _finite(a) + _finite(b)
    return (grad + abs(dy) * (3 + size)) * size


def _finite(x):
    return numpy.where(numpy.isfinite(x), abs(x), 0)


@numpy.errstate(invalid="ignore")
def softmax_forward_scale(x, axis, log):
    """1 + |y| of the logarithm; otherwise y * (1 + |x - max|), the exponent being rounded before exp."""
    y = reference.softmax_forward(x, axis, log)
    if log:
        return 1 + abs(y)
    return y * (1 + abs(x - x.max(axis=axis, keepdims=True, initial=-numpy.inf)))


@numpy.errstate(invalid="ignore", over="ignore")
def softmax_input_grad_scale(dy, y, axis, log):
    """The formula with every difference made a sum."""
    if log:
        return abs(dy) + numpy.exp(y) * abs(dy).sum(axis=axis, keepdims=True)
    return y * (abs(dy) + (abs(dy) * y).sum(axis=axis, keepdims=True))


@numpy.errstate(invalid="ignore")
def glu_forward_scale(x, axis):
    """|y|: it sums nothing."""
    return abs(reference.glu_forward(x, axis))


@numpy.errstate(invalid="ignore", over="ignore")
def glu_input_grad_scale(dy, x, axis):
    """The formula with s - s * s made a sum."""
    a, b = numpy.split(x, 2, axis=axis)
    s = FUNCTIONS["sigmoid"].forward(numpy, b)
    return numpy.concatenate([abs(dy) * s, abs(dy) * abs(a) * s], axis=axis)


@numpy.errstate(invalid="ignore")
def prelu_forward_scale(x, w):
    """|y|: it sums nothing."""
    return abs(reference.prelu_forward(x, w))


def prelu_grad_scales(case, wide):
    """|dx|, and the sum of |dy * x| of a channel."""
    dy, x, w = wide
    with numpy.errstate(invalid="ignore"):
        dx, _ = reference.prelu_grad(dy, x, w)
        _, products = reference.prelu_grad(abs(dy), numpy.where(x > 0, 1, -abs(x)), w)
    return abs(dx), abs(products)


@numpy.errstate(invalid="ignore")
def normalize_forward_scale(x, axis, eps):
    """|y|: the length is as exact as its sum of squares."""
    return abs(reference.normalize_forward(x, axis, eps))


@numpy.errstate(invalid="ignore", divide="ignore", over="ignore")
def normalize_grad_scale(dy, x, axis, eps):
    """The formula with its difference made a sum."""
    length = numpy.maximum(numpy.sqrt((x * x).sum(axis=axis, keepdims=True)), eps)
    y = abs(x) / length
    return (abs(dy) + y * (abs(dy) * y).sum(axis=axis, keepdims=True)) / length


@numpy.errstate(invalid="ignore", over="ignore")
def rms_norm_forward_scales(case, wide):
    """|y|, and the mean of squares: sums of what is never negative."""
    y, square = reference.rms_norm_forward(*wide)
    return abs(y), square


@numpy.errstate(invalid="ignore", over="ignore", divide="ignore")
def rms_norm_input_grad_scale(dy, x, square, w, eps):
    """The formula with its difference made a sum."""
    root = numpy.sqrt(square + eps)[:, None]
    weighted, h = abs(dy if w is None else dy * w), abs(x) / root
    return (weighted + h * (weighted * h).sum(axis=1, keepdims=True) / max(x.shape[1], 1)) / root


@numpy.errstate(invalid="ignore", over="ignore")
def rms_norm_weight_grad_scale(dy, x, square, eps):
    """The sum of absolute values."""
    return reference.rms_norm_weight_grad(abs(dy), abs(x), square, eps)


@numpy.errstate(invalid="ignore", over="ignore")
def batch_norm_weight_grad_scales(case, wide):
    """Those of batch_norm_grad."""
    dy, x, mean, variance, eps = wide
    return batch_norm_scales(dy, x, mean, variance, None, None, eps)[2:]


@numpy.errstate(invalid="ignore", over="ignore")
def resize_forward_scale(x, output_size, *rule):
    """The sums of absolute products: shares may be negative."""
    y = abs(x.astype(numpy.float64))
    for at, axis in enumerate(resize.axes(x.shape[2:], tuple(output_size), *rule, x.dtype), 2):
        y = moved(y, _absolute(resize.taps(axis)), axis.output, at)
    return y


@numpy.errstate(invalid="ignore", over="ignore")
def resize_input_grad_scale(dy, size, *rule):
    """The same of the gradient."""
    dx = abs(dy.astype(numpy.float64))
    for at, axis in enumerate(resize.axes(tuple(size), dy.shape[2:], *rule, dy.dtype), 2):
        dx = moved(dx, _absolute(resize.taps(axis)).transposed(), axis.size, at)
    return dx


def _absolute(taps):
    return taps._replace(share=abs(taps.share))


def response_norm_forward_scale(x, size, alpha, beta, k):
    """|y|, times what a power makes of the error of its base."""
    return (1 + abs(beta)) * abs(reference.response_norm_forward(x, size, alpha, beta, k))


@numpy.errstate(all="ignore")
def response_norm_input_grad_scale(dy, x, size, alpha, beta, k):
    """The formula with its difference made a sum, times what a power makes of the error of its base."""
    direct = abs(dy) * divisors(x, size, alpha, k) ** -beta
    difference = reference.response_norm_input_grad(abs(dy), abs(x), size, alpha, beta, k)
    return (1 + abs(beta)) * (2 * direct - difference)
