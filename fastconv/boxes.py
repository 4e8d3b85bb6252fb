"""What all backends have to agree on about boxes, to the last bit."""

import numpy


def rounded_down(threshold, dtype):
    """The largest number of a floating dtype that is not above a number.

    What is above the one is above the other, so that overlaps of the dtype need not be widened to be compared.

    Args:
        threshold: A float.
        dtype: float32 or float64.

    Returns:
        A scalar of the dtype.
    """
    with numpy.errstate(over="ignore"):
        number = dtype.type(threshold)
    return numpy.nextafter(number, dtype.type(-numpy.inf)) if float(number) > threshold else number
