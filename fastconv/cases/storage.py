"""The same values stored in every way that an operator must cope with."""

import numpy

# All but the contiguous and the channels-last one, which every problem is stored in, and the matrix's "transposed".
EVERY_STORAGE = (
    "mixed", "mixed_last", "fortran", "every_second", "backwards", "read_only", "byte_swapped", "misaligned",
    "broadcast",
)  # fmt: skip

# What each of a call's arrays is stored as, in turn, where it is not the same for all of them.
_MIXED = {
    "mixed": ("contiguous", "channels_last", "fortran"),
    "mixed_last": ("channels_last", "contiguous", "every_second"),
}


def stored(array, storage, position=0):
    """An array equal to the given one, stored otherwise.

    Args:
        array: C-contiguous NumPy array.
        storage: "contiguous", "channels_last", "fortran", "transposed", "every_second", "backwards",
            "read_only", "byte_swapped", "misaligned", "broadcast", "mixed" or "mixed_last".
        position: Which of the arrays of a call it is: the mixed ones give neighbours different storages.

    Returns:
        The array itself for "contiguous", otherwise a new one.
    """
    if storage in _MIXED:
        storage = _MIXED[storage][position % 3]
    return _STORAGES[storage](array)


def memory(array):
    """The bytes of the whole block of memory that an array is a view of, gaps included."""
    while isinstance(array.base, numpy.ndarray):
        array = array.base
    return array.tobytes()


def _contiguous(array):
    return array


def _channels_last(array):
    if array.ndim < 3:
        return array.copy()
    return numpy.moveaxis(numpy.ascontiguousarray(numpy.moveaxis(array, 1, -1)), -1, 1)


def _transposed(array):
    """The last two axes lie in memory the other way round: a matrix .T, or a batch of them."""
    if array.ndim < 2:
        return array.copy()
    return numpy.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)


def _every_second(array):
    poison = {"i": -(2**62), "u": 255}.get(array.dtype.kind, numpy.nan)  # whoever reads the gaps shall notice
    spread = numpy.full((*array.shape[:-1], 2 * array.shape[-1] + 1), poison, array.dtype)
    spread[..., 1::2] = array
    return spread[..., 1::2]


def _backwards(array):
    return array[..., ::-1].copy()[..., ::-1]


def _read_only(array):
    frozen = array.copy()
    frozen.flags.writeable = False
    return frozen


def _byte_swapped(array):
    return array.astype(array.dtype.newbyteorder())


def _misaligned(array):
    """One byte off, as a field of a packed record or an array in a mapped file may be."""
    block = numpy.zeros(array.nbytes + 1, numpy.uint8)
    shifted = block[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    return shifted


def _broadcast(array):
    """Stride 0 along the last axis, as the gradient of a sum has it; only for an array that is constant along it."""
    view = numpy.broadcast_to(array[..., :1].copy(), array.shape) if array.shape[-1:] != (0,) else array
    return view if numpy.array_equal(view, array) else array.copy()


_STORAGES = {
    "contiguous": _contiguous,
    "channels_last": _channels_last,
    "fortran": numpy.asfortranarray,
    "transposed": _transposed,
    "every_second": _every_second,
    "backwards": _backwards,
    "read_only": _read_only,
    "byte_swapped": _byte_swapped,
    "misaligned": _misaligned,
    "broadcast": _broadcast,
}
