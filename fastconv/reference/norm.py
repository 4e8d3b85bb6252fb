"""Reference batch normalisation over every axis but the channels.

    m = N * positions,  mean[c] = sum of x / m,  variance[c] = sum of (x - mean)^2 / m       (biased)
    h = (x - mean) / sqrt(variance + eps),  y = w * h + b

    db = sum of dy,  dw = sum of dy * h
    dx = w / sqrt(variance + eps) * (dy - db / m - h * dw / m)

where dx goes through mean and variance, which are those of x itself.
Source: Ioffe & Szegedy, arXiv:1502.03167, section 3.
"""

import numpy

from fastconv.arrays import accumulator


@numpy.errstate(over="ignore", invalid="ignore", divide="ignore")
def batch_norm_statistics(x):
    """mean [C] and biased variance [C] of x [N, C, *size], float64 for float64 and float32 otherwise.

    Channels without an element have NaN for both, as 0 / 0.
    """
    wide, axes = x.astype(numpy.float64, "C"), _all_but_channels(x)
    m = x.size // x.shape[1] if x.shape[1] else 0
    mean = wide.sum(axis=axes) / numpy.float64(m)
    variance = ((wide - _spread(mean, x)) ** 2).sum(axis=axes) / numpy.float64(m)
    return mean.astype(accumulator(x.dtype)), variance.astype(accumulator(x.dtype))


@numpy.errstate(over="ignore", invalid="ignore", divide="ignore")
def batch_norm_forward(x, mean, variance, w, b, eps):
    """y [N, C, *size] of x [N, C, *size] and mean, variance, w, b [C]; w and b may be None."""
    y = _normalised(x, mean, variance, eps)
    if w is not None:
        y *= _spread(w, x)
    if b is not None:
        y += _spread(b, x)
    return y.astype(x.dtype.newbyteorder("="), "C")


@numpy.errstate(over="ignore", invalid="ignore", divide="ignore")
def batch_norm_grad(dy, x, mean, variance, w, eps):
    """dx [N, C, *size], dw [C] and db [C] of dy, x [N, C, *size] and mean, variance, w [C].

    All three have the dtype of dy; w may be None, which stands for ones.
    """
    wide_dy, h = dy.astype(numpy.float64, "C"), _normalised(x, mean, variance, eps)
    m = x.size // x.shape[1] if x.shape[1] else 0
    db = wide_dy.sum(axis=_all_but_channels(x))
    dw = (wide_dy * h).sum(axis=_all_but_channels(x))
    scale = 1 / numpy.sqrt(variance.astype(numpy.float64, "C") + eps)
    if w is not None:
        scale *= w.astype(numpy.float64, "C")
    through_mean, through_variance = (_spread(d / numpy.float64(m), x) for d in (db, dw))
    dx = _spread(scale, x) * (wide_dy - through_mean - h * through_variance)
    return tuple(d.astype(dy.dtype.newbyteorder("="), "C") for d in (dx, dw, db))


def _normalised(x, mean, variance, eps):
    """(x - mean) / sqrt(variance + eps) in float64."""
    wide_variance = variance.astype(numpy.float64, "C")
    return (x.astype(numpy.float64, "C") - _spread(mean, x)) / numpy.sqrt(_spread(wide_variance, x) + eps)


def _spread(channels, x):
    """[C] as [C, 1, ...] in float64, to broadcast against x."""
    return channels.astype(numpy.float64, "C").reshape(-1, *(1,) * (x.ndim - 2))


def _all_but_channels(x):
    return (0, *range(2, x.ndim))
