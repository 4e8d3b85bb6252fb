"""Whether two libraries computed the same thing.

An element may differ by rounding, whose scale is sum |x||w| over the terms of that element, whatever
is left of it after cancellation. Each side may round its result once, and its sum a little:

    |a - b| <= 2 * eps_out * |b| + 32 * eps_acc * sum |x||w|

A single term left out of L shows as about 1 / L of the scale, far above that for every row here.
"""

from typing import NamedTuple

import numpy

_SUM_FACTOR = 32  # times eps: Winograd's transforms cost both libraries a digit
_CHUNK = 1 << 20  # elements compared at a time, in float64

_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


class Agreement(NamedTuple):
    """How far apart two results are.

    Attributes:
        agrees: Whether every element is within its bound.
        error: Largest |a - b| relative to sum |x||w|; inf where one is not finite or shapes differ.
    """

    agrees: bool
    error: float


def compare(ours, peer, scale, dtype):
    """Compare every element of two results.

    Args:
        ours, peer: Arrays of one shape.
        scale: sum |x||w| of every element.
        dtype: Name of the dtype that was computed in.

    Returns:
        The Agreement.
    """
    if ours.shape != peer.shape or scale.shape != peer.shape:
        return Agreement(False, float("inf"))
    eps_out = _EPS[dtype]
    eps_acc = _EPS["float64" if dtype == "float64" else "float32"]
    worst, agrees = 0.0, True
    a, b, s = (array.reshape(-1) for array in (ours, peer, scale))
    for first in range(0, a.size, _CHUNK):
        part = slice(first, first + _CHUNK)
        x, y, z = (array[part].astype("float64") for array in (a, b, s))
        if not (numpy.isfinite(x).all() and numpy.isfinite(y).all()):
            return Agreement(False, float("inf"))
        difference = abs(x - y)
        agrees &= bool((difference <= 2 * eps_out * abs(y) + _SUM_FACTOR * eps_acc * z).all())
        relative = numpy.divide(difference, z, out=numpy.where(difference > 0, numpy.inf, 0.0), where=z > 0)
        worst = max(worst, float(relative.max()))
    return Agreement(agrees, worst)
