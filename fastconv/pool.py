"""What functions and backends of max pooling share: where the elements of a window lie.

A maximum of a window of at most 256 elements is found again by its position in the flattened *kernel, a byte, where
one in the flattened *size takes eight.
"""

import numpy

from fastconv.arrays import namespace_of


def holds_elements(window):
    """Whether every window has a tap in the input: taps wider apart than it is large may step over it.

    Only windows that start before the input can do so: Window.pool makes none that start behind it.
    """
    rows = zip(window.size, window.stride, window.dilation, window.padding, window.output, strict=True)
    for size, stride, dilation, (before, _), count in rows:
        starts = range(-before, min(0, count * stride - before), stride)
        if any(start % dilation >= size for start in starts):  # the first tap not before the input is behind it
            return False
    return True


def in_plane(indices, window):
    """Indices of max_pool_forward of either kind as positions in the flattened *size.

    Args:
        indices: NumPy or CuPy array [N, C, *output], int64 as they are or uint8 in the flattened *kernel.
        window: The Window.

    Returns:
        int64 of that shape on that device; negative for what is no position in the kernel.
    """
    if indices.dtype != numpy.uint8:
        return indices
    first, offsets, step = numpy.int64(0), numpy.int64(0), 1
    for axis in reversed(range(window.rank)):
        starts = numpy.arange(window.output[axis]) * window.stride[axis] - window.padding[axis][0]
        first = numpy.add.outer(starts * step, first)
        offsets = numpy.add.outer(numpy.arange(window.kernel[axis]) * window.dilation[axis] * step, offsets)
        step *= window.size[axis]
    every = numpy.full(256, numpy.iinfo("int64").min // 2)
    every[: offsets.size] = offsets.ravel()
    xp = namespace_of(indices)
    return xp.asarray(every)[indices] + xp.asarray(first)
