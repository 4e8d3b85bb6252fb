"""Tensors made from Python values and shapes."""

import math

import numpy

from fastconv.arrays import describe, is_array, namespace_of, on_device_of
from fastconv.autograd import Tensor, raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.transfer import place


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


def zeros(*shape, dtype="float32", requires_grad=False, device=None):
    """A Tensor of zeros.

    Args:
        shape: Ints, or one tuple of them.
        dtype: Name of the dtype.
        requires_grad: Whether backward() shall leave a gradient in its `grad`.
        device: "cpu" or "cuda"; None is "cpu".

    Returns:
        A Tensor.
    """
    return Tensor(place(numpy.zeros(_shape(shape), dtype), device), requires_grad)


def ones(*shape, dtype="float32", requires_grad=False, device=None):
    """A Tensor of ones.

    Args:
        shape: Ints, or one tuple of them.
        dtype: Name of the dtype.
        requires_grad: Whether backward() shall leave a gradient in its `grad`.
        device: "cpu" or "cuda"; None is "cpu".

    Returns:
        A Tensor.
    """
    return Tensor(place(numpy.ones(_shape(shape), dtype), device), requires_grad)


def zeros_like(input, *, dtype=None, requires_grad=False, device=None):
    """A Tensor of zeros of the shape, dtype and device of input.

    Args:
        input: Tensor or array.
        dtype: Name of another dtype, or None.
        requires_grad: Whether backward() shall leave a gradient in its `grad`.
        device: Name of another device, or None.

    Returns:
        A Tensor.

    Raises:
        DTypeError: input is no array.
    """
    return Tensor(_filled("zeros_like", input, dtype, device), requires_grad)


def ones_like(input, *, dtype=None, requires_grad=False, device=None):
    """A Tensor of ones of the shape, dtype and device of input.

    Args:
        input: Tensor or array.
        dtype: Name of another dtype, or None.
        requires_grad: Whether backward() shall leave a gradient in its `grad`.
        device: Name of another device, or None.

    Returns:
        A Tensor.

    Raises:
        DTypeError: input is no array.
    """
    return Tensor(_filled("ones_like", input, dtype, device), requires_grad)


def full(size, fill_value, *, dtype=None, requires_grad=False, device=None):
    """A Tensor of one number, as torch.full.

    Args:
        size: The shape, an int or a sequence of ints.
        fill_value: The number.
        dtype: Name of the dtype; None is float32 for floats, int64 for ints and bool for bools.
        requires_grad: Whether backward() shall leave a gradient in its `grad`.
        device: "cpu" or "cuda"; None is "cpu".

    Returns:
        A Tensor.
    """
    dtype = _from_numbers(fill_value).dtype if dtype is None else dtype
    shape = size if isinstance(size, (tuple, list)) else (size,)
    return Tensor(place(numpy.full(shape, fill_value, dtype), device), requires_grad)


def full_like(input, fill_value, *, dtype=None, requires_grad=False, device=None):
    """A Tensor of one number of the shape, dtype and device of input, as torch.full_like.

    Args:
        input: Tensor or array.
        fill_value: The number.
        dtype: Name of another dtype, or None.
        requires_grad: Whether backward() shall leave a gradient in its `grad`.
        device: Name of another device, or None.

    Returns:
        A Tensor.

    Raises:
        DTypeError: input is no array.
    """
    array = _filled("zeros_like", input, dtype, device)
    with on_device_of(array):
        array[...] = fill_value
    return Tensor(array, requires_grad)


def arange(start, end=None, step=1, *, dtype=None, requires_grad=False, device=None):
    """Numbers from start up to but without end, as torch.arange.

    Args:
        start: The first; with nothing else the end, from 0 on.
        end: Where they stop.
        step: From one to the next, not 0.
        dtype: Name of the dtype; None is int64 for ints and float32 otherwise.
        requires_grad: Whether backward() shall leave a gradient in its `grad`.
        device: "cpu" or "cuda"; None is "cpu".

    Returns:
        A Tensor.

    Raises:
        ShapeError: step is 0, or leads away from end.
    """
    start, end = (0, start) if end is None else (start, end)
    if step == 0 or (end - start) * step < 0:
        raise ShapeError("arange", "step", step, f"a step that leads from {start} to {end}")
    if dtype is None:
        dtype = "int64" if all(isinstance(v, int) for v in (start, end, step)) else "float32"
    count = math.ceil((end - start) / step)
    values = numpy.arange(count) * step + start
    return Tensor(place(values.astype(dtype), device), requires_grad)


def _filled(operator, input, dtype=None, device=None):
    array = raw(input)
    if not is_array(array):
        raise DTypeError(operator, "input", describe(input), "a Tensor or array")
    with on_device_of(array):
        made = getattr(namespace_of(array), operator)(array, order="K")
        made = made if dtype is None else made.astype(dtype)
    return made if device is None else place(made, device)


def _shape(shape):
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
