"""Tensors made from Python values and shapes."""

import numpy

from fastconv.arrays import describe, is_array, namespace_of, on_device_of
from fastconv.autograd import Tensor, raw
from fastconv.errors import DTypeError, ShapeError


def tensor(data, requires_grad=False, dtype=None):
    """A Tensor on an array, or from Python numbers.

    Args:
        data: NumPy or CuPy array, which is kept and not copied; or a number or nested lists of numbers, whose
            floats become float32 and ints int64, as in PyTorch.
        requires_grad: Whether backward() shall leave a gradient in its `grad`.
        dtype: Name of a dtype to convert to, or None to keep it.

    Returns:
        A Tensor.

    Raises:
        DTypeError: data is neither, or requires_grad is asked of an array that is not floating.
        ShapeError: Nested lists have uneven lengths.
    """
    if isinstance(data, Tensor):
        raise DTypeError("tensor", "data", "a Tensor", "an array or numbers", "use detach()")
    if not is_array(data):
        data = _from_numbers(data)
    if dtype is not None:
        with on_device_of(data):
            data = data.astype(dtype, copy=False)
    return Tensor(data, requires_grad)


def _from_numbers(data):
    if not isinstance(data, (bool, int, float, list, tuple, numpy.generic)):
        raise DTypeError("tensor", "data", describe(data), "an array, a number or nested lists of numbers")
    try:
        array = numpy.array(data)
    except ValueError as uneven:
        raise ShapeError("tensor", "data", describe(data), "nested lists of even lengths") from uneven
    if array.dtype.kind not in "biuf":
        raise DTypeError("tensor", "data", describe(data), "numbers")
    if isinstance(data, numpy.generic) or array.dtype.kind != "f":
        return array
    return array.astype("float32")


def zeros(*shape, dtype="float32", requires_grad=False):
    """A Tensor of zeros on the CPU.

    Args:
        shape: Ints, or one tuple of them.
        dtype: Name of the dtype.
        requires_grad: Whether backward() shall leave a gradient in its `grad`.

    Returns:
        A Tensor.
    """
    return Tensor(numpy.zeros(_shape(shape), dtype), requires_grad)


def ones(*shape, dtype="float32", requires_grad=False):
    """A Tensor of ones on the CPU.

    Args:
        shape: Ints, or one tuple of them.
        dtype: Name of the dtype.
        requires_grad: Whether backward() shall leave a gradient in its `grad`.

    Returns:
        A Tensor.
    """
    return Tensor(numpy.ones(_shape(shape), dtype), requires_grad)


def zeros_like(input):
    """A Tensor of zeros of the shape, dtype and device of input.

    Args:
        input: Tensor or array.

    Returns:
        A Tensor.

    Raises:
        DTypeError: input is no array.
    """
    return Tensor(_filled("zeros_like", input))


def ones_like(input):
    """A Tensor of ones of the shape, dtype and device of input.

    Args:
        input: Tensor or array.

    Returns:
        A Tensor.

    Raises:
        DTypeError: input is no array.
    """
    return Tensor(_filled("ones_like", input))


def _filled(operator, input):
    array = raw(input)
    if not is_array(array):
        raise DTypeError(operator, "input", describe(input), "a Tensor or array")
    with on_device_of(array):
        return getattr(namespace_of(array), operator)(array, order="K")


def _shape(shape):
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
