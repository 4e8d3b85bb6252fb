"""Whether two libraries computed the same thing, by the error model of fastconv.tolerance.

The expected value is the peer's result, not the exact one, so that the error of both sides counts
against one bound: a peer that is inexact is reported as well as we are.
"""

from typing import NamedTuple

import numpy

from fastconv import tolerance

SUM_FACTOR = 4  # c of the model
_CHUNK = 1 << 20  # elements compared at a time, in float64


class Agreement(NamedTuple):
    """How far apart two results are.

    Attributes:
        agrees: Whether every element is within its bound.
        error: Largest |a - b| relative to sum |x||w|; inf where one is not finite or shapes differ.
    """

    agrees: bool
    error: float


def dtype_of(name):
    """The NumPy dtype of a name; bfloat16 is ml_dtypes's."""
    if name == "bfloat16":
        import ml_dtypes  # an extra

        return numpy.dtype(ml_dtypes.bfloat16)
    return numpy.dtype(name)


def compare(ours, peer, scale, length, dtype):
    """Compare every element of two results.

    Args:
        ours, peer: Arrays of one shape.
        scale: sum |x||w| of every element.
        length: Most products that one element sums.
        dtype: Name of the dtype that was computed in.

    Returns:
        The Agreement.
    """
    if ours.shape != peer.shape or scale.shape != peer.shape:
        return Agreement(False, float("inf"))
    worst, agrees = 0.0, True
    a, b, s = (array.reshape(-1) for array in (ours, peer, scale))
    for first in range(0, a.size, _CHUNK):
        part = slice(first, first + _CHUNK)
        x, y, z = (array[part].astype("float64") for array in (a, b, s))
        if not (numpy.isfinite(x).all() and numpy.isfinite(y).all()):
            return Agreement(False, float("inf"))
        difference = abs(x - y)
        agrees &= bool((difference <= tolerance.bound(y, z, length, dtype_of(dtype), SUM_FACTOR)).all())
        relative = numpy.divide(difference, z, out=numpy.where(difference > 0, numpy.inf, 0.0), where=z > 0)
        worst = max(worst, float(relative.max()))
    return Agreement(agrees, worst)
