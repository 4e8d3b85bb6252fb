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


def assert_same(actual, expected, storage, what=""):
    """Equal bits for any storage; a few units in the last place where another memory format sums in another order."""
    if storage != "channels_last":
        numpy.testing.assert_array_equal(actual, expected, err_msg=f"{what} {storage}")
        return
    wide, largest = expected.astype("float64"), float(numpy.abs(expected.astype("float64")).max(initial=1.0))
    eps = 2.0**-7 if expected.dtype.name == "bfloat16" else float(numpy.finfo(expected.dtype).eps)
    numpy.testing.assert_allclose(actual.astype("float64"), wide, rtol=0, atol=4 * eps * largest, err_msg=what)
