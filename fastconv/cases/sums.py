"""Sums of the loops over single elements: exact before they are rounded once."""

import math

import numpy


def exact_sums(shape, terms):
    """An array of the sum of each element's terms; zero where there are none."""
    result = numpy.zeros(shape)
    for at, values in terms.items():
        result[at] = exact_sum(values)
    return result


def exact_sum(values):
    """The exact sum, rounded once; infinities and NaN as in arithmetic."""
    if any(isinstance(v, complex) for v in values):
        return complex(exact_sum([v.real for v in values]), exact_sum([v.imag for v in values]))
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
