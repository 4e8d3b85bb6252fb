"""What fastconv needs to know of an array, found without importing CuPy or ml_dtypes.

An array is numpy.ndarray or cupy.ndarray; everything else is refused, never converted in silence.
"""

import contextlib
import functools
import sys

import numpy

from fastconv.errors import DTypeError

FLOATS = ("float16", "bfloat16", "float32", "float64")
HALVES = ("float16", "bfloat16")  # storage only: arithmetic on them is float32

_ANYWHERE = contextlib.nullcontext()
_SAMPLE = 4096  # elements of a large array that its fingerprint reads


def is_cupy(value):
    """Whether value is a CuPy array; False, at no cost, where CuPy was never imported."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)


def is_array(value):
    """Whether value is an array that fastconv computes on.

    numpy.ma is no such array: its mask would be lost without a word.
    """
    if isinstance(value, numpy.ndarray):
        return not isinstance(value, numpy.ma.MaskedArray)
    return is_cupy(value)


def device_of(array):
    """Name of the array's device: "cpu", or "cuda:0" and so on."""
    return f"cuda:{array.device.id}" if is_cupy(array) else "cpu"


def on_device_of(array):
    """A context in which the GPU of a CuPy array is current, for CuPy computes and allocates there and nowhere else."""
    return array.device if is_cupy(array) else _ANYWHERE


def namespace_of(array):
    """The array's own module, numpy or cupy: where elementwise functions come from."""
    return sys.modules["cupy"] if is_cupy(array) else numpy


@functools.cache  # NumPy takes microseconds to find it
def name_of(dtype):
    """Name of a dtype, the same for both byte orders."""
    return dtype.name


def describe(value):
    """A few words that name any value in an error message."""
    if is_array(value):
        return f"{value.dtype.name} {list(value.shape)}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


@functools.cache
def accumulator(dtype):
    """The dtype that sums over this dtype are kept in: float64 for float64, float32 otherwise."""
    return numpy.dtype("float64" if dtype.name == "float64" else "float32")


def is_float(array):
    """Whether the array's dtype can carry a gradient."""
    return array.dtype.kind == "f" or name_of(array.dtype) == "bfloat16"


def check_float(operator, argument, value):
    """Refuse whatever is no array of a floating dtype that fastconv computes in.

    Raises:
        DTypeError: value is no array, or of another dtype.
    """
    if not is_array(value):
        raise DTypeError(operator, argument, describe(value), "a NumPy or CuPy array")
    if name_of(value.dtype) not in FLOATS:
        raise DTypeError(operator, argument, value.dtype.name, " or ".join(FLOATS))


def check_same_dtype(operator, argument, value, like_argument, like):
    """Refuse a second array of another dtype: nothing is promoted in silence.

    Raises:
        DTypeError: The dtypes differ, or value is no floating array.
    """
    check_float(operator, argument, value)
    if name_of(value.dtype) != name_of(like.dtype):  # by name: a byte-swapped float32 is a float32
        raise DTypeError(
            operator,
            argument,
            value.dtype.name,
            f"{like.dtype.name}, the dtype of {like_argument}",
            f"convert one of them with .astype({like.dtype.name!r})",
        )


def fingerprint(array):
    """A number that tells whether the contents of a host array changed.

    Reads every element of an array of up to 4096, and 4096 spread over a larger one, so that it
    costs microseconds. A change of a few elements of a large array can pass unseen. Arrays on a
    GPU give None: reading them would wait for the stream.
    """
    if is_cupy(array):
        return None
    if array.size > _SAMPLE:
        # An odd step walks through all columns of a matrix, an even one might stay in a few.
        step = array.size // _SAMPLE | 1
        array = array.ravel(order="K")[::step] if is_dense(array) else array.flat[::step]
    return hash(array.tobytes())


def is_dense(array):
    """Whether the array fills its memory in some order of its axes, so that ravel(order="K") is a view."""
    strides = sorted(zip(array.strides, array.shape, strict=True))
    expected = array.itemsize
    for stride, size in strides:
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True
