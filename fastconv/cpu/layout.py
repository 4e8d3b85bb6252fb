"""What the kernels need arrays to be: native, dense, float32 or float64, in one of two memory formats.

Channels first is C-contiguous [N, C, *size]; channels last is [N, C, *size] whose memory is
[N, *size, C]. A result has the format of the input that it was computed from.
"""

import numpy

from fastconv import blocks
from fastconv.arrays import HALVES, accumulator, name_of


def is_channels_last(x):
    """Whether x [N, C, *size] is stored as [N, *size, C], and not as well channels first."""
    return not x.flags.c_contiguous and _last(x).flags.c_contiguous


def _last(x):
    """x [N, C, *size] as [N, *size, C]: numpy.moveaxis in a tenth of its time, which small calls notice."""
    return x.transpose(0, *range(2, x.ndim), 1)


def dense(x, channels_last):
    """The elements of x [N, C, *size] as a flat array in the given format, halves widened to float32.

    A view where x is already so, otherwise a copy.
    """
    ordered = _last(x) if channels_last else x
    return flat(ordered)


def flat(x):
    """The elements of x in C order as a flat native array, halves widened to float32."""
    dtype = x.dtype
    if dtype.itemsize == 2 and name_of(dtype) in HALVES:
        dtype = accumulator(dtype)
    elif not dtype.isnative:
        dtype = dtype.newbyteorder("=")
    if dtype is not x.dtype or not x.flags.c_contiguous:
        copy = blocks.empty(x.shape, dtype)
        copy[...] = x
        x = copy
    if not x.flags.writeable:  # Numba would compile every kernel once more for read-only arrays
        x = as_writeable(x)
    return x.reshape(-1)


def empty(shape, dtype, channels_last):
    """(y, flat): an unwritten array [N, C, *size] in the given format and its memory as a flat array."""
    if channels_last:
        memory = blocks.empty((shape[0], *shape[2:], shape[1]), dtype)
        return memory.transpose(0, -1, *range(1, memory.ndim - 1)), memory.reshape(-1)
    memory = blocks.empty(shape, dtype)
    return memory, memory.reshape(-1)


def narrowed(y, like):
    """y in the dtype of `like`, native: rounds once if that is a half."""
    dtype = like.dtype.newbyteorder("=")
    return y if y.dtype == dtype else y.astype(dtype)


def as_writeable(x):
    """A view of read-only memory that the type system takes for writeable; kernels never write inputs."""
    interface = dict(x.__array_interface__)
    interface["data"] = (interface["data"][0], False)
    holder = _Memory()
    holder.__array_interface__ = interface
    holder.owner = x
    return numpy.asarray(holder)


class _Memory:
    """Carries an array interface, and keeps the owner of the memory alive."""
