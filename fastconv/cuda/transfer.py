"""CuPy arrays from the host, from another GPU, and from other libraries, in the order of streams."""

import contextlib
import ctypes
import math

import cupy
import numpy

from fastconv.errors import DeviceError, DTypeError

_LEGACY, _PER_THREAD = 1, 2  # how __cuda_array_interface__ names the two default streams


def to_device(array, index):
    """A copy on a GPU of a NumPy array or of a CuPy array of another GPU.

    Raises:
        DeviceError: There is no such GPU, or no driver.
    """
    with _reachable(index):
        device = cupy.cuda.Device(index)
        if isinstance(array, numpy.ndarray):
            with device:
                return cupy.asarray(array, order="C")
        return _of_another_gpu(array, device)


def _of_another_gpu(array, device):
    """A copy on a GPU of a CuPy array of another one, in the order of both their current streams."""
    with array.device:  # CuPy copies nothing but contiguous memory from GPU to GPU
        dense = cupy.ascontiguousarray(array)
        source = cupy.cuda.get_current_stream()
        written = source.record()
    with device:
        target = cupy.cuda.get_current_stream()
        target.wait_event(written)
        y = cupy.array(dense)
        read = target.record()
    with array.device:  # before the pool gives the memory to what comes next on that stream
        source.wait_event(read)
    return y


def as_stored(array, index=0):
    """A copy on a GPU of a NumPy array with the same strides; native in byte order and aligned, as CuPy arrays are."""
    array = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    low, high = numpy.lib.array_utils.byte_bounds(array)
    block = numpy.frombuffer((ctypes.c_ubyte * (high - low)).from_address(low), numpy.uint8)
    memory = to_device(block, index).data
    return cupy.ndarray(array.shape, array.dtype, memory + (array.ctypes.data - low), array.strides)


def from_dlpack(value):
    """value on the same memory; its library makes the current stream wait for its own."""
    with _reachable(value.__dlpack_device__()[1]):
        try:
            return cupy.from_dlpack(value)
        except (BufferError, TypeError, ValueError) as refused:
            expected = f"what CuPy takes ({refused})"
            raise DTypeError("asarray", "value", type(value).__name__, expected, "detach it first") from None


def from_cuda_array_interface(value):
    """value on the same memory; the current stream waits for the stream that value names, if it names one."""
    interface = value.__cuda_array_interface__
    address, _ = interface["data"]
    dtype, shape, strides = numpy.dtype(interface["typestr"]), interface["shape"], interface.get("strides")
    if interface.get("mask") is not None:
        raise DTypeError("asarray", "value", "a masked array", "an array without a mask")
    if not dtype.isnative:
        raise DTypeError("asarray", "value", interface["typestr"], "an array of the machine's byte order")
    before, size = _extent(shape, strides, dtype.itemsize)
    if address == 0:  # how an array without elements may say that it has no memory
        return cupy.ndarray(shape, dtype)
    memory = cupy.cuda.UnownedMemory(address - before, size, value)
    array = cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, before), strides)
    stream = interface.get("stream")
    if stream is not None:
        handle = {_LEGACY: 0, _PER_THREAD: _PER_THREAD}.get(stream, stream)
        with array.device:
            _wait_for(cupy.cuda.Stream.from_external(_Stream(handle)))
    return array


class _Stream:
    """A stream of another library, by its handle."""

    def __init__(self, handle):
        self.handle = handle

    def __cuda_stream__(self):
        return 0, self.handle  # version of the protocol, handle


def _wait_for(producer):
    """Let the current stream wait for all that is enqueued on another one; the host goes on."""
    current = cupy.cuda.get_current_stream()
    if current.ptr != producer.ptr:
        current.wait_event(producer.record())


def _extent(shape, strides, itemsize):
    """(before, size): bytes that lie before the first element, and all from the lowest to the highest."""
    if 0 in shape:
        return 0, 0
    if strides is None:
        return 0, itemsize * math.prod(shape)
    steps = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    before = -sum(min(step, 0) for step in steps)
    return before, before + sum(max(step, 0) for step in steps) + itemsize


@contextlib.contextmanager
def _reachable(index):
    """Within the block, an error of the CUDA runtime is a DeviceError; out of memory stays CuPy's own."""
    try:
        yield
    except cupy.cuda.runtime.CUDARuntimeError as refused:
        fix = "`python -m fastconv info` lists the GPUs and what is wrong with them"
        raise DeviceError("to", "device", f"cuda:{index}", f"a GPU that CUDA reaches ({refused})", fix) from None
