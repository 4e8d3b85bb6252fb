"""Taking elements out of arrays and joining arrays, and the gradients of that."""

import itertools
import math

import numpy

from fastconv import backend, blocks
from fastconv.arrays import describe, is_array, is_cupy, is_dense, namespace_of
from fastconv.autograd import Tensor, is_grad_enabled, raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast
from fastconv.functional.operands import accumulator, array, as_axis, as_int, as_ints, result_dtype
from fastconv.functional.shape import moved, reshape, unsqueeze


def getitem(input, index):
    """input[index] with every index that NumPy knows; Tensors of integers or bools may be indices.

    Args:
        input: Tensor or array.
        index: Ints, slices, None, Ellipsis, arrays or Tensors of ints or bools, or a tuple of these.

    Returns:
        What NumPy gives; a Tensor for a Tensor. The gradient adds up, in the order of the index, where an
        element was taken twice. On a GPU, where nobody waits for the answer, what is out of range in an
        array of ints wraps around.

    Raises:
        ShapeError: The index is out of range or has too many parts.
        DTypeError: input is no array, or the index is of a type that indexes nothing.
        DeviceError: An index lives on another device.
    """
    x = array("getitem", "input", input)
    parts = tuple(raw(i) for i in index) if isinstance(index, tuple) else (raw(index),)
    picked = [i for i in parts if is_array(i)]
    backend.of(x, *picked)
    try:
        y = namespace_of(x).asarray(x[parts])
    except IndexError as refused:
        raise _refusal(x, str(refused)) from None
    except (TypeError, ValueError) as refused:
        raise DTypeError("getitem", "index", str(refused), "ints, slices, None, Ellipsis or arrays") from None
    shape = x.shape
    return moved("getitem", y, input, lambda dy: _scatter(dy, parts, shape), picked)


def _refusal(x, text):
    if "only integers" in text or "must be of integer" in text:
        return DTypeError("getitem", "index", text, "ints, slices, None, Ellipsis or arrays of ints or bools")
    return ShapeError("getitem", "index", text, f"an index of an array {list(x.shape)}")


def _scatter(dy, parts, shape):
    """An array of zeros with dy added at the index."""
    d = raw(dy)
    xp = namespace_of(d)
    if all(isinstance(i, slice) or i is None or i is Ellipsis or _takes_once(i) for i in parts):
        dx = xp.zeros(shape, d.dtype)
        dx[parts] = d
    elif is_cupy(d):  # whose add.at adds in whatever order threads arrive
        dx = scatter_by_position(d, parts, shape)
    else:
        wide = xp.zeros(shape, accumulator(d.dtype))
        xp.add.at(wide, parts, d)
        dx = wide.astype(d.dtype, copy=False)
    return record("getitem", dx, (dy,), lambda ddx, _: (lambda: getitem(ddx, parts),))


def _takes_once(part):
    """Whether one part of an index can take no element twice: an int, or an array of bools."""
    return part.dtype.kind == "b" or part.ndim == 0 if is_array(part) else not isinstance(part, (list, tuple))


def scatter_by_position(d, parts, shape):
    """The same as adding at an index, by the backend: equal positions add up in a fixed order."""
    xp = namespace_of(d)
    size = math.prod(shape)
    positions = xp.arange(size).reshape(shape)[parts].reshape(1, 1, -1)
    return backend.of(d).pool_scatter(d.reshape(1, 1, -1), positions, (size,)).reshape(shape)


def pick(input, indices, dim):
    """One element along an axis for each index.

    Args:
        input: Tensor or array.
        indices: Plain int64 array of its shape but for 1 along the axis; never changed later.
        dim: The axis, counted from 0.

    Returns:
        The shape of indices.
    """
    x = raw(input)
    length = x.shape[dim]
    y = namespace_of(x).take_along_axis(x, indices, axis=dim)
    return moved("pick", y, input, lambda dy: unpick(dy, indices, dim, length))


def unpick(dy, indices, dim, length):
    """Zeros, but for dy at the indices: the transpose of pick.

    Args:
        dy: Tensor or array of the shape of indices.
        indices, dim: Of pick.
        length: Size of the result's axis.
    """
    d = raw(dy)
    xp = namespace_of(d)
    shape = (*d.shape[:dim], length, *d.shape[dim + 1 :])
    dx = xp.zeros(shape, d.dtype)
    xp.put_along_axis(dx, indices, d, axis=dim)
    return moved("pick", dx, dy, lambda ddx: pick(ddx, indices, dim))


def cat(tensors, dim=0):
    """Arrays joined along an axis, as torch.cat.

    Args:
        tensors: A sequence of Tensors or arrays, equal in every other axis.
        dim: The axis.

    Returns:
        The joined shape, PyTorch's dtype of all; a Tensor if any is one.

    Raises:
        ShapeError: The sequence is empty, shapes disagree, or there is no such axis.
        DTypeError: One is no array.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    arrays = _sequence("cat", tensors)
    full = next((a for a in arrays if a.ndim > 1), None)
    if full is not None and any(a.shape == (0,) for a in arrays):  # which PyTorch takes beside any other
        axis = as_axis("cat", "dim", dim, full.ndim)
        none = (*full.shape[:axis], 0, *full.shape[axis + 1 :])
        return cat([reshape(t, none) if a.shape == (0,) else t for t, a in zip(tensors, arrays, strict=True)], axis)
    if arrays[0].ndim == 0:
        raise ShapeError("cat", "tensors", "an array without axes", "at least one axis", "use stack")
    axis = as_axis("cat", "dim", dim, arrays[0].ndim)
    rest = {(*a.shape[:axis], -1, *a.shape[axis + 1 :]) for a in arrays}
    if len(rest) > 1:
        shapes = " and ".join(str(list(s)) for s in dict.fromkeys(a.shape for a in arrays))
        raise ShapeError("cat", "tensors", shapes, f"shapes that differ along axis {axis} alone")
    dtype = result_dtype("cat", arrays)
    y = _concatenated([a.astype(dtype, copy=False) for a in arrays], axis)
    ends = list(itertools.accumulate(a.shape[axis] for a in arrays))
    dtypes = [a.dtype.newbyteorder("=") for a in arrays]

    def rule(dy, _):
        return tuple(
            lambda first=first, last=last, dtype=dtype: cast(_part(dy, axis, slice(first, last)), dtype)
            for first, last, dtype in zip([0, *ends[:-1]], ends, dtypes, strict=True)
        )

    return record("cat", y, tuple(tensors), rule)


def _concatenated(arrays, axis):
    """Arrays of one dtype joined, in memory that is used again where they are large, in the order of the first."""
    first, xp = arrays[0], namespace_of(arrays[0])
    if xp is not numpy or first.nbytes < blocks.LEAST or not is_dense(first) or 0 in first.strides:
        return xp.concatenate(arrays, axis=axis)  # of an axis that was inserted strides do not tell the order
    length = sum(a.shape[axis] for a in arrays)
    y = blocks.empty_like(first, (*first.shape[:axis], length, *first.shape[axis + 1 :]))
    return numpy.concatenate(arrays, axis=axis, out=y)


def _part(dy, axis, part):
    """What a slice of an axis leaves of a gradient; dense where it is not recorded, for several kernels read it."""
    index = (slice(None),) * axis + (part,)
    if is_grad_enabled() or is_cupy(raw(dy)) or raw(dy).nbytes < blocks.LEAST:
        return getitem(dy, index)
    view = raw(dy)[index]
    if is_dense(view):
        return Tensor(view)
    copy = blocks.empty_like(view)
    copy[...] = view
    return Tensor(copy)


def stack(tensors, dim=0):
    """Arrays of one shape joined along a new axis, as torch.stack.

    Args:
        tensors: A sequence of Tensors or arrays, equal in shape.
        dim: Where the new axis shall stand.

    Returns:
        The shape with the new axis, PyTorch's dtype of all; a Tensor if any is one.

    Raises:
        ShapeError: The sequence is empty, shapes differ, or dim is out of range.
        DTypeError: One is no array.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    arrays = _sequence("stack", tensors)
    shapes = dict.fromkeys(a.shape for a in arrays)
    if len(shapes) > 1:
        raise ShapeError("stack", "tensors", " and ".join(str(list(s)) for s in shapes), "one shape")
    axis = as_axis("stack", "dim", dim, arrays[0].ndim + 1)
    return cat([unsqueeze(t, axis) for t in tensors], axis)


def _sequence(operator, tensors):
    """The plain arrays of a sequence of Tensors or arrays on one device."""
    if not isinstance(tensors, (tuple, list)):
        raise DTypeError(operator, "tensors", describe(raw(tensors)), "a sequence of Tensors or arrays")
    if not tensors:
        raise ShapeError(operator, "tensors", "an empty sequence", "at least one Tensor or array")
    arrays = [array(operator, "tensors", t) for t in tensors]
    backend.of(*arrays)
    return arrays


def split(tensor, split_size_or_sections, dim=0):
    """Consecutive parts along an axis, as torch.split.

    Args:
        tensor: Tensor or array.
        split_size_or_sections: Size of each part, the last one may be smaller; or the sizes of all parts.
        dim: The axis.

    Returns:
        A tuple of parts, views; Tensors for a Tensor.

    Raises:
        ShapeError: The axis is out of range, or the sizes do not add up to its own.
        DTypeError: tensor is no array, or a size no int.
    """
    x = array("split", "tensor", tensor)
    axis = as_axis("split", "dim", dim, x.ndim)
    length = _length("split", "tensor", x, axis)
    if isinstance(split_size_or_sections, (tuple, list)):
        sizes = as_ints("split", "split_size_or_sections", (split_size_or_sections,))
    else:
        size = as_int("split", "split_size_or_sections", split_size_or_sections)
        if size < 1:
            raise ShapeError("split", "split_size_or_sections", size, "at least 1")
        sizes = tuple(min(size, length - start) for start in range(0, max(length, 1), size))
    if sum(sizes) != length or min(sizes, default=0) < 0:
        raise ShapeError("split", "split_size_or_sections", list(sizes), f"sizes that add up to {length}")
    lead, ends = (slice(None),) * axis, itertools.accumulate(sizes)
    return tuple(getitem(tensor, (*lead, slice(end - n, end))) for end, n in zip(ends, sizes, strict=True))


def chunk(input, chunks, dim=0):
    """At most so many parts of about equal size, as torch.chunk.

    Args:
        input: Tensor or array.
        chunks: How many, at least 1.
        dim: The axis.

    Returns:
        A tuple of parts, views; Tensors for a Tensor.

    Raises:
        ShapeError: The axis is out of range, or chunks below 1.
        DTypeError: input is no array, or chunks no int.
    """
    x = array("chunk", "input", input)
    count = as_int("chunk", "chunks", chunks)
    if count < 1:
        raise ShapeError("chunk", "chunks", count, "at least 1")
    length = _length("chunk", "input", x, as_axis("chunk", "dim", dim, x.ndim))
    if length == 0:
        return split(input, [0] * count, dim)
    return split(input, -(-length // count), dim)


def _length(operator, argument, x, axis):
    if x.ndim == 0:
        raise ShapeError(operator, argument, "an array without axes", "at least one axis")
    return x.shape[axis]
