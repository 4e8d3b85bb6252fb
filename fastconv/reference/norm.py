"""Reference normalisation: batch norm over every axis but the channels, group norm over groups of one image's.

    m = N * positions,  mean[c] = sum of x / m,  variance[c] = sum of (x - mean)^2 / m       (biased)
    h = (x - mean) / sqrt(variance + eps),  y = w * h + b

    db = sum of dy,  dw = sum of dy * h
    dx = w / sqrt(variance + eps) * (dy - db / m - h * dw / m)

where dx goes through mean and variance, which are those of x itself. In group norm the means over dy and dy * h
are taken of w * dy, since w differs within a group. A ReLU on y lets dy through unless y <= 0.

RMS norm divides by the root of the mean of squares of a row, q = sqrt(sum of x^2 / m + eps), and subtracts nothing:

    y = w * x / q,  dw = sum of dy * x / q,  dx = (w * dy - x / q * sum of (w * dy * x / q) / m) / q

Sources: Ioffe & Szegedy, arXiv:1502.03167, section 3; Wu & He, arXiv:1803.08494; Zhang & Sennrich, arXiv:1910.07467.
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
def batch_norm_forward(x, mean, variance, w, b, eps, residual=None, relu=False):
    """y [N, C, *size] of x [N, C, *size] and mean, variance, w, b [C]; w, b and residual [N, C, *size] may be None."""
    y = _normalised(x, mean, variance, eps)
    if w is not None:
        y *= _spread(w, x)
    if b is not None:
        y += _spread(b, x)
    if residual is not None:
        y += residual.astype(numpy.float64, "C")
    if relu:
        y = numpy.where(y <= 0, 0, y)
    return _rounded(y, x)


@numpy.errstate(over="ignore", invalid="ignore", divide="ignore")
def batch_norm_grad(dy, x, mean, variance, w, eps, y=None):
    """dx [N, C, *size], dw [C] and db [C] of dy, x [N, C, *size] and mean, variance, w [C].

    w may be None, which stands for ones. With y [N, C, *size], the result of a ReLU, also the gradient of the
    residual: dy where y lets it pass. All have the dtype of dy.
    """
    wide_dy, h = dy.astype(numpy.float64, "C"), _normalised(x, mean, variance, eps)
    if y is not None:
        wide_dy = numpy.where(y.astype(numpy.float64, "C") <= 0, 0, wide_dy)
    m = x.size // x.shape[1] if x.shape[1] else 0
    db = wide_dy.sum(axis=_all_but_channels(x))
    dw = (wide_dy * h).sum(axis=_all_but_channels(x))
    scale = 1 / numpy.sqrt(variance.astype(numpy.float64, "C") + eps)
    if w is not None:
        scale *= w.astype(numpy.float64, "C")
    through_mean, through_variance = (_spread(d / numpy.float64(m), x) for d in (db, dw))
    dx = _spread(scale, x) * (wide_dy - through_mean - h * through_variance)
    results = (dx, dw, db) if y is None else (dx, dw, db, wide_dy)
    return tuple(_rounded(d, dy) for d in results)


@numpy.errstate(over="ignore", invalid="ignore", divide="ignore")
def batch_norm_weight_grad(dy, x, mean, variance, eps):
    """dw [C] and db [C] of dy, x [N, C, *size] and mean, variance [C]."""
    wide_dy, axes = dy.astype(numpy.float64, "C"), _all_but_channels(x)
    dw = (wide_dy * _normalised(x, mean, variance, eps)).sum(axis=axes)
    return _rounded(dw, dy), _rounded(wide_dy.sum(axis=axes), dy)


@numpy.errstate(over="ignore", invalid="ignore", divide="ignore")
def group_norm_forward(x, groups, w, b, eps):
    """y [N, C, *size], mean and biased variance [N, groups] of x [N, C, *size] and w, b [C], which may be None."""
    grouped = _grouped(x.astype(numpy.float64, "C"), groups)
    m = numpy.float64(grouped.shape[2])
    mean = grouped.sum(axis=2) / m
    variance = ((grouped - mean[..., None]) ** 2).sum(axis=2) / m
    y = ((grouped - mean[..., None]) / numpy.sqrt(variance + eps)[..., None]).reshape(x.shape)
    if w is not None:
        y *= _spread(w, x)
    if b is not None:
        y += _spread(b, x)
    return _rounded(y, x), mean.astype(accumulator(x.dtype)), variance.astype(accumulator(x.dtype))


@numpy.errstate(over="ignore", invalid="ignore", divide="ignore")
def group_norm_grad(dy, x, mean, variance, groups, w, eps, sums=True):
    """dx [N, C, *size], dw [C] and db [C] of dy, x [N, C, *size], mean, variance [N, groups] and w [C] or None.

    dw and db come without `sums` as well.
    """
    wide_dy, wide_x = (a.astype(numpy.float64, "C") for a in (dy, x))
    mean, variance = (a.astype(numpy.float64, "C")[..., None] for a in (mean, variance))
    inverse = 1 / numpy.sqrt(variance + eps)
    h = (_grouped(wide_x, groups) - mean) * inverse
    db = wide_dy.sum(axis=_all_but_channels(x))
    dw = (wide_dy * h.reshape(x.shape)).sum(axis=_all_but_channels(x))
    weighted = _grouped(wide_dy if w is None else wide_dy * _spread(w, x), groups)
    m = numpy.float64(weighted.shape[2])
    through_mean = weighted.sum(axis=2, keepdims=True) / m
    through_variance = (weighted * h).sum(axis=2, keepdims=True) / m
    dx = (inverse * (weighted - through_mean - h * through_variance)).reshape(x.shape)
    return tuple(_rounded(d, dy) for d in (dx, dw, db))


@numpy.errstate(over="ignore", invalid="ignore", divide="ignore")
def rms_norm_forward(x, w, eps):
    """y [rows, length] and mean of squares [rows] of x [rows, length] and w [length] or None."""
    wide = x.astype(numpy.float64, "C")
    square = (wide**2).sum(axis=1) / numpy.float64(x.shape[1])
    y = wide / numpy.sqrt(square + eps)[:, None]
    if w is not None:
        y *= w.astype(numpy.float64, "C")
    return _rounded(y, x), square.astype(accumulator(x.dtype))


@numpy.errstate(over="ignore", invalid="ignore", divide="ignore")
def rms_norm_input_grad(dy, x, square, w, eps):
    """dx [rows, length] of dy, x [rows, length], square [rows] and w [length] or None."""
    weighted, h = dy.astype(numpy.float64, "C"), _by_root(x, square, eps)
    if w is not None:
        weighted = weighted * w.astype(numpy.float64, "C")
    through_square = (weighted * h).sum(axis=1, keepdims=True) / numpy.float64(x.shape[1])
    return _rounded(_by_root(weighted - h * through_square, square, eps), dy)


@numpy.errstate(over="ignore", invalid="ignore", divide="ignore")
def rms_norm_weight_grad(dy, x, square, eps):
    """dw [length] of dy, x [rows, length] and square [rows]."""
    return _rounded((dy.astype(numpy.float64, "C") * _by_root(x, square, eps)).sum(axis=0), dy)


def _by_root(x, square, eps):
    """x / sqrt(square + eps) in float64."""
    return x.astype(numpy.float64, "C") / numpy.sqrt(square.astype(numpy.float64, "C") + eps)[:, None]


def _rounded(wide, like):
    """A result in the dtype of `like`, native in byte order."""
    return wide.astype(like.dtype.newbyteorder("="), "C")


def _grouped(x, groups):
    """x [N, C, *size] as [N, groups, values of a group]."""
    return x.reshape(x.shape[0], groups, x[:1].size // groups if x.shape[0] else 0)


def _normalised(x, mean, variance, eps):
    """(x - mean) / sqrt(variance + eps) in float64."""
    wide_variance = variance.astype(numpy.float64, "C")
    return (x.astype(numpy.float64, "C") - _spread(mean, x)) / numpy.sqrt(_spread(wide_variance, x) + eps)


def _spread(channels, x):
    """[C] as [C, 1, ...] in float64, to broadcast against x."""
    return channels.astype(numpy.float64, "C").reshape(-1, *(1,) * (x.ndim - 2))


def _all_but_channels(x):
    return (0, *range(2, x.ndim))
