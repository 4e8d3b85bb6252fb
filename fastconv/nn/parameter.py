"""Parameter: the tensor that a module learns; and the dtypes and devices that arrays of modules have."""

import importlib

import numpy

from fastconv.arrays import FLOATS, describe, namespace_of, on_device_of
from fastconv.autograd import Tensor, raw
from fastconv.errors import DTypeError
from fastconv.transfer import place


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
        return type(self), (self.data, self.requires_grad)


class Uninitialized:
    """What a parameter or buffer of a lazy module is until a first input tells its shape: empty, of [0].

    It becomes what `cls_to_become` names, and stays the same object, so that an optimiser may hold it already.
    """

    __slots__ = ()

    def materialize(self, shape):
        """Become zeros of this shape, on the same device and of the same dtype."""
        with on_device_of(self.data):
            self.data = namespace_of(self.data).zeros(tuple(shape), self.data.dtype)
        self.__class__ = self.cls_to_become


class UninitializedParameter(Uninitialized, Parameter):
    __slots__ = ()
    cls_to_become = Parameter


class UninitializedBuffer(Uninitialized, Tensor):
    __slots__ = ()
    cls_to_become = Tensor

    def __reduce__(self):
        return type(self), (self.data,)


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
