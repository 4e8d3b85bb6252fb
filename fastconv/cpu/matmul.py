"""Matrix product on the CPU, on the micro-kernel of the convolutions: a 1x1 convolution is a matrix product.

The rows of `a` are the pixels and its columns the channels, so rows in order are a channels-last image and
columns in order a channels-first one: either is read where it lies, and only `b` is packed. Unlike that of a
threaded BLAS, the result does not depend on the number of threads.
"""

import numpy as np

from fastconv.cpu.conv_implicit_gemm import multiply
from fastconv.cpu.conv_patches import Sampling
from fastconv.cpu.layout import flat, narrowed

_ORIGIN = np.zeros(3, np.int64)
_FIRST_TAP = np.zeros(1, np.int64)


def matmul(a, b):
    """[..., M, L] @ [..., L, K], leading axes equal; see fastconv.backend."""
    if a.ndim == 2:
        return narrowed(_matmul(a, b), a)
    c = np.empty((*a.shape[:-1], b.shape[-1]), flat(a[:0]).dtype)
    for index in np.ndindex(a.shape[:-2]):
        c[index] = _matmul(a[index], b[index])
    return narrowed(c, a)


def _matmul(a, b):
    rows, length = a.shape
    columns = b.shape[1]
    by_columns = a.flags.f_contiguous and not a.flags.c_contiguous
    xs = flat(a.T if by_columns else a)
    transposed = b.flags.f_contiguous and not b.flags.c_contiguous
    strides = (0, length, 1) if transposed else (0, 1, columns)
    c = np.empty((columns, rows) if by_columns else (rows, columns), xs.dtype)
    if c.size:
        _multiply(xs, b.T if transposed else b, c.reshape(-1), (rows, length, columns), strides, not by_columns)
    return c.T if by_columns else c


def _multiply(xs, w, cs, shape, strides, last):
    rows, length, columns = shape
    line = (1, 1, rows)
    sampling = Sampling(1, 1, length, columns, 1, 1, line, line, line, (0, 0, 0), (1, 1, 1), (1, 1, 1))
    multiply(xs, w, xs[:0], cs, sampling, _ORIGIN, _FIRST_TAP, strides, last)
