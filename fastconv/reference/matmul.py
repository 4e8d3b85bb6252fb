"""Reference matrix product: c[..., m, k] = sum over l of a[..., m, l] * b[..., l, k].

Source: the definition.
"""

import numpy


@numpy.errstate(over="ignore", invalid="ignore")
def matmul(a, b):
    """c [..., M, K] of a [..., M, L] and b [..., L, K], leading axes equal."""
    c = numpy.einsum("...ml,...lk->...mk", a.astype(numpy.float64, "C"), b.astype(numpy.float64, "C"))
    return c.astype(a.dtype.newbyteorder("="), "C")
