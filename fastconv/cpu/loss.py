"""Cross-entropy on the CPU: scores are read from memory once, forward and back."""

import math

import numpy as np

from fastconv.arrays import accumulator
from fastconv.cpu import loss_kernels as kernels
from fastconv.cpu.layout import dense, empty, flat, is_channels_last, narrowed
from fastconv.cpu.storage import memory
from fastconv.cpu.threads import parallel_for
from fastconv.errors import ShapeError

_SPEED = 0.5  # elements in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread
_NANOSECONDS = 10  # of one class that is looked up, likewise


def cross_entropy_forward(x, target, weight, ignore_index, label_smoothing):
    """loss and logsumexp [N, *size]; see fastconv.backend."""
    loss, logsumexp = (np.zeros(target.shape, accumulator(x.dtype)) for _ in range(2))
    if loss.size and x.shape[1] == 0:
        logsumexp.fill(-np.inf)
        _check("cross_entropy", target, np.array([(target != ignore_index).any()]), 0, ignore_index)
    elif loss.size:
        last, tasks, sizes = _plan(x)
        xs, classes = dense(x, last), _classes(target)
        factors, faults = _factors(weight, x, xs.dtype), np.zeros(1, np.int64)
        run = kernels.forward_last if last else kernels.forward_first
        parallel_for(
            run, tasks, x.size / _SPEED, xs, classes, factors, np.array([label_smoothing], xs.dtype),
            loss.reshape(-1), logsumexp.reshape(-1), sizes, ignore_index, faults,
        )  # fmt: skip
        _check("cross_entropy", target, faults, x.shape[1], ignore_index)
    return loss, logsumexp


def cross_entropy_grad(dloss, x, logsumexp, target, weight, ignore_index, label_smoothing):
    """dx [N, C, *size]; see fastconv.backend."""
    last, tasks, sizes = _plan(x)
    xs = dense(x, last)
    dx, dxs = empty(x.shape, xs.dtype, last)
    if dx.size:
        factors, faults = _factors(weight, x, xs.dtype), np.zeros(1, np.int64)
        run = kernels.grad_last if last else kernels.grad_first
        parallel_for(
            run, tasks, x.size / _SPEED, flat(dloss), xs, flat(logsumexp), _classes(target), factors,
            np.array([label_smoothing], xs.dtype), dxs, sizes, ignore_index, faults,
        )  # fmt: skip
        _check("cross_entropy", target, faults, x.shape[1], ignore_index)
    elif dloss.size:
        _check("cross_entropy", target, np.array([(target != ignore_index).any()]), 0, ignore_index)
    return narrowed(dx, x)


def nll_forward(x, target, weight, ignore_index):
    """loss and factor [N, *size]; see fastconv.backend."""
    loss, factor = (np.zeros(target.shape, accumulator(x.dtype)) for _ in range(2))
    if loss.size and x.shape[1] == 0:
        _check("nll_loss", target, np.array([(target != ignore_index).any()]), 0, ignore_index)
    elif loss.size:
        classes, last, length = x.shape[1], is_channels_last(x), math.prod(x.shape[2:])
        if length == 1:  # rows of one position each are one image of as many positions
            last, images, length = True, 1, x.shape[0]
        else:
            images = x.shape[0]
        faults = np.zeros(1, np.int64)
        sizes = np.array((length, classes, *((classes, 1) if last else (1, length))), np.int64)
        parallel_for(
            kernels.nll, images * -(-length // kernels.POSITIONS), loss.size * _NANOSECONDS,
            memory(np.moveaxis(x, 1, -1) if last and x.ndim > 2 else x), _classes(target),
            _factors(weight, x, loss.dtype),
            loss.reshape(-1), factor.reshape(-1), sizes, ignore_index, faults,
        )  # fmt: skip
        _check("nll_loss", target, faults, classes, ignore_index)
    return loss, factor


def _plan(x):
    """Whether C is innermost, the number of tasks, and (positions, classes)."""
    length = math.prod(x.shape[2:])
    last = is_channels_last(x) or length == 1  # a plane of one position makes both formats the same
    block = kernels.ROWS if last else kernels.POSITIONS
    tasks = -(-x.shape[0] * length // block) if last else x.shape[0] * -(-length // block)
    return last, tasks, np.array((x.shape[0] * length if last else length, x.shape[1]), np.int64)


def _classes(target):
    return flat(target.astype(np.int64, copy=False))


def _factors(weight, x, dtype):
    return np.ones(x.shape[1], dtype) if weight is None else flat(weight)


def _check(name, target, faults, classes, ignore_index):
    if faults[0]:
        wrong = target[(target != ignore_index) & ((target < 0) | (target >= classes))]
        expected = f"0 to {classes - 1}, or ignore_index {ignore_index}"
        raise ShapeError(name, "target", f"class {int(wrong[0])}", expected)
