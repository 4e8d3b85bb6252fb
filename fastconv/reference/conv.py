"""Reference convolution and its gradients, 1-D to 3-D.

    y[n,k,p]  = b[k] + sum over c, r of  x[n,c,i] * w[k,c,r], then the activation
    dx[n,c,i] = b[c] + sum over k, r of dy[n,k,p] * w[k,c,r]
    dw[k,c,r] =        sum over n, p of dy[n,k,p] * x[n,c,i]
    db[k]     =        sum over n, p of dy[n,k,p]

where output position p and tap r meet at input position i = p * stride - padding_before + r * dilation
on every axis, and k and c are of the same group. Meetings outside the input are left out of the sums, so
that an infinite weight over padding adds nothing. One pass of each loop below is one tap r.
Source: Dumoulin & Visin, arXiv:1603.07285; the activations: Hendrycks & Gimpel, arXiv:1606.08415.
"""

import math

import numpy

_erfc = numpy.vectorize(math.erfc, otypes=[float])

_ACTIVATIONS = {
    None: lambda y: y,
    "relu": lambda y: numpy.maximum(y, 0),
    "gelu": lambda y: 0.5 * y * _erfc(-y / math.sqrt(2)),
    "silu": lambda y: y / (1 + numpy.exp(-y)),
}


@numpy.errstate(over="ignore", invalid="ignore")
def conv_forward(x, w, b, window, activation=None):
    """y [N, K, *output] of x [N, C, *size], w [K, C // groups, *kernel] and b [K] or None."""
    wide_x, wide_w = _grouped(x, window, axis=1), _grouped(w, window, axis=0)
    y = numpy.zeros(_grouped_shape(window.output_shape, window))
    for tap in numpy.ndindex(*window.kernel):
        at_y, at_x = meetings(window, tap)
        y[at_y] += numpy.einsum("ngc...,gkc->ngk...", wide_x[at_x], wide_w[(..., *tap)])
    return _finish(y.reshape(window.output_shape), b, x, activation)


@numpy.errstate(over="ignore", invalid="ignore")
def conv_input_grad(dy, w, b, window):
    """dx [N, C, *size] of dy [N, K, *output], w [K, C // groups, *kernel] and b [C] or None."""
    wide_dy, wide_w = _grouped(dy, window, axis=1), _grouped(w, window, axis=0)
    dx = numpy.zeros(_grouped_shape(window.input_shape, window))
    for tap in numpy.ndindex(*window.kernel):
        at_y, at_x = meetings(window, tap)
        dx[at_x] += numpy.einsum("ngk...,gkc->ngc...", wide_dy[at_y], wide_w[(..., *tap)])
    return _finish(dx.reshape(window.input_shape), b, dy)


@numpy.errstate(over="ignore", invalid="ignore")
def conv_weight_grad(x, dy, window):
    """dw [K, C // groups, *kernel] of x [N, C, *size] and dy [N, K, *output]."""
    wide_x, wide_dy = _grouped(x, window, axis=1), _grouped(dy, window, axis=1)
    dw = numpy.zeros(window.weight_shape)
    for tap in numpy.ndindex(*window.kernel):
        at_y, at_x = meetings(window, tap)
        one_tap = numpy.einsum("ngkp,ngcp->gkc", _flat(wide_dy[at_y]), _flat(wide_x[at_x]))
        dw[(..., *tap)] = one_tap.reshape(window.weight_shape[:2])
    return _finish(dw, None, x)


@numpy.errstate(over="ignore", invalid="ignore")
def conv_bias_grad(dy):
    """db [K] of dy [N, K, *output]."""
    sums = dy.astype(numpy.float64, "C").sum(axis=(0, *range(2, dy.ndim)))
    return _finish(sums, None, dy)


def meetings(window, tap):
    """Where this tap meets the input: an index into the output, and the matching one into the input."""
    at_output, at_input = [], []
    for i in range(window.rank):
        stride = window.stride[i]
        offset = tap[i] * window.dilation[i] - window.padding[i][0]
        first = max(0, -(offset // stride))  # the least p with p * stride + offset >= 0
        last = min(window.output[i] - 1, (window.size[i] - 1 - offset) // stride)
        count = max(0, last - first + 1)
        start = first * stride + offset
        at_output.append(slice(first, first + count))
        at_input.append(slice(start, start + count * stride, stride))
    return (..., *at_output), (..., *at_input)


def _grouped_shape(shape, window):
    """[N, channels, *positions] -> [N, groups, channels // groups, *positions]."""
    return (shape[0], window.groups, shape[1] // window.groups, *shape[2:])


def _grouped(array, window, axis):
    """The array in float64 with its channels or filters, on this axis, split into groups."""
    split = (window.groups, array.shape[axis] // window.groups)
    return array.astype(numpy.float64, "C").reshape(*array.shape[:axis], *split, *array.shape[axis + 1 :])


def _flat(array):
    """[N, groups, channels, *positions] -> [N, groups, channels, positions]."""
    return array.reshape(*array.shape[:3], numpy.prod(array.shape[3:], dtype=int))


def _finish(sums, b, like, activation=None):
    """Add the bias [channels], apply the activation and round to the dtype of `like`, native in byte order."""
    if b is not None:
        sums += b.astype(numpy.float64, "C").reshape(-1, *(1,) * (sums.ndim - 2))
    return _ACTIVATIONS[activation](sums).astype(like.dtype.newbyteorder("="), "C")
