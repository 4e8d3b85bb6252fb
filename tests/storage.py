"""The same values stored in every way that an operator must cope with."""

import numpy


def storages(array):
    """(name, array equal to the given one) for every awkward way to store it; the contiguous one not included."""
    last = numpy.moveaxis(array, 1, -1) if array.ndim > 1 else array
    poison = -(2**62) if array.dtype.kind == "i" else numpy.nan  # whoever reads the gaps shall notice
    spread = numpy.full((*array.shape[:-1], 2 * array.shape[-1] + 1), poison, array.dtype)
    spread[..., 1::2] = array
    frozen = array.copy()
    frozen.flags.writeable = False
    yield "channels_last", numpy.moveaxis(numpy.ascontiguousarray(last), -1, 1) if array.ndim > 1 else last.copy()
    yield "fortran", numpy.array(array, order="F")
    yield "every_second", spread[..., 1::2]
    yield "backwards", array[..., ::-1].copy()[..., ::-1]
    yield "read_only", frozen
    if array.dtype.name != "bfloat16":  # ml_dtypes knows the native byte order only
        yield "byte_swapped", array.astype(array.dtype.newbyteorder())
