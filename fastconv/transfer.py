"""Arrays that change place: between the host and GPUs, and from other libraries. Only on request, never in silence."""

import importlib

import numpy

from fastconv.arrays import describe, device_of, is_array
from fastconv.errors import DeviceError, DTypeError, ShapeError

_CPU_KINDS = (1, 3)  # in DLPack: host memory, and host memory that CUDA has pinned
_CUDA = 2


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
    index = device_index(device)
    if device_of(array) == ("cpu" if index is None else f"cuda:{index}"):
        return array
    if index is None:
        return _in_memory_order(array, lambda dense: dense.get())
    to_device = _cuda(repr(device)).to_device
    return _in_memory_order(array, lambda dense: to_device(dense, index))


def _in_memory_order(array, copy):
    """copy(array) in the memory format of array, if its elements lie together in any order of its axes."""
    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    turned = array.transpose(order)
    if array.flags.c_contiguous or not turned.flags.c_contiguous:
        return copy(array)
    return copy(turned).transpose([order.index(axis) for axis in range(array.ndim)])


def device_index(device):
    """Number of the GPU that a name such as "cuda:1" names; None for "cpu".

    Raises:
        DTypeError: device is no string.
        ShapeError: device is no such name.
    """
    if not isinstance(device, str):
        raise DTypeError("to", "device", describe(device), '"cpu", "cuda" or "cuda:1"')
    kind, colon, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not index.isdecimal())):
        raise ShapeError("to", "device", repr(device), '"cpu", "cuda" or "cuda:1"')
    return None if kind == "cpu" else int(index or 0)


def asarray(value):
    """The array of another library as a NumPy or CuPy array on the same memory.

    DLPack is asked first, then __cuda_array_interface__. On a GPU the current CuPy stream is made to wait for
    what the other library has enqueued, as far as the protocol tells; the host waits for nothing. DLPack tells
    always, __cuda_array_interface__ where it names a stream.

    Args:
        value: A NumPy or CuPy array, which is returned as it is; or an object with __dlpack__ or
            __cuda_array_interface__, such as a tensor of PyTorch, JAX or Numba.

    Returns:
        A NumPy or CuPy array that shares the memory of value.

    Raises:
        DTypeError: value is none of these, or NumPy has no dtype for what it holds.
        DeviceError: value lives on a device that fastconv does not reach here.
    """
    if is_array(value):
        return value
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        kind = int(value.__dlpack_device__()[0])
        if kind in _CPU_KINDS:
            return _from_host(value)
        if kind != _CUDA:
            raise DeviceError("asarray", "value", f"DLPack device type {kind}", "memory of the host or of a CUDA GPU")
        return _cuda(describe(value)).from_dlpack(value)
    if hasattr(value, "__cuda_array_interface__"):
        return _cuda(describe(value)).from_cuda_array_interface(value)
    expected = "an array, or an object with __dlpack__ or __cuda_array_interface__"
    raise DTypeError("asarray", "value", describe(value), expected, "fastconv.tensor takes lists and numbers")


def _from_host(value):
    try:
        return numpy.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError) as refused:
        fix = "detach what requires a gradient; bfloat16 on the host: view it as int16 and that as ml_dtypes.bfloat16"
        raise DTypeError("asarray", "value", describe(value), f"what NumPy takes ({refused})", fix) from None


def _cuda(got):
    """The package fastconv.cuda, where CuPy can be imported."""
    try:
        importlib.import_module("cupy")
    except ImportError as missing:
        fix = "install CuPy to compute on a GPU: pip install fastconv[cuda13]"
        raise DeviceError("to", "device", got, '"cpu"', fix) from missing
    return importlib.import_module("fastconv.cuda.transfer")
