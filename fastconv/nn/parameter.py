"""Parameter: the tensor that a module learns; and the dtypes and devices that arrays of modules have."""

import importlib

import numpy

from fastconv.arrays import FLOATS, describe, device_of, is_cupy
from fastconv.autograd import Tensor, raw
from fastconv.errors import DeviceError, DTypeError, ShapeError


class Parameter(Tensor):
    """A Tensor that a Module registers as its own when it is assigned to an attribute.

    Args:
        data: NumPy or CuPy array, or a Tensor whose array is taken over.
        requires_grad: Whether backward() leaves a gradient in `grad`.

    Raises:
        DTypeError: data is no array, or requires_grad is asked of a dtype that is not floating.
    """

    __slots__ = ()

    def __init__(self, data, requires_grad=True):
        super().__init__(raw(data), requires_grad)

    def __repr__(self):
        return f"Parameter containing:\n{super().__repr__()}"

    def __reduce__(self):
        return Parameter, (self.data, self.requires_grad)


def new_parameter(shape, device, dtype):
    """A Parameter of zeros, for an init function to fill.

    Args:
        shape: Sizes of the axes.
        device: "cpu", "cuda" or "cuda:1"; None is "cpu".
        dtype: A floating dtype or its name; None is float32.

    Returns:
        The Parameter.

    Raises:
        DTypeError: dtype is not floating.
        DeviceError: There is no such device here.
    """
    return Parameter(place(numpy.zeros(shape, float_dtype("Parameter", dtype or "float32")), device))


def float_dtype(operator, value):
    """value as a numpy.dtype, refused unless fastconv computes in it.

    Raises:
        DTypeError: value names no floating dtype.
    """
    if value == "bfloat16":
        importlib.import_module("ml_dtypes")  # registers the name with NumPy
    try:
        dtype = numpy.dtype(value)
    except TypeError:
        raise DTypeError(operator, "dtype", describe(value), " or ".join(FLOATS)) from None
    if dtype.name not in FLOATS:
        raise DTypeError(operator, "dtype", dtype.name, " or ".join(FLOATS))
    return dtype


def place(array, device):
    """The array on a device: itself if it is there already, otherwise a copy.

    Args:
        array: NumPy or CuPy array.
        device: "cpu", "cuda" (the first GPU) or "cuda:1"; None leaves it where it is.

    Returns:
        A NumPy or CuPy array.

    Raises:
        DTypeError: device is no string.
        ShapeError: device is none of these names.
        DeviceError: fastconv cannot reach a GPU here.
    """
    if device is None:
        return array
    if not isinstance(device, str):
        raise DTypeError("to", "device", describe(device), '"cpu", "cuda" or "cuda:1"')
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()) or device == "cpu:":
        raise ShapeError("to", "device", repr(device), '"cpu", "cuda" or "cuda:1"')
    if kind == "cpu":
        return array.get() if is_cupy(array) else array
    wanted = f"cuda:{int(index or 0)}"
    if device_of(array) == wanted:
        return array
    try:
        cuda = importlib.import_module("fastconv.cuda")  # CuPy is imported there and nowhere else
        to_device = cuda.to_device
    except (ImportError, AttributeError):
        raise DeviceError("to", "device", repr(device), '"cpu"', "install CuPy to compute on a GPU") from None
    return to_device(array, int(index or 0))
