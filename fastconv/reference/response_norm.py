"""Reference of local response normalisation.

    d[c] = k + alpha / size * sum of x[i]^2,   i from c - size // 2 to c + (size - 1) // 2, those that there are
    y[c] = x[c] / d[c]^beta

    dx[i] = dy[i] / d[i]^beta - 2 * alpha * beta / size * x[i] * sum of dy[c] * x[c] / d[c]^(beta + 1)

over all c that have i among their neighbours.
Source: Krizhevsky, Sutskever & Hinton, NeurIPS 2012, section 3.3.
"""

import numpy


@numpy.errstate(all="ignore")
def response_norm_forward(x, size, alpha, beta, k):
    """y of the shape of x [N, C, *size]."""
    wide = x.astype(numpy.float64, "C")
    return _rounded(wide / divisors(wide, size, alpha, k) ** beta, x)


@numpy.errstate(all="ignore")
def response_norm_input_grad(dy, x, size, alpha, beta, k):
    """dx of dy and x, both of one shape."""
    wide_dy, wide = dy.astype(numpy.float64, "C"), x.astype(numpy.float64, "C")
    d = divisors(wide, size, alpha, k)
    through = _window_sums(wide_dy * wide / d ** (beta + 1), (size - 1) // 2, size // 2)
    return _rounded(wide_dy / d**beta - 2 * alpha * beta / size * wide * through, dy)


def divisors(x, size, alpha, k):
    """d of the shape of x, float64."""
    return k + alpha / size * _window_sums(x * x, size // 2, (size - 1) // 2)


def _window_sums(values, before, after):
    """For each channel the sum over itself, so many before it and so many after it."""
    sums = numpy.empty_like(values)
    for c in range(values.shape[1]):
        sums[:, c] = values[:, max(c - before, 0) : c + after + 1].sum(axis=1)
    return sums


def _rounded(wide, like):
    return wide.astype(like.dtype.newbyteorder("="), "C")
