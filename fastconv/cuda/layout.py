"""How arrays lie in memory, and dense copies of those that lie otherwise.

Channels first is C order of [N, C, *size]; channels last is [N, C, *size] whose memory is [N, *size, C]. A result has
the format of the input that it was computed from.
"""

import math

import numpy

_AXES = 8  # of the copy kernel, once those that lie together are merged


def is_channels_last(x):
    """Whether x [N, C, *size] is stored as [N, *size, C], and not as well channels first."""
    if x.flags.c_contiguous or x.ndim < 3:
        return False
    order = (0, *range(2, x.ndim), 1)
    return _is_dense([x.shape[i] for i in order], [x.strides[i] for i in order], x.itemsize)


def dense(gpu, x, last=False):
    """The elements of x in native byte order, dense in C order, or with C innermost; x itself where it is so.

    Args:
        gpu: The Launch of the call.
        x: An array of any strides, or None, which is passed through.
        last: For [N, C, *size], whether C shall be innermost in memory.
    """
    if x is None:
        return None
    if not x.dtype.isnative or (x.size and _address(x) % x.itemsize):
        x = numpy.array(x, x.dtype.newbyteorder("="))  # NumPy alone has such arrays
    ordered = gpu.namespace.moveaxis(x, 1, -1) if last else x
    if not _is_dense(ordered.shape, ordered.strides, x.itemsize):
        ordered = _copied(gpu, ordered)
    return gpu.namespace.moveaxis(ordered, -1, 1) if last else ordered


def _copied(gpu, x):
    """A copy in C order."""
    y = gpu.empty(x.shape, x.dtype)
    if x.size:
        size, stride = _merged(x.shape, x.strides)
        _enqueue(gpu, gpu.read(x), gpu.write(y), size, tuple(s // x.itemsize for s in stride), x.itemsize)
    return y


def _enqueue(gpu, source, target, size, stride, itemsize):
    """Copy from one address to another; an axis more than the kernel has is a loop over copies."""
    if len(size) <= _AXES:
        gpu.extension.layout_copy(itemsize, source, target, size, stride, gpu.stream)
        return
    part = math.prod(size[1:]) * itemsize
    for i in range(size[0]):
        _enqueue(gpu, source + i * stride[0] * itemsize, target + i * part, size[1:], stride[1:], itemsize)


def _merged(shape, strides):
    """The same walk over memory with as few axes as possible."""
    size, stride = [], []
    for n, s in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if size and stride[-1] == n * s:
            size[-1], stride[-1] = size[-1] * n, s
        else:
            size.append(n)
            stride.append(s)
    return tuple(size), tuple(stride)


def _is_dense(shape, strides, itemsize):
    expected = itemsize
    for n, s in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and s != expected:
            return 0 in shape
        expected *= n
    return True


def _address(x):
    return x.ctypes.data if isinstance(x, numpy.ndarray) else x.data.ptr
