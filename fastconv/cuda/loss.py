"""Cross-entropy on a GPU: rows of classes where these are innermost, planes of positions otherwise.

A class out of range is not refused, which would wait for the GPU: its loss and its gradient are NaN.
"""

import math

import numpy

from fastconv.arrays import accumulator, namespace_of
from fastconv.cuda.layout import dense, is_channels_last
from fastconv.cuda.runtime import launch


def cross_entropy_forward(x, target, weight, ignore_index, label_smoothing):
    """loss and logsumexp [N, *size]; see fastconv.backend."""
    with launch("cross_entropy_forward", x) as gpu:
        last = is_channels_last(x)
        x, target, weight = dense(gpu, x, last), dense(gpu, target), dense(gpu, weight)
        loss, logsumexp = (gpu.empty(target.shape, accumulator(x.dtype)) for _ in range(2))
        if loss.size:  # also without a class, which leaves logsumexp at -inf
            total = _sum_of(gpu, weight, label_smoothing)
            gpu.extension.cross_entropy_forward(
                gpu.dtype(x), _by_rows(x, last), gpu.read(x), gpu.read(target), gpu.read(weight), gpu.read(total),
                gpu.write(loss), gpu.write(logsumexp), *_problem(x), ignore_index, label_smoothing, gpu.stream,
            )  # fmt: skip
        return loss, logsumexp


def cross_entropy_grad(dloss, x, logsumexp, target, weight, ignore_index, label_smoothing):
    """dx [N, C, *size]; see fastconv.backend."""
    with launch("cross_entropy_grad", x) as gpu:
        last = is_channels_last(x)
        x, target, weight = dense(gpu, x, last), dense(gpu, target), dense(gpu, weight)
        dloss, logsumexp = dense(gpu, dloss), dense(gpu, logsumexp)
        dx = gpu.empty(x.shape, x.dtype, last)
        if x.size:
            total = _sum_of(gpu, weight, label_smoothing)
            gpu.extension.cross_entropy_grad(
                gpu.dtype(x), _by_rows(x, last), gpu.read(dloss), gpu.read(x), gpu.read(logsumexp),
                gpu.read(target), gpu.read(weight), gpu.read(total), gpu.write(dx),
                *_problem(x), ignore_index, label_smoothing, gpu.stream,
            )  # fmt: skip
        return dx


def nll_forward(x, target, weight, ignore_index):
    """loss and factor [N, *size] by the array's own module, as it only looks up elements; see fastconv.backend."""
    xp, wide, classes = namespace_of(x), accumulator(x.dtype), x.shape[1]
    counted = target != ignore_index
    wrong = counted & ((target < 0) | (target >= classes))
    factor = xp.where(wrong, math.nan, counted).astype(wide)
    if not classes:
        return factor.copy(), factor
    known = xp.where(counted & ~wrong, target, 0)
    if weight is not None:  # a factor that is no number counts where its class does alone
        factor = xp.where(counted & ~wrong, weight.astype(wide, copy=False)[known], factor)
    with numpy.errstate(all="ignore"):
        picked = xp.take_along_axis(x, xp.expand_dims(known, 1), axis=1).reshape(target.shape).astype(wide, copy=False)
        return xp.where(counted, -factor * picked, 0).astype(wide, copy=False), factor


def _by_rows(x, last):
    return last or math.prod(x.shape[2:]) == 1


def _problem(x):
    """Batch, classes and positions."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _sum_of(gpu, weight, label_smoothing):
    """[1], the sum of the factors of the classes, which smoothing alone asks for; otherwise None."""
    if weight is None or not label_smoothing:
        return None
    total = gpu.empty((1,), accumulator(weight.dtype))
    gpu.extension.cross_entropy_weight_sum(
        gpu.dtype(weight), gpu.read(weight), gpu.write(total), weight.size, gpu.stream
    )
    return total
