"""Reference cross-entropy of unnormalised scores with classes.

For the scores x[c] of one position, its class t, factors w[c] of the classes and the share s of smoothing,

    lse  = log(sum over c of exp(x[c]))
    loss = (1 - s) * w[t] * (lse - x[t]) + s / C * sum over c of w[c] * (lse - x[c])

    p[c] = exp(x[c] - lse),  k[c] = (1 - s) * w[t] * (c == t) + s / C * w[c]
    dx[c] = dloss * (p[c] * sum of k - k[c])

Where the class is ignore_index, loss and dloss are 0. Without smoothing its term is left out: a score of -infinity
would make it NaN.
"""

import numpy

from fastconv.arrays import accumulator
from fastconv.errors import ShapeError


@numpy.errstate(all="ignore")
def cross_entropy_forward(x, target, weight, ignore_index, label_smoothing):
    """loss and logsumexp [N, *size] of x [N, C, *size], target int64 [N, *size] and weight [C] or None."""
    scores, counted, known, w = _checked(x, target, weight, ignore_index)
    largest = scores.max(axis=1, initial=-numpy.inf)
    shift = numpy.where(largest == -numpy.inf, 0, largest)
    logs = numpy.log(numpy.exp(scores - shift[:, None]).sum(axis=1))
    loss = numpy.zeros(target.shape)
    if x.shape[1]:
        entropies = (logs - (scores - shift[:, None]).swapaxes(0, 1)).swapaxes(0, 1)  # lse - x, without cancellation
        entropies = numpy.where((largest == -numpy.inf)[:, None], numpy.nan, entropies)
        loss = w[known] * numpy.take_along_axis(entropies, known[:, None], axis=1)[:, 0]
        if label_smoothing:
            spread = (entropies * w.reshape(-1, *(1,) * (x.ndim - 2))).sum(axis=1)
            loss = (1 - label_smoothing) * loss + label_smoothing / x.shape[1] * spread
        loss = numpy.where(counted, loss, 0)
    return loss.astype(accumulator(x.dtype)), (shift + logs).astype(accumulator(x.dtype))


@numpy.errstate(all="ignore")
def cross_entropy_grad(dloss, x, logsumexp, target, weight, ignore_index, label_smoothing):
    """dx [N, C, *size] of dloss, logsumexp and target [N, *size], x [N, C, *size] and weight [C] or None."""
    scores, counted, known, w = _checked(x, target, weight, ignore_index)
    k = numpy.zeros(scores.shape)
    if k.size:
        numpy.put_along_axis(k, known[:, None], (1 - label_smoothing) * w[known][:, None], axis=1)
        k += label_smoothing / x.shape[1] * w.reshape(-1, *(1,) * (x.ndim - 2))
    p = numpy.exp(scores - logsumexp.astype(numpy.float64, "C")[:, None])
    dloss = numpy.where(counted, dloss.astype(numpy.float64, "C"), 0)
    dx = dloss[:, None] * (p * k.sum(axis=1, keepdims=True) - k)
    return dx.astype(x.dtype.newbyteorder("="), "C")


@numpy.errstate(all="ignore")
def nll_forward(x, target, weight, ignore_index):
    """loss and factor [N, *size] of log-probabilities x [N, C, *size]."""
    logs, counted, known, w = _checked(x, target, weight, ignore_index)
    loss, factor = numpy.zeros(target.shape), numpy.zeros(target.shape)
    if x.shape[1]:
        factor = numpy.where(counted, w[known], 0)
        loss = numpy.where(counted, -w[known] * numpy.take_along_axis(logs, known[:, None], axis=1)[:, 0], 0)
    return loss.astype(accumulator(x.dtype)), factor.astype(accumulator(x.dtype))


def _checked(x, target, weight, ignore_index):
    """Scores in float64, which positions count, their classes (0 where they do not), and factors of the classes."""
    classes = x.shape[1]
    target = target.astype(numpy.int64, "C")
    counted = target != ignore_index
    wrong = target[counted & ((target < 0) | (target >= classes))]
    if wrong.size:
        expected = f"0 to {classes - 1}, or ignore_index {ignore_index}"
        raise ShapeError("cross_entropy", "target", f"class {int(wrong[0])}", expected)
    w = numpy.ones(classes) if weight is None else weight.astype(numpy.float64, "C")
    return x.astype(numpy.float64, "C"), counted, numpy.where(counted, target, 0), w
