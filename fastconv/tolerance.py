"""The one error model that the tests, the benchmarks and the self-check share.

A result y that sums L products x * w may differ from the exact sum by

    eps_out * |y| + c * sqrt(L) * eps_acc * sum |x| |w|

element by element: eps_out is that of the dtype of y, eps_acc that of the dtype its sums are kept in,
and the last sum, the scale, is what the same operator gives for the absolute values of its arguments.
The first term covers rounding the result and the expected value to the dtype of y, half an eps each. Only
c is chosen by who calls; rounding errors of random sign grow as sqrt(L), so that it is a small number.
Source: Higham & Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41(5), 2019.
"""

import math

import numpy

from fastconv.arrays import accumulator, is_cupy


def bound(y, scale, length, dtype, c):
    """Largest error that each element of a result may have.

    Args:
        y: Expected result, in float64.
        scale: The operator's result for absolute values, in float64; shape of y or broadcast to it. Zero
            for an operator that only moves or compares elements.
        length: Most products that one element sums, L.
        dtype: Dtype of the result under test.
        c: Allowed multiple of the probable error of a sum.

    Returns:
        float64 array of the shape of y.
    """
    dtype = numpy.dtype(dtype)
    info = _finfo(dtype)
    # Below the least normal number the spacing no longer shrinks with |y|.
    magnitude = numpy.maximum(numpy.abs(_on_host(y)).astype(numpy.float64), float(info.smallest_normal))
    sums = numpy.sqrt(max(length, 1)) * float(_finfo(accumulator(dtype)).eps) * _on_host(scale).astype(numpy.float64)
    return float(info.eps) * magnitude + c * sums


def batch_norm_scales(dy, x, mean, variance, w, b, eps):
    """Scales of batch_norm_forward and batch_norm_grad, whose formulas do not just sum products.

    They are the formulas themselves with every difference made a sum of absolute values; the length that
    goes with them is the number of values a channel. The variance must be summed from differences from
    the mean: the scale leaves no room for the cancellation of mean(x * x) - mean * mean.

    Args:
        dy, x: [N, C, *size].
        mean, variance: [C], of x or running ones.
        w, b: [C] or None.
        eps: Added to the variance.

    Returns:
        Scales of y, dx, dw and db, in float64.
    """
    axes = (0, *range(2, x.ndim))
    count = max(x.size // x.shape[1], 1) if x.shape[1] else 1

    def spread(channels):
        return channels.reshape(-1, *(1,) * (x.ndim - 2))

    dy, x, mean, w, b = (
        numpy.abs(_on_host(a).astype(numpy.float64)) if a is not None else None for a in (dy, x, mean, w, b)
    )
    deviation = numpy.sqrt(_on_host(variance).astype(numpy.float64) + eps)
    centre = mean + x.sum(axis=axes) / count
    h = (x + spread(centre)) / spread(deviation)
    dw, db = (dy * h).sum(axis=axes), dy.sum(axis=axes)
    dx = (dy + spread(db / count) + h * spread(dw / count)) / spread(deviation)
    if w is not None:
        dx *= spread(w)
    y = h if w is None else h * spread(w)
    return y if b is None else y + spread(b), dx, dw, db


def group_norm_scales(dy, x, mean, variance, groups, w, b, eps):
    """Scales of group_norm_forward and group_norm_grad, made as those of batch norm.

    The length that goes with those of y and dx is the number of values of a group, with those of dw and db that of a
    channel.

    Args:
        dy, x: [N, C, *size].
        mean, variance: [N, groups], of x.
        groups: How many groups the channels are split into.
        w, b: [C] or None.
        eps: Added to the variance.

    Returns:
        Scales of y, dx, dw and db, in float64.
    """
    wide = [numpy.abs(_on_host(a).astype(numpy.float64)) if a is not None else None for a in (dy, x, mean, w, b)]
    dy, x, mean, w, b = wide
    shape = (x.shape[0], groups, max(x[:1].size // groups, 1) if x.size else 0)
    per_channel = (-1, *(1,) * (x.ndim - 2))
    deviation = numpy.sqrt(_on_host(variance).astype(numpy.float64) + eps)[..., None]
    centre = mean[..., None] + _means(x.reshape(shape))
    h = (x.reshape(shape) + centre) / deviation
    weighted = dy if w is None else dy * w.reshape(per_channel)
    weighted = weighted.reshape(shape)
    dx = (weighted + _means(weighted) + h * _means(weighted * h)) / deviation
    axes = (0, *range(2, x.ndim))
    h = h.reshape(x.shape)
    y = h if w is None else h * w.reshape(per_channel)
    y = y if b is None else y + b.reshape(per_channel)
    return y, dx.reshape(x.shape), (dy * h).sum(axis=axes), dy.sum(axis=axes)


def _means(values):
    """Over the last axis, kept; 0 for no values."""
    return values.sum(axis=-1, keepdims=True) / max(values.shape[-1], 1)


def cross_entropy_scales(x, target, weight, ignore_index, label_smoothing, dloss=None):
    """Scales of cross_entropy_forward and cross_entropy_grad, whose length is the number of classes.

    An exponential of x - m is off by as many units in the last place as its exponent has: that and every difference
    are made sums of absolute values. Infinities count as 0; results that they reach are no numbers, or exact.

    Args:
        x: Scores [N, C, *size].
        target, weight, ignore_index, label_smoothing: Of the operators.
        dloss: [N, *size], or None for ones.

    Returns:
        Scales of the loss, of logsumexp and of dx, in float64.
    """
    x, target = _on_host(x).astype(numpy.float64), _on_host(target)
    classes, lead = x.shape[1], (-1, *(1,) * (x.ndim - 2))
    size = numpy.where(numpy.isfinite(x), numpy.abs(x), 0)
    w = numpy.ones(classes) if weight is None else numpy.abs(_on_host(weight).astype(numpy.float64))
    largest = size.max(axis=1, initial=0)
    with numpy.errstate(all="ignore"):
        p = numpy.exp(x - x.max(axis=1, initial=-numpy.inf, keepdims=True))
        p = numpy.nan_to_num(p / p.sum(axis=1, keepdims=True))
    sums = 1 + math.log(max(classes, 1)) + 2 * largest
    counted = target != ignore_index
    hit = numpy.where(counted, w[numpy.where(counted, target, 0)], 0) * (1 - label_smoothing) if classes else 0 * sums
    even = counted * (label_smoothing / max(classes, 1))
    spread = (w.reshape(lead) * (sums[:, None] + size)).sum(axis=1)
    loss = hit * (sums + largest) + even * spread
    g = numpy.ones(target.shape) if dloss is None else numpy.abs(_on_host(dloss).astype(numpy.float64))
    is_class = numpy.arange(classes).reshape(lead) == target[:, None]
    k = hit[:, None] * is_class + even[:, None] * w.reshape(lead)
    dx = g[:, None] * (p * (sums[:, None] + size) * k.sum(axis=1, keepdims=True) + k)
    return loss, sums, dx


def assert_within(actual, expected, bound):
    """Compare every element of a result with what is expected.

    Args:
        actual: The result, an array of any dtype fastconv computes in.
        expected: The exact result; rounded to the dtype of actual before it is compared.
        bound: Largest error of each element, from bound(); shape of actual, or broadcast to it.

    Returns:
        The largest error as a fraction of its bound, 0.0 for no elements: what c may be tuned by.

    Raises:
        AssertionError: Shapes differ, an error exceeds its bound, or a NaN or an infinity stands on one
            side only. A bound that is itself no finite number allows nothing.
    """
    actual, expected = _on_host(actual), _on_host(expected)
    if actual.shape != expected.shape:
        raise AssertionError(f"shape {list(actual.shape)}, expected {list(expected.shape)}")
    with numpy.errstate(all="ignore"):
        rounded = expected.astype(actual.dtype).astype(numpy.float64)
        wide = actual.astype(numpy.float64)
        error = numpy.abs(wide - rounded)
        allowed = numpy.broadcast_to(bound, wide.shape)
        fine = numpy.isfinite(allowed) & (error <= allowed)
        finite = numpy.isfinite(rounded)
        # Equality holds for infinities of one sign; a NaN must meet a NaN.
        right = numpy.where(finite, fine, (wide == rounded) | (numpy.isnan(wide) & numpy.isnan(rounded)))
        if not right.all():
            raise AssertionError(_complaint(wide, rounded, allowed, right))
        ratio = numpy.where(finite & (error > 0), error / allowed, 0.0)
    return float(ratio.max(initial=0.0))


def _complaint(actual, expected, allowed, right):
    """How many elements are wrong, and the worst of them: not finite, or furthest beyond its bound."""
    excess = numpy.abs(actual - expected) / allowed
    excess = numpy.where(numpy.isnan(excess), numpy.inf, excess)
    at = numpy.unravel_index(numpy.argmax(numpy.where(right, -1.0, excess)), actual.shape)
    return (
        f"{int((~right).sum())} of {right.size} elements are wrong, worst {tuple(int(i) for i in at)}: "
        f"got {actual[at]!r}, expected {expected[at]!r} within {allowed[at]:.3g}"
    )


def _finfo(dtype):
    if dtype.name == "bfloat16":
        import ml_dtypes  # whoever has an array of this dtype has the module

        return ml_dtypes.finfo(dtype)
    return numpy.finfo(dtype)


def _on_host(array):
    return array.get() if is_cupy(array) else numpy.asarray(array)
